// A regular expression of a tokenizer.json, matched by PCRE2 with JIT as Oniguruma (Ruby syntax),
// the engine of Hugging Face's tokenizers, matches it.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace llmrun {

// `pattern`, in Oniguruma's Ruby syntax, for PCRE2: \s and \S become the White_Space property,
// since PCRE2's \s also holds U+180E; \uHHHH becomes \x{HHHH}. Throws Error(kModel) that begins
// with `place` for constructs the two engines read differently.
std::string translate_pattern(std::string_view pattern, const std::string& place);

class Regex {
 public:
  // Throws Error(kModel) that begins with `place` when the pattern is malformed or not supported.
  Regex(std::string_view pattern, const std::string& place);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // Finds the matches in one text. One scanner belongs to one thread; the expression is shared.
  class Scanner {
   public:
    explicit Scanner(const Regex& regex);
    ~Scanner();
    Scanner(const Scanner&) = delete;
    Scanner& operator=(const Scanner&) = delete;

    // The first match in `text` that begins at or after `from`; false when there is none. REQUIRES:
    // `text` is UTF-8 and `from` the beginning of a character or the end. Throws Error(kModel)
    // when the pattern backtracks without end.
    bool find(std::string_view text, std::size_t from, std::size_t& begin, std::size_t& end);

   private:
    struct State;
    const Regex* regex_;
    std::unique_ptr<State> state_;
  };

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace llmrun
