// `llmrun info`: what was recognised of a model, the memory plan, the device and the versions.
#pragma once

#include <CLI/CLI.hpp>

#include "tools/engine_options.h"

namespace llmrun {

struct InfoOptions {
  EngineOptions engine;
  bool json = false;
  bool architectures = false;
  bool tokenizers = false;
};

void add_info_command(CLI::App& command, InfoOptions& options);
int run_info(const InfoOptions& options);

}  // namespace llmrun
