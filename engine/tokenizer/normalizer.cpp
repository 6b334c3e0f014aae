#include "engine/tokenizer/normalizer.h"

#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include <fmt/format.h>
#include <utf8proc.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/sentencepiece_spelling.h"
#include "engine/tokenizer/unicode.h"
#include "engine/tokenizer/unicode_ranges.h"

namespace llmrun {
namespace {

// Characters that NFC keeps and that compose with nothing before them. Not all of them: the common
// scripts, so that most text needs no work.
bool is_stable(char32_t c) {
  return c < 0x300 ||                     // Latin
         (c >= 0x400 && c <= 0x482) ||    // Cyrillic
         (c >= 0x2010 && c <= 0x2027) ||  // dashes, quotes, bullets
         (c >= 0x3041 && c <= 0x3096) ||  // Hiragana
         (c >= 0x30A1 && c <= 0x30FA) ||  // Katakana
         (c >= 0x3001 && c <= 0x3003) ||  // ideographic punctuation
         (c >= 0x3400 && c <= 0x4DBF) ||  // CJK extension A
         (c >= 0x4E00 && c <= 0x9FFF) ||  // CJK
         (c >= 0xAC00 && c <= 0xD7A3) ||  // Hangul syllables
         (c >= 0xFF01 && c <= 0xFF5E) ||  // full-width ASCII
         (c >= 0x1F300 && c <= 0x1F64F);  // emoji
}

void append_composed(std::string_view text, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* composed = nullptr;
  const auto* data = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const utf8proc_ssize_t length =
      utf8proc_map(data, static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length == UTF8PROC_ERROR_NOMEM) throw std::bad_alloc();
  LLMRUN_CHECK(length >= 0);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  out.append(reinterpret_cast<const char*>(composed), static_cast<std::size_t>(length));
}

// NFC of the stretches between marks that Hugging Face's NFC does not know, which stay in place.
std::string compose(std::string_view text) {
  std::string out;
  std::size_t begin = 0;  // of the stretch
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Character character = first_utf8_character(text.substr(i));
    if (is_unknown_to_nfc(character.code_point)) {
      append_composed(text.substr(begin, i - begin), out);
      out.append(text.substr(i, character.length));
      begin = i + character.length;
    }
    i += character.length;
  }
  append_composed(text.substr(begin), out);
  return out;
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

bool is_surely_nfc(std::string_view text) {
  while (true) {
    std::size_t ascii = 0;
    while (ascii < text.size() && static_cast<unsigned char>(text[ascii]) < 0x80) ++ascii;
    text.remove_prefix(ascii);
    if (text.empty()) return true;
    const Utf8Character character = first_utf8_character(text);
    if (!is_stable(character.code_point)) return false;
    text.remove_prefix(character.length);
  }
}

Normalizer::Normalizer(const nlohmann::json& value, const std::string& place) {
  if (!value.is_null()) add(value, place);
}

void Normalizer::add(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  const std::string& type = object.get_string("type");
  if (type == "NFC") {
    steps_.push_back({.kind = Step::Kind::kNfc});
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
    object.fail("type", fmt::format("normalizer {} is not supported (supported: NFC, Prepend, "
                                    "Replace, Strip, Precompiled, Sequence)",
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
      case Step::Kind::kNfc:
        if (is_surely_nfc(text)) continue;
        buffer = compose(text);
        break;
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
