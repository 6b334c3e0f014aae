// `llmrun serve`: the engine online.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "engine/step_progress.h"
#include "tools/drain_timeout.h"
#include "tools/engine_options.h"

namespace llmrun {

struct ServeOptions {
  EngineOptions engine;
  std::string chat_template = "auto";
  std::string generation_config = "auto";
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  std::vector<std::string> served_model_names;
  std::vector<std::string> api_keys;
  std::string api_key_file;
  bool insecure_no_auth = false;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> allowed_origins;
  std::size_t max_connections = 8192;
  std::size_t max_connections_per_ip = 0;
  std::int64_t max_waiting_requests = 10'000;
  int io_threads = 1;
  int worker_threads = 2;
  double drain_timeout_s = kDrainTimeoutSeconds;
  double stall_timeout_s = kStallTimeoutSeconds;
  double request_timeout_s = 0;
  bool disable_access_log = false;
  bool disable_log_stats = false;
  double null_engine_step_ms = -1;  // >= 0: a NullEngine of this step answers
};

void add_serve_command(CLI::App& command, ServeOptions& options);

// Returns the exit code once a signal has stopped it. Throws Error, also when the engine fails.
int run_serve(const ServeOptions& options);

}  // namespace llmrun
