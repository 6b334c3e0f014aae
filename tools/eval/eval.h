// `llmrun eval`: the accuracy of a model on questions in GSM8K's format, and the time it takes, on
// one or more backends.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include "tools/api_client/api_server_options.h"
#include "tools/engine_options.h"
#include "tools/output/long_run_options.h"
#include "tools/report/report_options.h"

namespace llmrun {

struct EvalOptions {
  EvalOptions();

  // Its backend may be a list: "paged,naive"; empty: paged where no server is named, else none.
  EngineOptions engine;
  SamplingOptions sampling;

  std::string input;
  std::int64_t limit = 0;  // questions; 0: all
  std::string group_field;
  std::string prompt = "lm-eval";
  std::int32_t num_fewshot = 0;
  std::string fewshot_file;
  bool apply_chat_template = false;
  std::string chat_template = "auto";
  std::string system_instruction;
  std::string rule;  // empty: the prompt style's

  std::int32_t repetitions = 1;
  bool early_stop = false;

  ApiServerOptions server;             // its base_url is empty: none
  SendLimits limits;                   // but for their max_concurrency
  std::string max_concurrency = "16";  // a list: "1,8,64"

  std::string max_num_seqs = "0";  // a list: "1,4,16"

  std::string samples;  // file of records; empty: none
  LongRunOptions long_run;

  ReportOptions report;
  std::string color = "auto";
  bool quiet = false;
};

void add_eval_command(CLI::App& command, EvalOptions& options);

// Returns the exit code: 0, 1 when samples failed, 130 or 143 when a signal stopped it. Throws
// Error. `command_line` is how the user started this run.
int run_eval(const EvalOptions& options, const std::string& command_line);

}  // namespace llmrun
