#include "tools/tokenize.h"

#include <ctime>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/prompt_processor.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/tokenizer_check.h"
#include "tools/demo_model.h"

namespace llmrun {
namespace {

// "1 2 3", "1,2,3" or "[1, 2, 3]". Throws Error(kInput).
std::vector<TokenId> parse_ids(const std::string& text) {
  std::string list;
  for (const char c : text) list += (c == '[' || c == ']' || c == ',') ? ' ' : c;
  std::vector<TokenId> ids;
  std::size_t position = 0;
  while ((position = list.find_first_not_of(" \t\r", position)) != std::string::npos) {
    std::size_t end = list.find_first_of(" \t\r", position);
    if (end == std::string::npos) end = list.size();
    const std::string word = list.substr(position, end - position);
    std::size_t used = 0;
    long long id = -1;
    try {
      id = std::stoll(word, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    if (used != word.size() || id < 0 || id > std::numeric_limits<TokenId>::max()) {
      throw Error(ErrorKind::kInput, fmt::format("'{}' is not a token id", word));
    }
    ids.push_back(static_cast<TokenId>(id));
    position = end;
  }
  return ids;
}

void print_ids(const Tokenizer& tokenizer, const std::string& text,
               const TokenizeOptions& options) {
  const std::vector<TokenId> ids = tokenizer.encode(text, !options.no_special_tokens);
  if (!options.pieces) {
    std::cout << nlohmann::json(ids).dump() << '\n';
    return;
  }
  for (const TokenId id : ids) {
    fmt::print("{:>8}  {}\n", id, dump_json(nlohmann::json(tokenizer.piece(id))));
  }
  std::fflush(stdout);
}

int check(const Tokenizer& tokenizer, const std::string& path, double load_seconds) {
  const bool is_standard_input = path == "-";
  std::ifstream file;
  if (!is_standard_input) file.open(path);
  if (!file) throw Error(ErrorKind::kInput, path + ": cannot be opened");
  const TokenizerCheck result = is_standard_input
                                    ? check_tokenizer(tokenizer, std::cin, "standard input")
                                    : check_tokenizer(tokenizer, file, path);
  if (result.text_bytes > 0) {
    const auto bytes = static_cast<double>(result.text_bytes);
    fmt::print(
        "{:.1f} MB encoded in {:.3f} s, {:.1f} MB/s on one thread; tokenizer loaded in "
        "{:.3f} s\n",
        bytes / 1e6, result.encode_seconds, bytes / 1e6 / result.encode_seconds, load_seconds);
  }
  if (result.first_difference.empty()) {
    fmt::print("{} equal\n", counted(result.num_lines, "line"));
    return 0;
  }
  fmt::print("{} of {} not equal; the first: {}\n", result.num_differences,
             counted(result.num_lines, "line"), result.first_difference);
  return 1;
}

}  // namespace

void add_tokenize_command(CLI::App& command, TokenizeOptions& options) {
  command.add_option("text", options.texts,
                     "Text to encode (default: standard input, a text a line)");
  command.add_option("-m,--model", options.model, "Model folder or id (default: the demo model)");
  command.add_flag("-d,--decode", options.decode, "The arguments are token ids; print their text");
  command.add_flag("--no-special-tokens", options.no_special_tokens,
                   "Encode without BOS; decode without special tokens");
  command.add_flag("--pieces", options.pieces, "Print a line per token: its id and its text");
  command.add_option(
      "--check", options.check_file,
      "Compare with a reference: JSON lines of {\"text\": ..., \"ids\": [...]}, in a "
      "file or - for standard input");
}

int run_tokenize(const TokenizeOptions& options) {
  const std::clock_t start = std::clock();
  const std::unique_ptr<Tokenizer> tokenizer = load_model_tokenizer(model_or_demo(options.model));
  if (!options.check_file.empty()) {
    const double load_seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    return check(*tokenizer, options.check_file, load_seconds);
  }
  const auto handle = [&](const std::string& text) {
    if (options.decode) {
      const std::vector<TokenId> ids = parse_ids(text);
      for (const TokenId id : ids) {
        if (id < tokenizer->vocab_size()) continue;
        throw Error(ErrorKind::kInput,
                    fmt::format("token id {} is not in the vocabulary of {} tokens", id,
                                tokenizer->vocab_size()));
      }
      std::cout << tokenizer->decode(ids, options.no_special_tokens) << '\n';
    } else {
      print_ids(*tokenizer, text, options);
    }
  };
  if (options.decode && !options.texts.empty()) {
    handle(fmt::format("{}", fmt::join(options.texts, " ")));  // the ids of one text
    return 0;
  }
  for (const std::string& text : options.texts) handle(text);
  std::string line;
  while (options.texts.empty() && std::getline(std::cin, line)) handle(line);
  return 0;
}

}  // namespace llmrun
