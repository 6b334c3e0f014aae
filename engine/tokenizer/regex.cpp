#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer/regex.h"

#include <array>
#include <cstdint>
#include <utility>

#include <fmt/format.h>
#include <pcre2.h>

#include "engine/core/error.h"
#include "engine/tokenizer/unicode_ranges.h"

namespace llmrun {
namespace {

constexpr std::string_view kWhiteSpace =
    R"(\x09-\x0d\x20\x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// JIT code runs on 32 KiB of machine stack; patterns that need more get this once.
constexpr std::size_t kJitStackBytes = 16 << 20;

// Rewrites one pattern from left to right.
class PatternTranslator {
 public:
  PatternTranslator(std::string_view pattern, const std::string& place)
      : pattern_(pattern), place_(place) {}

  std::string translate() {
    while (position_ < pattern_.size()) {
      const char c = pattern_[position_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else {
        character(c);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: pattern not supported: {} at byte {}", place_, what, position_));
  }
  std::string_view rest() const { return pattern_.substr(position_); }
  void copy(std::size_t count) {
    out_ += pattern_.substr(position_, count);
    position_ += count;
  }

  void character(char c) {
    if (c == '[') {
      in_class_ = true;
      copy(rest().starts_with("[^") ? 2 : 1);
      if (rest().starts_with(']')) refuse("empty character class");
    } else if (c == '(') {
      group();
    } else if (c == '}' && rest().starts_with("}+")) {
      refuse("possessive interval");  // in Ruby syntax {n,m}+ repeats, in PCRE2 it is possessive
    } else {
      copy(1);
    }
  }

  void class_character(char c) {
    if (c == '[') refuse("nested character class");
    if (rest().starts_with("&&")) refuse("intersection of character classes");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    constexpr std::array<std::string_view, 7> kSupported = {
        "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:"};
    if (rest().starts_with("(*")) refuse("verb");
    if (!rest().starts_with("(?")) return copy(1);
    for (const std::string_view opening : kSupported) {
      if (rest().starts_with(opening)) return copy(opening.size());
    }
    refuse(fmt::format("group '{}'", rest().substr(0, 4)));
  }

  void escape() {
    if (position_ + 1 == pattern_.size()) refuse("lone backslash");
    const char c = pattern_[position_ + 1];
    if (c == 's' || c == 'S') {
      if (in_class_ && c == 'S') refuse("\\S in a character class");
      out_ += in_class_ ? std::string(kWhiteSpace)
                        : fmt::format("[{}{}]", c == 'S' ? "^" : "", kWhiteSpace);
      position_ += 2;
    } else if (c == 'u') {
      unicode_escape();
    } else if (c == 'd' || c == 'D') {
      position_ += 2;
      put_category("Nd", c == 'D');
    } else if (c == 'p' || c == 'P') {
      const std::size_t end = rest().find('}');
      if (!rest().substr(2).starts_with('{') || end == rest().npos) refuse("property without {}");
      const std::string_view category = rest().substr(3, end - 3);
      put_category(category, c == 'P');
      position_ += end + 1;
    } else if (c == 'x') {
      const bool braced = rest().substr(2).starts_with('{');
      const std::size_t end = braced ? rest().find('}') : 1;
      if (end == rest().npos) refuse("escape without '}'");
      copy(end + 1);
    } else {
      constexpr std::string_view kControls = "rntf";
      const bool is_literal = !is_alphanumeric(c) && static_cast<unsigned char>(c) < 0x80;
      const bool is_anchor = !in_class_ && (c == 'A' || c == 'z');
      if (!is_literal && !is_anchor && kControls.find(c) == kControls.npos) {
        refuse(fmt::format("escape '\\{}'", c));
      }
      copy(2);
    }
  }

  // A general category, with the code points that Hugging Face counts in and PCRE2 may not know.
  void put_category(std::string_view category, bool negated) {
    const auto later = later_code_points(category);
    if (!later) refuse(fmt::format("property '{}'", category));
    if (later->empty()) {
      out_ += fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', category);
      return;
    }
    if (in_class_ && negated) refuse("negated property in a character class");
    if (!in_class_) out_ += negated ? "[^" : "[";
    out_ += fmt::format("\\p{{{}}}", category);
    for (const auto& [first, last] : *later) {
      out_ += fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", static_cast<std::uint32_t>(first),
                          static_cast<std::uint32_t>(last));
    }
    if (!in_class_) out_ += ']';
  }

  void unicode_escape() {
    constexpr std::string_view kHex = "0123456789abcdefABCDEF";
    const std::string_view digits = pattern_.substr(position_ + 2, 4);
    if (digits.size() != 4 || digits.find_first_not_of(kHex) != digits.npos) refuse("escape '\\u'");
    out_ += fmt::format("\\x{{{}}}", digits);
    position_ += 6;
  }

  static bool is_alphanumeric(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  }

  std::string_view pattern_;
  const std::string& place_;
  std::string out_;
  std::size_t position_ = 0;
  bool in_class_ = false;
};

std::string pcre2_message(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

template <auto free_function>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    free_function(object);
  }
};
using CodePointer = std::unique_ptr<pcre2_code, Freer<pcre2_code_free>>;
using CompileContext = std::unique_ptr<pcre2_compile_context, Freer<pcre2_compile_context_free>>;
using MatchContext = std::unique_ptr<pcre2_match_context, Freer<pcre2_match_context_free>>;
using MatchData = std::unique_ptr<pcre2_match_data, Freer<pcre2_match_data_free>>;
using JitStack = std::unique_ptr<pcre2_jit_stack, Freer<pcre2_jit_stack_free>>;

}  // namespace

std::string translate_pattern(std::string_view pattern, const std::string& place) {
  return PatternTranslator(pattern, place).translate();
}

struct Regex::Code {
  CodePointer code;
  bool has_jit = false;
  std::string place;
};

Regex::Regex(std::string_view pattern, const std::string& place) : code_(new Code) {
  const std::string translated = translate_pattern(pattern, place);
  // In Ruby syntax ^ and $ are the ends of lines, and a line ends at a line feed.
  const CompileContext context(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                  translated.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                  &error, &offset, context.get()));
  if (!code_->code) {
    throw Error(ErrorKind::kModel, fmt::format("{}: bad pattern: {} at byte {} of {:?}", place,
                                               pcre2_message(error), offset, translated));
  }
  code_->has_jit = pcre2_jit_compile(code_->code.get(), PCRE2_JIT_COMPLETE) == 0;
  code_->place = place;
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

struct Regex::Scanner::State {
  MatchData match;
  MatchContext context;
  JitStack stack;
};

Regex::Scanner::Scanner(const Regex& regex) : regex_(&regex), state_(new State) {
  state_->match.reset(pcre2_match_data_create_from_pattern(regex.code_->code.get(), nullptr));
  state_->context.reset(pcre2_match_context_create(nullptr));
  if (!state_->match || !state_->context) throw std::bad_alloc();
}

Regex::Scanner::~Scanner() = default;

bool Regex::Scanner::find(std::string_view text, std::size_t from, std::size_t& begin,
                          std::size_t& end) {
  const auto* data = reinterpret_cast<PCRE2_SPTR>(text.data());
  const pcre2_code* code = regex_->code_->code.get();
  const auto match = [&](bool jit) {
    return jit ? pcre2_jit_match(code, data, text.size(), from, 0, state_->match.get(),
                                 state_->context.get())
               : pcre2_match(code, data, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                             state_->match.get(), state_->context.get());
  };
  int result = match(regex_->code_->has_jit);
  if (result == PCRE2_ERROR_JIT_STACKLIMIT && !state_->stack) {
    state_->stack.reset(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr));
    if (!state_->stack) throw std::bad_alloc();
    pcre2_jit_stack_assign(state_->context.get(), nullptr, state_->stack.get());
    result = match(true);
  }
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(false);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0) {
    throw Error(ErrorKind::kModel, fmt::format("{}: the pattern gives up at byte {} of a text: {}",
                                               regex_->code_->place, from, pcre2_message(result)));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(state_->match.get());
  begin = bounds[0];
  end = bounds[1];
  return true;
}

}  // namespace llmrun
