#include "tools/report/run_timeline.h"

#include <algorithm>

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("a short timeline stays, a long one becomes means over even shares of the time") {
  std::vector<TimelinePoint> points;
  for (int i = 0; i < 10; ++i) points.push_back({.time_s = i * 1.0, .running = i * 2.0});
  CHECK(thinned_timeline(points).size() == 10);
  CHECK(thinned_timeline({}).empty());

  points.clear();
  for (int i = 0; i <= 100'000; ++i) {
    points.push_back(
        {.time_s = i / 1e3, .running = i % 2 * 2.0, .waiting = i / 1e3, .kv_used_percent = 50});
  }
  const std::vector<TimelinePoint> kept = thinned_timeline(points);
  REQUIRE(kept.size() == kMaxTimelinePoints);
  CHECK(kept.front().time_s == 0);
  CHECK(kept.back().time_s == 100);
  for (std::size_t i = 0; i + 1 < kept.size(); ++i) {
    CHECK(kept[i].running == doctest::Approx(1).epsilon(0.01));
    CHECK(kept[i].kv_used_percent == doctest::Approx(50));
    CHECK(kept[i].waiting >= kept[i].time_s);
    CHECK(kept[i].waiting <= kept[i + 1].time_s);
  }
  // All at the same moment.
  std::vector<TimelinePoint> same(1000, {.time_s = 3, .running = 4});
  CHECK(thinned_timeline(same).size() == 2);
  CHECK(thinned_timeline(same).front().running == 4);
}

TEST_CASE("sizes of steps: every step is in the bin of its size, bins are few") {
  CHECK(size_histogram({}).empty());
  const std::vector<SizeBin> exact = size_histogram({{4, 2}, {2, 1}, {5, 1}});
  REQUIRE(exact.size() == 4);
  CHECK(exact[0].first == 2);
  CHECK(exact[0].num_steps == 1);
  CHECK(exact[1].num_steps == 0);
  CHECK(exact[2].num_steps == 2);
  CHECK(exact[3].last == 5);

  std::map<std::int32_t, std::int64_t> many;
  for (std::int32_t size = 1; size <= 1024; ++size) many[size] = 1;
  const std::vector<SizeBin> bins = size_histogram(many);
  CHECK(bins.size() <= kMaxSizeBins);
  std::int64_t total = 0;
  for (std::size_t i = 0; i < bins.size(); ++i) {
    CHECK(bins[i].num_steps == std::min(bins[i].last, 1024) - bins[i].first + 1);
    if (i > 0) CHECK(bins[i].first == bins[i - 1].last + 1);
    total += bins[i].num_steps;
  }
  CHECK(total == 1024);
}

TEST_CASE("a timeline as JSON") {
  const auto json = timeline_json({{.time_s = 0.1234567, .running = 1, .waiting = 2}}, false);
  CHECK(json.at("time_s")[0] == 0.123457);
  CHECK(json.at("running")[0] == 1.0);
  CHECK(!json.contains("kv_used_percent"));
  CHECK(timeline_json({}, true).at("kv_used_percent").empty());
}

}  // namespace llmrun
