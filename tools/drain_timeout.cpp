#include "tools/drain_timeout.h"

#include "tools/flag_checks.h"

namespace llmrun {

void add_drain_timeout_option(CLI::App& command, double& seconds, const std::string& group) {
  command
      .add_option("--drain-timeout", seconds,
                  "Seconds that requests under way may take after the first SIGINT or SIGTERM")
      ->check(number_from(0.0, 1e9))
      ->group(group)
      ->capture_default_str();
}

}  // namespace llmrun
