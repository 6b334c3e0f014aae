// How a run went over time, and how large its steps were, small enough to be a part of a report
// however long the run was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include <nlohmann/json.hpp>

namespace llmrun {

inline constexpr std::size_t kMaxTimelinePoints = 160;

// What was so from a moment on.
struct TimelinePoint {
  double time_s = 0;  // since the run started
  double running = 0;
  double waiting = 0;
  double kv_used_percent = 0;
};

// At most kMaxTimelinePoints: where there are more, each is the mean of those in its share of the
// time, from its first on. The last point stays. REQUIRES: points ascend in time.
std::vector<TimelinePoint> thinned_timeline(const std::vector<TimelinePoint>& points);
// {"time_s": [...], "running": [...], ...}.
nlohmann::ordered_json timeline_json(const std::vector<TimelinePoint>& points, bool has_kv_cache);

// How many steps had a size from `first` to `last`; bins of equal width, at most kMaxSizeBins.
inline constexpr std::int32_t kMaxSizeBins = 64;
struct SizeBin {
  std::int32_t first = 0;
  std::int32_t last = 0;
  std::int64_t num_steps = 0;
};
// Of how many steps had each size. REQUIRES: sizes are positive.
std::vector<SizeBin> size_histogram(const std::map<std::int32_t, std::int64_t>& num_steps_of);
nlohmann::ordered_json histogram_json(const std::vector<SizeBin>& bins);

}  // namespace llmrun
