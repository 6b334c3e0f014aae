// The "normalizer" of a tokenizer.json: none, NFC, Prepend, Replace, or a Sequence of these.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace llmrun {

class Normalizer {
 public:
  Normalizer() = default;  // changes nothing
  // `place` names the value in errors. Throws Error(kModel) for a type that is not supported.
  Normalizer(const nlohmann::json& value, const std::string& place);

  // The normalized text: `text` itself when it is that already, else a view of `buffer`.
  // REQUIRES: text is UTF-8.
  std::string_view normalize(std::string_view text, std::string& buffer) const;

 private:
  struct Step {
    enum class Kind { kNfc, kPrepend, kReplace };
    Kind kind;
    std::string pattern;  // kReplace: what is replaced
    std::string content;  // kReplace: by what; kPrepend: what is put before text, unless empty
  };

  void add(const nlohmann::json& value, const std::string& place);

  std::vector<Step> steps_;
};

// True when canonical composition certainly leaves `text` as it is; false when that is not known.
bool is_surely_nfc(std::string_view text);

}  // namespace llmrun
