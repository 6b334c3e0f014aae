// The engines that one command compares: one after another, on the same work.
#pragma once

#include <string>
#include <vector>

#include "tools/engine_options.h"

namespace llmrun {

struct EngineCase {
  std::string name;         // "paged", "naive", "L0", ...
  std::string description;  // what it shows, for a table; may be empty
  EngineConfig config;
};

// The config of one backend's preset with the flags given. What the preset has no use for (prefix
// caching in contiguous memory) is left out: the flag is for the other cases.
EngineConfig resolve_backend(EngineOptions options, const std::string& backend);

// The presets named by the comma-separated list in options.backend, each with the flags given.
// Throws Error(kUsage) for a name that is empty, unknown or there twice.
std::vector<EngineCase> backend_cases(const EngineOptions& options);

// The flags that make a config what it is, for tables.
std::string flags_of(const EngineConfig& config);

}  // namespace llmrun
