#include "engine/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/sentencepiece_spelling.h"
#include "engine/tokenizer/unicode.h"

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

// A part of a text, and whether it is a match.
struct Part {
  std::size_t begin;
  std::size_t end;
  bool is_match;
};

// Cuts `text` into matches and what lies between them, each maybe empty.
void find_parts(std::string_view text, Regex::Scanner& scanner, bool invert,
                std::vector<Part>& parts) {
  parts.clear();
  std::size_t position = 0;  // what lies before it is in a part
  std::size_t begin = 0;
  std::size_t end = 0;
  for (std::size_t from = 0; from <= text.size() && scanner.find(text, from, begin, end);) {
    if (position < begin) parts.push_back({position, begin, invert});
    parts.push_back({begin, end, !invert});
    position = end;
    from = end > begin ? end : next_utf8_character(text, end);
  }
  if (position < text.size()) parts.push_back({position, text.size(), invert});
}

// Joins a match with the part before it. Of matches in a row only the first is joined.
void merge_with_previous(std::vector<Part>& parts) {
  std::size_t size = 0;
  bool after_match = false;
  for (const Part part : parts) {
    if (part.is_match && !after_match && size > 0) {
      parts[size - 1].end = part.end;
    } else {
      parts[size++] = part;
    }
    after_match = part.is_match;
  }
  parts.resize(size);
}

// The same from the other end.
void merge_with_next(std::vector<Part>& parts) {
  std::size_t first = parts.size();
  bool before_match = false;
  for (std::size_t i = parts.size(); i-- > 0;) {
    const Part part = parts[i];
    if (part.is_match && !before_match && first < parts.size()) {
      parts[first].begin = part.begin;
    } else {
      parts[--first] = part;
    }
    before_match = part.is_match;
  }
  parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(first));
}

void merge_contiguous(std::vector<Part>& parts) {
  std::size_t size = 0;
  bool previous = false;
  for (const Part part : parts) {
    if (part.is_match == previous && size > 0) {
      parts[size - 1].end = part.end;
    } else {
      parts[size++] = part;
    }
    previous = part.is_match;
  }
  parts.resize(size);
}

}  // namespace

PreTokenizer::PreTokenizer(const nlohmann::json& value, const std::string& place) {
  if (!value.is_null()) add(value, place);
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
  if (is_byte_level_) {
    object.fail("type", fmt::format("{} after ByteLevel is not supported", describe_json(type)));
  }
  if (type == "Split") {
    add_split(value, place);
  } else if (type == "Digits") {
    const bool individual = object.find_bool("individual_digits").value_or(false);
    steps_.push_back({.regex = Regex(individual ? R"(\p{N})" : R"(\p{N}+)", place)});
  } else if (type == "WhitespaceSplit") {
    steps_.push_back({.regex = Regex(R"(\s)", place), .behavior = Behavior::kRemoved});
  } else if (type == "ByteLevel") {
    add_byte_level(value, place);
  } else if (type == "Metaspace") {
    add_metaspace(value, place);
  } else {
    object.fail("type", fmt::format("pre-tokenizer {} is not supported (supported: Split, Digits, "
                                    "WhitespaceSplit, ByteLevel, Metaspace, Sequence)",
                                    describe_json(type)));
  }
}

void PreTokenizer::add_metaspace(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  Step step{
      .regex = std::nullopt, .space = object.get_string("replacement"), .prefix = Prefix::kAlways};
  const std::string scheme = object.find_string("prepend_scheme").value_or("always");
  // add_prefix_space is the older way to say "never".
  if (scheme == "never" || !object.find_bool("add_prefix_space").value_or(true)) {
    step.prefix = Prefix::kNever;
  } else if (scheme == "first") {
    step.prefix = Prefix::kFirst;
  } else if (scheme != "always") {
    object.fail("prepend_scheme", fmt::format("expected \"always\", \"first\" or \"never\", "
                                              "found {}",
                                              describe_json(scheme)));
  }
  if (next_utf8_character(step.space, 0) != step.space.size()) {
    object.fail("replacement", "expected one character");
  }
  const std::string space = escape_pattern(step.space);
  steps_.push_back(std::move(step));
  if (object.find_bool("split").value_or(true)) {
    steps_.push_back({.regex = Regex(space, place), .behavior = Behavior::kMergedWithNext});
  }
}

