// Compares a tokenizer with the answers of a reference tokenizer, line by line.
#pragma once

#include <cstdint>
#include <istream>
#include <string>

#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

struct TokenizerCheck {
  std::int64_t num_lines = 0;        // compared
  std::int64_t num_differences = 0;  // lines that differ
  std::int64_t text_bytes = 0;       // encoded
  double encode_seconds = 0;         // CPU time of encoding, without reading and comparing
  std::string first_difference;      // where and how; empty when there is none
};

// `lines` holds one JSON object a line:
//   {"text": "...", "ids": [...], "add_special_tokens": true}  encoding `text` must give `ids`;
//                                       add_special_tokens is false when not stated
//   "decoded": "..."                    decoding `ids` must give this text
//   "decoded_without_special": "..."    the same without special tokens; equals "decoded" when not
//                                       stated
// "text" or "decoded" may be missing. Decoding is also done token by token. `name` is the file's.
// Throws Error(kInput) that names the line for anything else; empty lines are skipped.
TokenizerCheck check_tokenizer(const Tokenizer& tokenizer, std::istream& lines,
                               const std::string& name);

}  // namespace llmrun
