// `llmrun tokenize`: ids of a text and back, and a check against a reference file.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace llmrun {

struct TokenizeOptions {
  std::string model;
  std::vector<std::string> texts;  // none: standard input, a text a line
  bool decode = false;             // texts are ids: "1 2 3" or "[1, 2, 3]"
  bool no_special_tokens = false;  // neither add BOS nor skip special tokens when decoding
  bool pieces = false;             // show each token's text
  std::string check_file;          // JSONL of {"text", "ids"}
};

void add_tokenize_command(CLI::App& command, TokenizeOptions& options);

// Returns the exit code: 1 when a check finds a difference.
int run_tokenize(const TokenizeOptions& options);

}  // namespace llmrun