void PreTokenizer::add_split(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  const JsonObject pattern = object.get_object("pattern");
  const std::string text = pattern.has("String") ? escape_pattern(pattern.get_string("String"))
                                                 : pattern.get_string("Regex");
  constexpr std::array<std::string_view, 5> kBehaviors = {
      "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  const std::string& name = object.get_string("behavior");
  const auto behavior = std::find(kBehaviors.begin(), kBehaviors.end(), name);
  if (behavior == kBehaviors.end()) {
    object.fail("behavior", fmt::format("expected one of {}, found {}", fmt::join(kBehaviors, ", "),
                                        describe_json(name)));
  }
  steps_.push_back({.regex = Regex(text, pattern.place()),
                    .behavior = static_cast<Behavior>(behavior - kBehaviors.begin()),
                    .invert = object.find_bool("invert").value_or(false)});
}

void PreTokenizer::add_byte_level(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  if (object.find_bool("add_prefix_space").value_or(true)) {
    steps_.push_back({.regex = std::nullopt, .space = " ", .prefix = Prefix::kAlways});
  }
  if (object.find_bool("use_regex").value_or(true)) {
    steps_.push_back({.regex = Regex(kGpt2Pattern, place)});
  }
  is_byte_level_ = true;
}

void PreTokenizer::replace_spaces(const Step& step, bool begins_input, std::string& buffer,
                                  std::vector<std::string_view>& pieces) {
  std::vector<std::size_t> ends;
  buffer.clear();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const std::string_view piece = pieces[i];
    const bool prepend =
        step.prefix == Prefix::kAlways || (step.prefix == Prefix::kFirst && begins_input && i == 0);
    if (prepend && !piece.starts_with(' ') && !piece.starts_with(step.space)) buffer += step.space;
    append_replaced(buffer, piece, " ", step.space);
    ends.push_back(buffer.size());
  }
  std::size_t begin = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    pieces[i] = std::string_view(buffer).substr(begin, ends[i] - begin);
    begin = ends[i];
  }
}

void PreTokenizer::cut(const Step& step, std::vector<std::string_view>& pieces) {
  std::vector<std::string_view> whole;  // what the step before left
  whole.swap(pieces);
  pieces.reserve(whole.size());
  Regex::Scanner scanner(*step.regex);
  std::vector<Part> parts;
  for (const std::string_view text : whole) {
    find_parts(text, scanner, step.invert, parts);
    switch (step.behavior) {
      case Behavior::kIsolated:
      case Behavior::kRemoved: break;
      case Behavior::kMergedWithPrevious: merge_with_previous(parts); break;
      case Behavior::kMergedWithNext: merge_with_next(parts); break;
      case Behavior::kContiguous: merge_contiguous(parts); break;
    }
    for (const Part& part : parts) {
      if (part.begin == part.end) continue;
      if (step.behavior == Behavior::kRemoved && part.is_match) continue;
      pieces.push_back(text.substr(part.begin, part.end - part.begin));
    }
  }
}

void PreTokenizer::split(std::string_view text, bool begins_input, Buffers& buffers,
                         std::vector<std::string_view>& pieces) const {
  pieces.clear();
  if (text.empty()) return;
  pieces.push_back(text);
  std::size_t num_buffers = 0;
  for (const Step& step : steps_) {
    if (step.regex) {
      cut(step, pieces);
      continue;
    }
    if (num_buffers == buffers.size()) buffers.emplace_back();
    replace_spaces(step, begins_input, buffers[num_buffers++], pieces);
  }
}

}  // namespace llmrun
