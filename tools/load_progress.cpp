#include "tools/load_progress.h"

#include <chrono>

#include <fmt/format.h>

namespace llmrun {

std::function<void(LoadProgressReport)> log_loading(Progress& progress, bool quiet) {
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kBetweenLines(1);
  return [&progress, quiet,
          next_line = Clock::now() + kBetweenLines](LoadProgressReport report) mutable {
    if (quiet || Clock::now() < next_line) return;
    next_line = Clock::now() + kBetweenLines;
    progress.log(fmt::format("loading: {:.1f} of {:.1f} GiB",
                             static_cast<double>(report.done_bytes) / (1 << 30),
                             static_cast<double>(report.total_bytes) / (1 << 30)));
  };
}

}  // namespace llmrun
