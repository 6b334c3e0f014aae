// What a benchmark sends: prompts as token ids, and how many tokens each is to be answered with.
// The same options, seed and tokenizer give the same requests everywhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>

#include "engine/core/token_id.h"
#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

struct WorkloadOptions {
  std::string dataset = "random";       // random | sharegpt | custom | prefix_repetition | lengths
  std::string path;                     // sharegpt, custom
  std::string prompt_field = "prompt";  // custom: key of the prompt
  std::int32_t num_prompts = 25;
  std::int32_t input_len = 64;
  std::int32_t output_len = 0;     // 0: sharegpt, lengths and custom say it themselves; else 128
  double random_range_ratio = 0;   // lengths uniform in [L (1 - r), L (1 + r)], [0, 1)
  bool disable_shuffle = false;    // sharegpt: keep the file's order
  std::int32_t num_prefixes = 10;  // prefix_repetition
  std::int32_t prefix_len = 256;
  std::int32_t suffix_len = 256;
};

void add_workload_options(CLI::App& command, WorkloadOptions& options);

struct WorkloadRequest {
  std::vector<TokenId> prompt_token_ids;
  std::int32_t output_len = 0;
  std::int64_t source_index = 0;  // row of the file, or number of the request
};

struct Workload {
  std::string dataset;
  std::string description;  // one line: the recipe, and where its figures come from
  std::string path;         // empty: no file
  std::string file_sha256;
  std::uint64_t seed = 0;
  std::vector<WorkloadRequest> requests;
  std::vector<std::pair<std::string, std::int64_t>> num_left_out;  // rows of the file, by reason
  std::vector<std::string> warnings;

  std::int64_t num_prompt_tokens() const;
  std::int64_t num_output_tokens() const;
  std::int64_t longest() const;  // prompt and output together
  std::int64_t num_duplicate_prompts() const;
  // SHA-256 over the requests: prompt and output length, in order.
  std::string sha256() const;
};

// What prompts may consist of.
struct WorkloadModel {
  const Tokenizer* tokenizer = nullptr;  // null: only datasets of token ids
  std::int64_t vocab_size = 0;
  std::int32_t max_model_len = 0;  // longer requests are left out of files
};

// Throws Error(kUsage) for options that contradict each other or the model, Error(kInput) for a bad
// file or one without a usable row.
Workload make_workload(const WorkloadOptions& options, std::uint64_t seed,
                       const WorkloadModel& model);

// "25 requests, 1600 prompt tokens, 3200 output tokens".
std::string size_text(const Workload& workload);

}  // namespace llmrun
