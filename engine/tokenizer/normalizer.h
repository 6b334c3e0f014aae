// The "normalizer" of a tokenizer.json: none, NFC, NFD, NFKC, NFKD, Lowercase, StripAccents,
// Prepend, Replace, Strip, Precompiled, or a Sequence of these.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/tokenizer/character_map.h"
#include "engine/tokenizer/regex.h"
#include "engine/tokenizer/unicode_normalization.h"

namespace llmrun {

class JsonObject;

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
    enum class Kind {
      kNormalForm,
      kLowercase,
      kStripAccents,
      kPrepend,
      kReplace,
      kReplaceRegex,
      kStrip,
      kCharacterMap
    };
    Kind kind;
    NormalForm form = NormalForm::kNfc;
    std::string pattern{};  // kReplace: what is replaced
    std::string content{};  // kReplace: by what; kPrepend: what is put before text, unless empty
    bool strip_left = false;
    bool strip_right = false;
    std::shared_ptr<const Regex> regex{};  // kReplaceRegex
    std::shared_ptr<const CharacterMap> map{};
  };

  void add_replace(const JsonObject& object);
  void add(const nlohmann::json& value, const std::string& place);

  std::vector<Step> steps_;
};

}  // namespace llmrun
