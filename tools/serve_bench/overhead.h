// What the load generator itself costs, measured against a null engine over loopback HTTP: a server
// that answers every request at once. What a report says of a server is blurred by this much.
#pragma once

#include <cstdint>

namespace llmrun {

struct Overhead {
  std::int64_t num_requests = 0;
  double cpu_us_per_request = 0;  // of the client's thread, for sending and a first token
  double cpu_us_per_token = 0;    // for each further token
  double latency_ms_p50 = 0;      // of a request of one token, one at a time, the null server's
  double latency_ms_p99 = 0;      // time included
  double max_requests_per_s = 0;  // 16 at once, one token each
  // Paced at a constant rate.
  double paced_rate = 0;  // asked for
  double achieved_rate = 0;
  double late_ms_p50 = 0;  // sent after the scheduled arrival
  double late_ms_p99 = 0;
};

// Takes about `seconds`, at least half a second.
Overhead measure_overhead(double paced_rate, double seconds);

}  // namespace llmrun
