#include "engine/tokenizer/pre_tokenizer.h"

#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/sentencepiece_spelling.h"

namespace llmrun {
namespace {

// Source: huggingface/tokenizers, pre_tokenizers/byte_level.rs.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A pattern that matches `text` literally.
std::string escape_pattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    constexpr std::string_view kSpecial = "\\^$.[]|()?*+{}-#&~";
    if (kSpecial.find(c) != kSpecial.npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// Where the character after the one at `position` begins; past the end, one more.
std::size_t next_character(std::string_view text, std::size_t position) {
  if (position >= text.size()) return position + 1;
  return position + first_utf8_character(text.substr(position)).length;
}

}  // namespace

PreTokenizer::PreTokenizer(const nlohmann::json& value, const std::string& place) {
  if (!value.is_null()) add(value, place);
  if (!splits_.empty() && !is_byte_level_ && !metaspace_) {
    throw Error(
        ErrorKind::kModel,
        fmt::format("{}: Split or Digits without ByteLevel after it is not supported", place));
  }
}

void PreTokenizer::add(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  const std::string& type = object.get_string("type");
  if (type == "Sequence") {
    for (const nlohmann::json& element : object.get_array("pretokenizers")) {
      add(element, place + ": pretokenizers");
    }
    return;
  }
  if (is_byte_level_ || metaspace_) {
    object.fail("type", fmt::format("{} after ByteLevel or Metaspace is not supported",
                                    describe_json(type)));
  }
  if (type == "Split") {
    add_split(value, place);
  } else if (type == "Digits") {
    const bool individual = object.find_bool("individual_digits").value_or(false);
    splits_.push_back({Regex(individual ? R"(\p{N})" : R"(\p{N}+)", place), true, true});
  } else if (type == "ByteLevel") {
    add_byte_level(value, place);
  } else if (type == "Metaspace") {
    add_metaspace(value, place);
  } else {
    object.fail("type", fmt::format("pre-tokenizer {} is not supported (supported: Split, Digits, "
                                    "ByteLevel, Metaspace, Sequence)",
                                    describe_json(type)));
  }
}

void PreTokenizer::add_metaspace(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  if (!splits_.empty()) object.fail("type", "Metaspace after Split is not supported");
  Metaspace metaspace{.replacement = object.get_string("replacement"),
                      .prepend = Metaspace::Prepend::kAlways};
  const std::string scheme = object.find_string("prepend_scheme").value_or("always");
  // add_prefix_space is the older way to say "never".
  if (scheme == "never" || !object.find_bool("add_prefix_space").value_or(true)) {
    metaspace.prepend = Metaspace::Prepend::kNever;
  } else if (scheme == "first") {
    metaspace.prepend = Metaspace::Prepend::kFirst;
  } else if (scheme != "always") {
    object.fail("prepend_scheme", fmt::format("expected \"always\", \"first\" or \"never\", "
                                              "found {}",
                                              describe_json(scheme)));
  }
  if (next_character(metaspace.replacement, 0) != metaspace.replacement.size()) {
    object.fail("replacement", "expected one character");
  }
  if (object.find_bool("split").value_or(true)) {
    // A piece begins at each replacement and ends before the next.
    const std::string space = escape_pattern(metaspace.replacement);
    splits_.push_back({Regex(fmt::format("{0}[^{0}]*", space), place), true, true});
  }
  metaspace_ = std::move(metaspace);
}

void PreTokenizer::add_split(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  const JsonObject pattern = object.get_object("pattern");
  const std::string text = pattern.has("String") ? escape_pattern(pattern.get_string("String"))
                                                 : pattern.get_string("Regex");
  const bool invert = object.find_bool("invert").value_or(false);
  const std::string& behavior = object.get_string("behavior");
  if (behavior != "Isolated" && behavior != "Removed") {
    object.fail("behavior", fmt::format("{} is not supported (supported: Isolated, Removed)",
                                        describe_json(behavior)));
  }
  const bool removed = behavior == "Removed";
  splits_.push_back({Regex(text, pattern.place()), !removed || invert, !removed || !invert});
}

void PreTokenizer::add_byte_level(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  if (object.find_bool("add_prefix_space").value_or(true)) {
    object.fail("add_prefix_space", "true is not supported");
  }
  if (object.find_bool("use_regex").value_or(true)) {
    splits_.push_back({Regex(kGpt2Pattern, place), true, true});
  }
  is_byte_level_ = true;
}

std::string_view PreTokenizer::apply_metaspace(std::string_view text, bool begins_input,
                                               std::string& buffer) const {
  const Metaspace& metaspace = *metaspace_;
  std::string replaced = replace_all(text, " ", metaspace.replacement);
  const bool prepend = metaspace.prepend == Metaspace::Prepend::kAlways ||
                       (metaspace.prepend == Metaspace::Prepend::kFirst && begins_input);
  if (prepend && !replaced.starts_with(metaspace.replacement)) {
    replaced.insert(0, metaspace.replacement);
  }
  buffer = std::move(replaced);
  return buffer;
}

void PreTokenizer::split(std::string_view text, bool begins_input, std::string& buffer,
                         std::vector<std::string_view>& pieces) const {
  if (text.empty()) return;
  if (metaspace_) text = apply_metaspace(text, begins_input, buffer);
  const std::size_t first = pieces.size();
  pieces.push_back(text);
  std::vector<std::string_view> whole;  // what the split before left
  for (const Split& split : splits_) {
    whole.assign(pieces.begin() + static_cast<std::ptrdiff_t>(first), pieces.end());
    pieces.resize(first);
    Regex::Scanner scanner(split.regex);
    for (const std::string_view part : whole) {
      const auto keep = [&](std::size_t begin, std::size_t end) {
        if (begin < end) pieces.push_back(part.substr(begin, end - begin));
      };
      std::size_t position = 0;  // what lies before it is done
      std::size_t from = 0;
      std::size_t begin = 0;
      std::size_t end = 0;
      while (from <= part.size() && scanner.find(part, from, begin, end)) {
        if (split.keep_rest) keep(position, begin);
        if (split.keep_matches) keep(begin, end);
        position = end;
        from = end > begin ? end : next_character(part, end);
      }
      if (split.keep_rest) keep(position, part.size());
    }
  }
}

}  // namespace llmrun
