#include "tools/load_progress.h"

#include <fmt/format.h>

namespace llmrun {

std::function<void(LoadProgressReport)> log_loading(Progress& progress, bool quiet) {
  constexpr std::uint64_t kBytesPerLine = std::uint64_t{1} << 30;
  return [&progress, quiet, next_line = kBytesPerLine](LoadProgressReport report) mutable {
    if (quiet || report.done_bytes < next_line) return;
    next_line = report.done_bytes + kBytesPerLine;
    progress.log(fmt::format("loading: {:.1f} of {:.1f} GiB",
                             static_cast<double>(report.done_bytes) / (1 << 30),
                             static_cast<double>(report.total_bytes) / (1 << 30)));
  };
}

}  // namespace llmrun
