// The "pre_tokenizer" of a tokenizer.json: cuts text into the pieces that BPE sees one by one.
// Supported: none; Metaspace; Sequences of Split and Digits that end with ByteLevel.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/tokenizer/regex.h"

namespace llmrun {

class PreTokenizer {
 public:
  // `place` names the value in errors. Throws Error(kModel) for a type or option that is not
  // supported.
  PreTokenizer(const nlohmann::json& value, const std::string& place);

  // True when the pieces are to be spelled in the byte-level alphabet, one symbol a byte.
  bool is_byte_level() const { return is_byte_level_; }

  // Appends the pieces of `text`, in order; none is empty. They view `text` or `buffer`.
  // `begins_input` is true for the stretch that begins where the whole input begins.
  // REQUIRES: text is UTF-8.
  void split(std::string_view text, bool begins_input, std::string& buffer,
             std::vector<std::string_view>& pieces) const;

 private:
  // A cut by a regular expression. Matches and what lies between them are both pieces, unless one
  // of the two is removed.
  struct Split {
    Regex regex;
    bool keep_matches;
    bool keep_rest;
  };

  // Spaces become `replacement`, one is put before the text.
  struct Metaspace {
    enum class Prepend { kAlways, kFirst, kNever };
    std::string replacement;
    Prepend prepend;
  };

  void add(const nlohmann::json& value, const std::string& place);
  void add_metaspace(const nlohmann::json& value, const std::string& place);
  void add_split(const nlohmann::json& value, const std::string& place);
  void add_byte_level(const nlohmann::json& value, const std::string& place);

  std::string_view apply_metaspace(std::string_view text, bool begins_input,
                                   std::string& buffer) const;

  std::optional<Metaspace> metaspace_;
  std::vector<Split> splits_;
  bool is_byte_level_ = false;
};

}  // namespace llmrun
