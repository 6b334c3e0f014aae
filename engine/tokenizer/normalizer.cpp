#include "engine/tokenizer/normalizer.h"

#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/tokenizer/sentencepiece_spelling.h"
#include "engine/tokenizer/unicode.h"

namespace llmrun {
namespace {

std::optional<NormalForm> normal_form(std::string_view type) {
  if (type == "NFC") return NormalForm::kNfc;
  if (type == "NFD") return NormalForm::kNfd;
  if (type == "NFKC") return NormalForm::kNfkc;
  if (type == "NFKD") return NormalForm::kNfkd;
  return std::nullopt;
}

std::string replace_matches(std::string_view text, const Regex& regex, std::string_view content) {
  std::string out;
  Regex::Scanner scanner(regex);
  std::size_t position = 0;  // what lies before it is done
  std::size_t begin = 0;
  std::size_t end = 0;
  for (std::size_t from = 0; from <= text.size() && scanner.find(text, from, begin, end);) {
    const bool touches_last = begin == end && begin == position && position > 0;
    if (!touches_last) out.append(text.substr(position, begin - position)).append(content);
    position = end;
    from = end > begin ? end : next_utf8_character(text, end);
  }
  return out.append(text.substr(position));
}

}  // namespace

Normalizer::Normalizer(const nlohmann::json& value, const std::string& place) {
  if (!value.is_null()) add(value, place);
}

void Normalizer::add(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  const std::string& type = object.get_string("type");
  if (const auto form = normal_form(type)) {
    steps_.push_back({.kind = Step::Kind::kNormalForm, .form = *form});
  } else if (type == "Lowercase") {
    steps_.push_back({.kind = Step::Kind::kLowercase});
  } else if (type == "StripAccents") {
    steps_.push_back({.kind = Step::Kind::kStripAccents});
  } else if (type == "Prepend") {
    steps_.push_back({.kind = Step::Kind::kPrepend, .content = object.get_string("prepend")});
  } else if (type == "Replace") {
    add_replace(object);
  } else if (type == "Strip") {
    steps_.push_back({.kind = Step::Kind::kStrip,
                      .strip_left = object.get_bool("strip_left"),
                      .strip_right = object.get_bool("strip_right")});
  } else if (type == "Precompiled") {
    steps_.push_back(
        {.kind = Step::Kind::kCharacterMap,
         .map = std::make_shared<CharacterMap>(object.get_string("precompiled_charsmap"),
                                               object.place() + ": precompiled_charsmap")});
  } else if (type == "Sequence") {
    for (const nlohmann::json& element : object.get_array("normalizers")) {
      add(element, place + ": normalizers");
    }
  } else {
    object.fail("type", fmt::format("normalizer {} is not supported (supported: NFC, NFD, NFKC, "
                                    "NFKD, Lowercase, StripAccents, Prepend, Replace, Strip, "
                                    "Precompiled, Sequence)",
                                    describe_json(type)));
  }
}

void Normalizer::add_replace(const JsonObject& object) {
  const JsonObject pattern = object.get_object("pattern");
  Step step{.kind = Step::Kind::kReplace, .content = object.get_string("content")};
  if (pattern.has("Regex")) {
    step.kind = Step::Kind::kReplaceRegex;
    step.regex = std::make_shared<Regex>(pattern.get_string("Regex"), pattern.place());
  } else {
    step.pattern = pattern.get_string("String");
    if (step.pattern.empty()) object.fail("pattern", "empty");
  }
  steps_.push_back(std::move(step));
}

std::string_view Normalizer::normalize(std::string_view text, std::string& buffer) const {
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Step::Kind::kNormalForm:
        if (is_surely_normal(text, step.form)) continue;
        buffer = to_normal_form(text, step.form);
        break;
      case Step::Kind::kLowercase: buffer = to_lowercase(text); break;
      case Step::Kind::kStripAccents: buffer = strip_accents(text); break;
      case Step::Kind::kPrepend:
        if (text.empty()) continue;
        buffer = std::string(step.content).append(text);
        break;
      case Step::Kind::kReplace: buffer = replace_all(text, step.pattern, step.content); break;
      case Step::Kind::kReplaceRegex:
        buffer = replace_matches(text, *step.regex, step.content);
        break;
      case Step::Kind::kStrip:
        if (step.strip_left) text.remove_prefix(leading_white_space(text));
        if (step.strip_right) text.remove_suffix(trailing_white_space(text));
        continue;
      case Step::Kind::kCharacterMap: buffer = step.map->apply(text); break;
    }
    text = buffer;
  }
  return text;
}

}  // namespace llmrun
