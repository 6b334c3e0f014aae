// The "pre_tokenizer" of a tokenizer.json: cuts text into the pieces that the model sees one by
// one. Supported: none; Split, Digits, WhitespaceSplit, Metaspace and Sequences of them; ByteLevel
// at the end.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/tokenizer/regex.h"

namespace llmrun {

class PreTokenizer {
 public:
  // Holds the text of pieces that are not part of the input. Reuse saves allocations.
  using Buffers = std::deque<std::string>;

  // `place` names the value in errors. Throws Error(kModel) for a type or option that is not
  // supported.
  PreTokenizer(const nlohmann::json& value, const std::string& place);

  // True when the pieces are to be spelled in the byte-level alphabet, one symbol a byte.
  bool is_byte_level() const { return is_byte_level_; }

  // Replaces `pieces` by the pieces of `text`, in order; none is empty. They view `text` or
  // `buffers`. `begins_input` is true for the stretch that begins where the whole input begins.
  // REQUIRES: text is UTF-8.
  void split(std::string_view text, bool begins_input, Buffers& buffers,
             std::vector<std::string_view>& pieces) const;

 private:
  // What a cut by a regular expression makes of the matches.
  enum class Behavior : std::uint8_t {
    kIsolated,            // pieces of their own
    kRemoved,             // dropped
    kMergedWithPrevious,  // the end of what lies before them
    kMergedWithNext,      // the beginning of what lies after them
    kContiguous,          // pieces of their own; neighbouring ones are one piece
  };
  enum class Prefix : std::uint8_t { kAlways, kFirst, kNever };
  struct Step {
    std::optional<Regex> regex;  // a cut; without it, spaces become `space` and one is prepended
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;  // what lies between the matches is the match
    std::string space{};
    Prefix prefix = Prefix::kNever;
  };

  void add(const nlohmann::json& value, const std::string& place);
  void add_metaspace(const nlohmann::json& value, const std::string& place);
  void add_split(const nlohmann::json& value, const std::string& place);
  void add_byte_level(const nlohmann::json& value, const std::string& place);

  static void cut(const Step& step, std::vector<std::string_view>& pieces);
  static void replace_spaces(const Step& step, bool begins_input, std::string& buffer,
                             std::vector<std::string_view>& pieces);

  std::vector<Step> steps_;
  bool is_byte_level_ = false;
};

}  // namespace llmrun
