// --drain-timeout, of every command that lets requests finish when it is asked to stop.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace llmrun {

inline constexpr double kDrainTimeoutSeconds = 30.0;

void add_drain_timeout_option(CLI::App& command, double& seconds, const std::string& group);

}  // namespace llmrun
