#include "tools/report/run_timeline.h"

#include <algorithm>
#include <cmath>

namespace llmrun {
namespace {

double rounded(double value, double digits) {
  return std::round(value * digits) / digits;
}

}  // namespace

std::vector<TimelinePoint> thinned_timeline(const std::vector<TimelinePoint>& points) {
  if (points.size() <= kMaxTimelinePoints) return points;
  const double start_s = points.front().time_s;
  const double length_s = points.back().time_s - start_s;
  const std::size_t num_shares = kMaxTimelinePoints - 1;
  const auto share_of = [&](const TimelinePoint& point) {
    const double share = length_s > 0 ? (point.time_s - start_s) / length_s : 0;
    return std::min(static_cast<std::size_t>(share * static_cast<double>(num_shares)),
                    num_shares - 1);
  };
  std::vector<TimelinePoint> kept;
  for (std::size_t begin = 0; begin + 1 < points.size();) {
    TimelinePoint mean{.time_s = points[begin].time_s};
    std::size_t end = begin;
    for (; end + 1 < points.size() && share_of(points[end]) == share_of(points[begin]); ++end) {
      mean.running += points[end].running;
      mean.waiting += points[end].waiting;
      mean.kv_used_percent += points[end].kv_used_percent;
    }
    const auto count = static_cast<double>(end - begin);
    mean.running /= count;
    mean.waiting /= count;
    mean.kv_used_percent /= count;
    kept.push_back(mean);
    begin = end;
  }
  kept.push_back(points.back());
  return kept;
}

nlohmann::ordered_json timeline_json(const std::vector<TimelinePoint>& points, bool has_kv_cache) {
  nlohmann::ordered_json json = {{"time_s", nlohmann::ordered_json::array()},
                                 {"running", nlohmann::ordered_json::array()},
                                 {"waiting", nlohmann::ordered_json::array()}};
  if (has_kv_cache) json["kv_used_percent"] = nlohmann::ordered_json::array();
  for (const TimelinePoint& point : points) {
    json["time_s"].push_back(rounded(point.time_s, 1e6));
    json["running"].push_back(rounded(point.running, 1e2));
    json["waiting"].push_back(rounded(point.waiting, 1e2));
    if (has_kv_cache) json["kv_used_percent"].push_back(rounded(point.kv_used_percent, 1e3));
  }
  return json;
}

std::vector<SizeBin> size_histogram(const std::map<std::int32_t, std::int64_t>& num_steps_of) {
  std::vector<SizeBin> bins;
  if (num_steps_of.empty()) return bins;
  const std::int32_t least = num_steps_of.begin()->first;
  const std::int32_t greatest = num_steps_of.rbegin()->first;
  const std::int32_t width = (greatest - least) / kMaxSizeBins + 1;
  for (std::int32_t first = least; first <= greatest; first += width) {
    bins.push_back({first, first + width - 1, 0});
  }
  for (const auto& [size, num_steps] : num_steps_of) {
    bins[static_cast<std::size_t>((size - least) / width)].num_steps += num_steps;
  }
  return bins;
}

nlohmann::ordered_json histogram_json(const std::vector<SizeBin>& bins) {
  nlohmann::ordered_json json = {{"first", nlohmann::ordered_json::array()},
                                 {"last", nlohmann::ordered_json::array()},
                                 {"steps", nlohmann::ordered_json::array()}};
  for (const SizeBin& bin : bins) {
    json["first"].push_back(bin.first);
    json["last"].push_back(bin.last);
    json["steps"].push_back(bin.num_steps);
  }
  return json;
}

}  // namespace llmrun
