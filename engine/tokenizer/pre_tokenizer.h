// The "pre_tokenizer" of a byte-level tokenizer.json: cuts text into the pieces that BPE sees one
// by one. Supported: Split, ByteLevel, Sequence of these; ByteLevel must end the chain.
#pragma once

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

  // Appends the pieces of `text`, in order; none is empty. REQUIRES: text is UTF-8.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  // A cut by a regular expression. Matches and what lies between them are both pieces, unless one
  // of the two is removed.
  struct Split {
    Regex regex;
    bool keep_matches;
    bool keep_rest;
  };

  void add(const nlohmann::json& value, const std::string& place);
  void add_split(const nlohmann::json& value, const std::string& place);
  void add_byte_level(const nlohmann::json& value, const std::string& place);

  std::vector<Split> splits_;
  bool is_byte_level_ = false;
};

}  // namespace llmrun
