#include "tools/throughput/throughput_run.h"

#include <algorithm>
#include <set>

#include <doctest/doctest.h>

#include "engine/backend/cuda/graph_sizes.h"

namespace llmrun {
namespace {

Workload workload_of(std::size_t num_requests, std::int32_t output_len) {
  Workload workload;
  workload.requests.assign(num_requests, {{1, 2, 3}, output_len, 0});
  return workload;
}

// The sizes of the decode batches of requests that all begin at once.
std::set<std::int32_t> decode_batches(const Workload& workload) {
  std::set<std::int32_t> sizes;
  for (std::int32_t step = 2;; ++step) {
    const auto size = std::count_if(workload.requests.begin(), workload.requests.end(),
                                    [&](const auto& one) { return one.output_len >= step; });
    if (size == 0) return sizes;
    sizes.insert(static_cast<std::int32_t>(size));
  }
}

}  // namespace

TEST_CASE("a warm-up has a batch for every graph that its number of sequences can need") {
  for (const std::int32_t count : {1, 2, 3, 7, 9, 25, 64, 100, 129, 256, 300, 500, 1024}) {
    CAPTURE(count);
    const Workload warm =
        warm_up_workload(workload_of(static_cast<std::size_t>(count), 64), count, 100);
    REQUIRE(std::ssize(warm.requests) == count);
    std::set<std::int32_t> recorded;
    for (const std::int32_t size : decode_batches(warm)) {
      if (const auto graph = graph_size_for(size, count)) recorded.insert(*graph);
    }
    for (std::int32_t size = 1; size <= std::min(count, kLargestGraph); ++size) {
      const auto graph = graph_size_for(size, count);
      REQUIRE(graph);
      CHECK_MESSAGE(recorded.contains(*graph), *graph);
    }
  }
}

TEST_CASE("a warm-up has no more requests and no longer outputs than the workload") {
  const Workload warm = warm_up_workload(workload_of(20, 5), 100, 100);
  CHECK(warm.requests.size() == 20);
  for (const WorkloadRequest& request : warm.requests) CHECK(request.output_len <= 5);
  CHECK(warm_up_workload(workload_of(20, 5), 3, 100).requests.size() == 3);
}

}  // namespace llmrun
