// `llmrun generate`: completions for the prompts of a file, one JSON line each.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include "tools/engine_options.h"
#include "tools/output/long_run_options.h"

namespace llmrun {

struct GenerateOptions {
  EngineOptions engine;
  SamplingOptions sampling;

  std::string input;            // "-": standard input
  std::string output = "-";     // "-": standard output
  std::string format = "auto";  // auto | jsonl | text | sharegpt | openai-batch
  std::string prompt_field = "prompt";
  std::string order;  // input | completion; empty: input on stdout, completion into a file
  std::string chat_template = "auto";
  bool return_token_ids = false;

  LongRunOptions long_run;
  std::int32_t max_inflight = 0;  // requests in the engine at once; 0: 4 times --max-num-seqs

  std::string color = "auto";  // auto | always | never
  bool quiet = false;          // errors only on stderr
};

void add_generate_command(CLI::App& command, GenerateOptions& options);

// Returns the exit code: 0 all rows ok, 1 some failed, 130 or 143 drained on a signal. Throws
// Error. `command_line` is how the user started this run, for the advice how to resume it.
int run_generate(const GenerateOptions& options, const std::string& command_line);

}  // namespace llmrun
