// Which number an answer ends in, as lm-evaluation-harness and OpenCompass find it, and whether it
// is the right one. The three rules give different scores for the same text; each is reported by
// its name.
//
// strict-match, flexible-extract (lm-eval, task gsm8k version 3): the first match of a pattern such
// as "#### (\-?[0-9\.\,]+)", and the last one of (-?[$0-9.,]{2,})|(-?[0-9]+); right when it equals
// the reference without case, "," , "$", all up to the last "#### ", and one final ".". So "18.00"
// and "18" differ, and a text that ends in "..." has the flexible answer "...".
// opencompass: what stands before "Question:", its last \-?\d+\.\d+|\-?\d+; right when it is the
// reference, or within 1e-6 of a whole one. So "1,234" has the answer 234.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/tokenizer/regex.h"

namespace llmrun {

// What stands before the number in a dataset's answer.
inline constexpr std::string_view kAnswerMarker = "#### ";

enum class ExtractionRule : std::uint8_t { kStrictMatch, kFlexibleExtract, kOpenCompass };
inline constexpr std::size_t kNumExtractionRules = 3;
inline constexpr std::array<ExtractionRule, kNumExtractionRules> kExtractionRules = {
    ExtractionRule::kStrictMatch, ExtractionRule::kFlexibleExtract, ExtractionRule::kOpenCompass};

// "strict-match", "flexible-extract", "opencompass".
const char* to_string(ExtractionRule rule);
// Nothing for any other name.
std::optional<ExtractionRule> extraction_rule_from(std::string_view name);

// What one rule makes of a text.
struct ExtractedAnswer {
  std::string text;    // as it stands there, "[invalid]" (lm-eval) or "NULL" (OpenCompass) for none
  std::string vote;    // what it counts as: equal votes are the same answer; empty for none
  bool right = false;  // it says what the reference says
};

class AnswerExtractor {
 public:
  // What strict-match looks for before the number: "#### " in gsm8k, "The answer is " in gsm8k_cot,
  // whose pattern also wants one character more behind the number.
  struct Strict {
    std::string_view prefix = kAnswerMarker;
    bool wants_character_behind = false;
  };

  explicit AnswerExtractor(const Strict& strict);

  // `answer` is the model's text, in UTF-8; `reference` the dataset's answer with its "#### N".
  ExtractedAnswer extract(ExtractionRule rule, std::string_view answer,
                          std::string_view reference) const;

 private:
  std::optional<std::string> strict_match(std::string_view answer) const;

  Strict strict_;
  Regex strict_pattern_;
  Regex flexible_pattern_;
  Regex opencompass_pattern_;
};

// Whether a dataset's answer ends as GSM8K's do, in "#### " and a number.
bool has_final_number(std::string_view reference);

}  // namespace llmrun
