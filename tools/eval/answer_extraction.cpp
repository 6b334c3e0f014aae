#include "tools/eval/answer_extraction.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

namespace llmrun {
namespace {

constexpr std::string_view kSpace = " \t\r\n\v\f";

constexpr std::array<std::pair<ExtractionRule, const char*>, kNumExtractionRules> kRuleNames = {{
    {ExtractionRule::kStrictMatch, "strict-match"},
    {ExtractionRule::kFlexibleExtract, "flexible-extract"},
    {ExtractionRule::kOpenCompass, "opencompass"},
}};

std::string_view stripped(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string without(std::string_view text, std::string_view characters) {
  std::string kept;
  for (const char c : text) {
    if (characters.find(c) == characters.npos) kept += c;
  }
  return kept;
}

// The metric exact_match of lm-eval's task, with its regexes_to_ignore and ignore_case.
std::string normalized(std::string_view text) {
  std::string result = without(text, ",$");
  if (const std::size_t marker = result.rfind(kAnswerMarker); marker != result.npos) {
    result.erase(0, marker + kAnswerMarker.size());
  }
  if (result.ends_with('.')) result.pop_back();
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

std::optional<std::string_view> last_match(const Regex& pattern, std::string_view text) {
  Regex::Scanner scanner(pattern);
  std::optional<std::string_view> last;
  std::size_t begin = 0;
  std::size_t end = 0;
  for (std::size_t from = 0; scanner.find(text, from, begin, end); from = end) {
    last = text.substr(begin, end - begin);
  }
  return last;
}

// The whole of `text` as a number.
std::optional<double> to_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_whole(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// What stands behind the first marker, up to the next, without commas.
std::string opencompass_reference(std::string_view reference) {
  const std::size_t marker = reference.find(kAnswerMarker);
  if (marker == reference.npos) return "";
  reference.remove_prefix(marker + kAnswerMarker.size());
  return without(stripped(reference.substr(0, reference.find(kAnswerMarker))), ",");
}

bool opencompass_equal(const std::string& answer, const std::string& reference) {
  if (answer == reference) return true;
  const std::optional<double> a = to_number(answer);
  const std::optional<double> b = to_number(reference);
  return a && b && is_whole(reference) && std::abs(*a - *b) < 1e-6;
}

// 18 and 18.0 are one answer, since OpenCompass compares numbers.
std::string opencompass_vote(const std::string& answer) {
  const std::optional<double> value = to_number(answer);
  return value ? fmt::format("{}", *value == 0 ? 0.0 : *value) : answer;
}

std::string strict_pattern(const AnswerExtractor::Strict& strict) {
  return fmt::format("{}(-?[0-9.,]+){}", strict.prefix, strict.wants_character_behind ? "." : "");
}

}  // namespace

const char* to_string(ExtractionRule rule) {
  for (const auto& [known, name] : kRuleNames) {
    if (known == rule) return name;
  }
  return "?";
}

std::optional<ExtractionRule> extraction_rule_from(std::string_view name) {
  for (const auto& [rule, known] : kRuleNames) {
    if (name == known) return rule;
  }
  return std::nullopt;
}

AnswerExtractor::AnswerExtractor(const Strict& strict)
    : strict_(strict),
      strict_pattern_(strict_pattern(strict), "strict-match"),
      flexible_pattern_("(-?[$0-9.,]{2,})|(-?[0-9]+)", "flexible-extract"),
      opencompass_pattern_("-?[0-9]+\\.[0-9]+|-?[0-9]+", "opencompass") {}

std::optional<std::string> AnswerExtractor::strict_match(std::string_view answer) const {
  Regex::Scanner scanner(strict_pattern_);
  std::size_t begin = 0;
  std::size_t end = 0;
  if (!scanner.find(answer, 0, begin, end)) return std::nullopt;
  begin += strict_.prefix.size();
  if (strict_.wants_character_behind) {
    // The last character, which may have several bytes, is not in the group.
    do {
      --end;
    } while ((static_cast<unsigned char>(answer[end]) & 0xC0U) == 0x80U);
  }
  return std::string(answer.substr(begin, end - begin));
}

ExtractedAnswer AnswerExtractor::extract(ExtractionRule rule, std::string_view answer,
                                         std::string_view reference) const {
  ExtractedAnswer result;
  if (rule == ExtractionRule::kOpenCompass) {
    const auto found = last_match(opencompass_pattern_, answer.substr(0, answer.find("Question:")));
    result.text = found ? std::string(*found) : "NULL";
    if (found) result.vote = opencompass_vote(result.text);
    result.right = opencompass_equal(result.text, opencompass_reference(reference));
    return result;
  }
  std::optional<std::string> found;
  if (rule == ExtractionRule::kStrictMatch) {
    found = strict_match(answer);
  } else if (const auto last = last_match(flexible_pattern_, answer)) {
    found = std::string(*last);
  }
  result.text = found.value_or("[invalid]");
  if (found) result.vote = normalized(result.text);
  result.right = normalized(result.text) == normalized(stripped(reference));
  return result;
}

bool has_final_number(std::string_view reference) {
  const std::size_t marker = reference.rfind(kAnswerMarker);
  if (marker == reference.npos) return false;
  const std::string number =
      without(stripped(reference.substr(marker + kAnswerMarker.size())), ",$");
  return to_number(number).has_value();
}

}  // namespace llmrun
