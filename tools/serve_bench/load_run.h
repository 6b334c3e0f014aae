// Puts a load on a target and keeps what happened to each request. Judges nothing; that is the
// report's matter (tools/serve_bench/serving_metrics.h).
//
// Deadlines are absolute: a request that is sent late does not delay those after it, and its
// lateness counts as time in the client's queue.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "tools/api_client/send_queue.h"
#include "tools/progress.h"
#include "tools/serve_bench/bench_target.h"

namespace llmrun {

struct LoadOptions {
  std::vector<double> arrivals_s;                               // one for each request, ascending
  double duration_s = std::numeric_limits<double>::infinity();  // then no more are sent
  SendLimits limits = {};
  // 0: go on; 1: send nothing more; 2: give up what is under way, too. Asked now and then.
  std::function<int()> stop_level = nullptr;
  double drain_timeout_s = 0;  // at stop level 1, before it becomes 2
  // Share of the KV cache in use, asked for now and then; empty where it is not known.
  std::function<double()> kv_usage = {};
};

// Times in seconds since the run's start.
struct RequestRecord {
  double arrival_s = 0;  // as scheduled
  double sent_s = 0;     // to the target, the first time
  double ended_s = 0;
  std::vector<double> piece_times_s;
  std::vector<std::int32_t> piece_tokens;  // of each piece; 0: not told
  std::int32_t num_attempts = 0;           // 0: never sent
  BenchOutcome outcome;

  bool was_sent() const { return num_attempts > 0; }
  bool succeeded() const { return was_sent() && outcome.failure.empty(); }
};

struct KvUsage {
  double time_s = 0;
  double share = 0;  // 0 to 1
};

struct LoadMeasurement {
  std::vector<RequestRecord> records;  // in the order of the requests
  std::vector<KvUsage> kv_usage;       // at even times; a few hundred at most
  double elapsed_s = 0;                // until the last request ended
  double thread_cpu_s = 0;             // of the thread that sent and, over HTTP, received
  bool was_stopped = false;            // by the stop level, before all was sent and answered
};

// Runs on `context`, which the target may use too, until every request is answered. `progress` may
// be null.
LoadMeasurement run_load(boost::asio::io_context& context, BenchTarget& target,
                         const std::vector<BenchRequest>& requests, const LoadOptions& options,
                         Progress* progress);

}  // namespace llmrun
