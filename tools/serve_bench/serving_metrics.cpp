#include "tools/serve_bench/serving_metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/metrics/statistics.h"

namespace llmrun {
namespace {

constexpr double kSteadyRatio = 0.9;

// What is needed of one completed request.
struct Timeline {
  double arrival_s;
  double sent_s;
  double first_s;
  double last_s;
  std::int64_t num_prompt_tokens;
  std::int64_t num_output_tokens;

  double ttft_s() const { return first_s - arrival_s; }
  double e2el_s() const { return last_s - arrival_s; }
  double tpot_s() const {
    return num_output_tokens < 2 ? 0
                                 : (last_s - first_s) / static_cast<double>(num_output_tokens - 1);
  }
};

std::int64_t num_output_tokens(const RequestRecord& record) {
  if (record.outcome.num_output_tokens >= 0) return record.outcome.num_output_tokens;
  std::int64_t count = 0;
  for (const std::int32_t tokens : record.piece_tokens) count += std::max(tokens, 1);
  return count;
}

Timeline timeline_of(const RequestRecord& record, const BenchRequest& request, bool closed_loop) {
  return {.arrival_s = closed_loop ? record.sent_s : record.arrival_s,
          .sent_s = record.sent_s,
          .first_s = record.piece_times_s.empty() ? record.ended_s : record.piece_times_s.front(),
          .last_s = record.piece_times_s.empty() ? record.ended_s : record.piece_times_s.back(),
          .num_prompt_tokens = record.outcome.num_prompt_tokens >= 0
                                   ? record.outcome.num_prompt_tokens
                                   : std::ssize(*request.prompt_token_ids),
          .num_output_tokens = num_output_tokens(record)};
}

bool holds(const Timeline& timeline, const ServiceLevel& level) {
  return 1e3 * timeline.ttft_s() <= level.ttft_ms && 1e3 * timeline.tpot_s() <= level.tpot_ms &&
         1e3 * timeline.e2el_s() <= level.e2el_ms;
}

LatencyFigure figure_of(const char* name, const char* title, const char* label,
                        const char* definition, std::vector<double> seconds,
                        const std::vector<double>& percentiles) {
  LatencyFigure figure{.name = name, .title = title, .label = label, .definition = definition};
  for (double& sample : seconds) sample *= 1e3;
  std::sort(seconds.begin(), seconds.end());
  const Distribution distribution = distribution_of(seconds);
  figure.cdf = cumulative_shares(seconds);
  figure.count = distribution.count;
  figure.mean_ms = distribution.mean;
  figure.median_ms = distribution.p50;
  figure.std_ms = distribution.std;
  figure.max_ms = distribution.max;
  for (const double percentile : percentiles) {
    PercentileEstimate estimate{.percentile = percentile};
    if (!seconds.empty()) {
      estimate.value = quantile(seconds, percentile / 100);
      const auto [low, high] = quantile_interval_95(seconds, percentile / 100);
      estimate.low = low;
      estimate.high = high;
    }
    figure.percentiles.push_back(estimate);
  }
  return figure;
}

// Concurrency as steps: (time, requests under way from then on).
std::vector<std::pair<double, std::int64_t>> concurrency_steps(
    const std::vector<RequestRecord>& records) {
  std::map<double, std::int64_t> changes;
  for (const RequestRecord& record : records) {
    if (!record.was_sent()) continue;
    ++changes[record.sent_s];
    --changes[record.ended_s];
  }
  std::vector<std::pair<double, std::int64_t>> steps;
  steps.reserve(changes.size());
  std::int64_t count = 0;
  for (const auto& [time_s, change] : changes) steps.emplace_back(time_s, count += change);
  return steps;
}

// Tokens of a completed request by the time they came; where pieces do not say, each has its share
// of the total.
template <typename Add>
void for_each_piece(const RequestRecord& record, const Add& add) {
  const std::size_t count = record.piece_times_s.size();
  const std::int64_t told =
      std::accumulate(record.piece_tokens.begin(), record.piece_tokens.end(), std::int64_t{0});
  const double share =
      count == 0 ? 0 : static_cast<double>(num_output_tokens(record)) / static_cast<double>(count);
  for (std::size_t i = 0; i < count; ++i) {
    add(record.piece_times_s[i], told > 0 ? static_cast<double>(record.piece_tokens[i]) : share);
  }
}

void measure_tokens(const std::vector<RequestRecord>& records, ServingMetrics& metrics) {
  std::map<std::int64_t, double> tokens_of_second;
  std::int64_t num_pieces = 0;
  for (const RequestRecord& record : records) {
    if (!record.succeeded()) continue;
    num_pieces += std::ssize(record.piece_times_s);
    for_each_piece(record, [&](double time_s, double tokens) {
      tokens_of_second[static_cast<std::int64_t>(time_s)] += tokens;
    });
  }
  for (const auto& [second, tokens] : tokens_of_second) {
    metrics.peak_output_tokens_per_s = std::max(metrics.peak_output_tokens_per_s, tokens);
  }
  if (num_pieces > 0) {
    metrics.tokens_per_piece =
        static_cast<double>(metrics.num_output_tokens) / static_cast<double>(num_pieces);
  }
}

void measure_concurrency(const std::vector<RequestRecord>& records, ServingMetrics& metrics) {
  const auto steps = concurrency_steps(records);
  double area = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    metrics.peak_concurrency = std::max(metrics.peak_concurrency, steps[i].second);
    if (i > 0) {
      area += static_cast<double>(steps[i - 1].second) * (steps[i].first - steps[i - 1].first);
    }
  }
  if (metrics.duration_s <= 0) return;
  metrics.mean_concurrency = area / metrics.duration_s;

  SteadyWindow& window = metrics.steady;
  const double bound = kSteadyRatio * metrics.mean_concurrency;
  bool begun = false;
  for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
    if (static_cast<double>(steps[i].second) < bound) continue;
    if (!begun) window.start_s = steps[i].first;
    begun = true;
    window.end_s = steps[i + 1].first;
  }
  const double length_s = window.end_s - window.start_s;
  if (length_s <= 0) return;
  double window_area = 0;
  for (std::size_t i = 0; i + 1 < steps.size(); ++i) {
    const double from = std::max(steps[i].first, window.start_s);
    const double to = std::min(steps[i + 1].first, window.end_s);
    if (to > from) window_area += static_cast<double>(steps[i].second) * (to - from);
  }
  const auto is_inside = [&](double time_s) {
    return time_s >= window.start_s && time_s <= window.end_s;
  };
  double num_tokens = 0;
  double num_requests = 0;
  for (const RequestRecord& record : records) {
    if (!record.succeeded()) continue;
    if (is_inside(record.ended_s)) ++num_requests;
    for_each_piece(record, [&](double time_s, double tokens) {
      if (is_inside(time_s)) num_tokens += tokens;
    });
  }
  window.mean_concurrency = window_area / length_s;
  window.output_tokens_per_s = num_tokens / length_s;
  window.requests_per_s = num_requests / length_s;
  window.share_of_run = length_s / metrics.duration_s;
}

// Where the running and waiting requests and the KV cache stood whenever one of them changed.
void measure_timeline(const LoadMeasurement& measurement, bool is_closed_loop,
                      ServingMetrics& metrics) {
  struct Change {
    double time_s;
    std::int32_t running;
    std::int32_t waiting;
    double kv_share = -1;  // not told
  };
  std::vector<Change> changes;
  for (const RequestRecord& record : measurement.records) {
    if (!record.was_sent()) continue;
    changes.push_back({is_closed_loop ? record.sent_s : record.arrival_s, 0, 1});
    if (record.piece_times_s.empty()) {
      changes.push_back({record.ended_s, 0, -1});
    } else {
      changes.push_back({record.piece_times_s.front(), 1, -1});
      changes.push_back({record.ended_s, -1, 0});
    }
  }
  for (const KvUsage& sample : measurement.kv_usage) {
    changes.push_back({sample.time_s, 0, 0, sample.share});
  }
  std::stable_sort(changes.begin(), changes.end(),
                   [](const Change& a, const Change& b) { return a.time_s < b.time_s; });
  std::vector<TimelinePoint> points;
  TimelinePoint now;
  for (const Change& change : changes) {
    now.time_s = change.time_s;
    now.running += change.running;
    now.waiting += change.waiting;
    if (change.kv_share >= 0) now.kv_used_percent = 100 * change.kv_share;
    points.push_back(now);
  }
  metrics.timeline = thinned_timeline(points);
  metrics.has_kv_usage = !measurement.kv_usage.empty();
}

void count_failures(const std::vector<RequestRecord>& records, ServingMetrics& metrics) {
  std::map<std::string, FailureCount> by_reason;
  for (const RequestRecord& record : records) {
    if (!record.was_sent()) ++metrics.num_not_sent;
    metrics.num_retries += std::max(record.num_attempts - 1, 0);
    if (!record.was_sent() || record.succeeded()) continue;
    ++metrics.num_failed;
    FailureCount& failure = by_reason[record.outcome.failure];
    if (failure.count++ == 0) failure.first_message = record.outcome.message;
    failure.reason = record.outcome.failure;
  }
  for (auto& [reason, failure] : by_reason) metrics.failures.push_back(std::move(failure));
}

// Requests after the first, over the time between the first and the last.
double rate_of(std::vector<double> times_s) {
  if (times_s.size() < 2) return 0;
  std::sort(times_s.begin(), times_s.end());
  const double length_s = times_s.back() - times_s.front();
  return length_s <= 0 ? 0 : static_cast<double>(times_s.size() - 1) / length_s;
}

void measure_latencies(const std::vector<Timeline>& timelines, const LoadMeasurement& measurement,
                       const ServingOptions& options, ServingMetrics& metrics) {
  std::vector<double> ttft, tpot, itl, e2el, sent_ttft, sent_e2el;
  for (const Timeline& one : timelines) {
    ttft.push_back(one.ttft_s());
    e2el.push_back(one.e2el_s());
    if (one.num_output_tokens > 1) tpot.push_back(one.tpot_s());
    sent_ttft.push_back(one.first_s - one.sent_s);
    sent_e2el.push_back(one.last_s - one.sent_s);
  }
  std::vector<double> queue, queued_e2el;
  for (const RequestRecord& record : measurement.records) {
    if (!record.succeeded()) continue;
    const auto& times = record.piece_times_s;
    for (std::size_t i = 1; i < times.size(); ++i) itl.push_back(times[i] - times[i - 1]);
    queue.push_back(record.sent_s - record.arrival_s);
    queued_e2el.push_back((times.empty() ? record.ended_s : times.back()) - record.arrival_s);
  }
  const auto add = [&](const char* name, const char* title, const char* label,
                       const char* definition, std::vector<double> samples) {
    metrics.latencies.push_back(
        figure_of(name, title, label, definition, std::move(samples), options.percentiles));
  };
  const bool closed = options.is_closed_loop;
  add("ttft", "Time to First Token", "TTFT",
      closed ? "first token - sent" : "first token - scheduled arrival", std::move(ttft));
  add("tpot", "Time per Output Token (excl. 1st token)", "TPOT",
      "(last token - first token) / (output tokens - 1), a value a request of 2 tokens or more",
      std::move(tpot));
  add("itl", "Inter-token Latency", "ITL",
      "time between two pieces of an answer, of all requests together", std::move(itl));
  add("e2el", "End-to-end Latency", "E2EL",
      closed ? "last token - sent" : "last token - scheduled arrival", std::move(e2el));
  add("client_queue_time", "Client-side Queueing", "Client Queue Time", "sent - scheduled arrival",
      std::move(queue));
  add("e2el_including_client_queue", "Queue-inclusive End-to-end Latency", "Queue-inclusive E2EL",
      "last token - scheduled arrival", std::move(queued_e2el));
  add("ttft_from_send", "Time to First Token, from sending", "TTFT from sending",
      "first token - sent, as vLLM counts", std::move(sent_ttft));
  add("e2el_from_send", "End-to-end Latency, from sending", "E2EL from sending",
      "last token - sent, as vLLM counts", std::move(sent_e2el));
}

void measure_first_report(const std::vector<Timeline>& timelines, ServingMetrics& metrics) {
  if (timelines.empty()) return;
  for (const Timeline& one : timelines) {
    const auto num_output = static_cast<double>(std::max<std::int64_t>(one.num_output_tokens, 1));
    const double latency_s = one.last_s - one.arrival_s;
    metrics.average_latency_s += latency_s;
    metrics.average_latency_per_token_s +=
        latency_s / (static_cast<double>(one.num_prompt_tokens) + num_output);
    metrics.average_latency_per_output_token_s += latency_s / num_output;
  }
  const auto count = static_cast<double>(timelines.size());
  metrics.average_latency_s /= count;
  metrics.average_latency_per_token_s /= count;
  metrics.average_latency_per_output_token_s /= count;
}

}  // namespace

bool ServiceLevel::is_set() const {
  return std::isfinite(ttft_ms) || std::isfinite(tpot_ms) || std::isfinite(e2el_ms);
}

ServiceLevel parse_service_level(const std::vector<std::string>& terms) {
  ServiceLevel level;
  for (const std::string& term : terms) {
    const std::size_t colon = std::min(term.find(':'), term.size());
    const std::string name = term.substr(0, colon);
    const std::string number = term.substr(std::min(colon + 1, term.size()));
    double value = 0;
    const auto result = std::from_chars(number.data(), number.data() + number.size(), value);
    double* limit = name == "ttft"   ? &level.ttft_ms
                    : name == "tpot" ? &level.tpot_ms
                    : name == "e2el" ? &level.e2el_ms
                                     : nullptr;
    if (limit == nullptr || result.ec != std::errc() ||
        result.ptr != number.data() + number.size() || !(value > 0)) {
      throw Error(ErrorKind::kUsage,
                  fmt::format("--goodput: '{}': expected ttft:MS, tpot:MS or e2el:MS with "
                              "milliseconds above 0, separated by spaces",
                              term));
    }
    *limit = value;
  }
  return level;
}

const LatencyFigure& ServingMetrics::latency(const std::string& name) const {
  const auto found = std::find_if(latencies.begin(), latencies.end(),
                                  [&](const LatencyFigure& one) { return one.name == name; });
  LLMRUN_CHECK(found != latencies.end());
  return *found;
}

ServingMetrics measure_serving(const LoadMeasurement& measurement,
                               const std::vector<BenchRequest>& requests,
                               const ServingOptions& options) {
  ServingMetrics metrics;
  metrics.duration_s = measurement.elapsed_s;
  count_failures(measurement.records, metrics);
  std::vector<Timeline> timelines;
  std::vector<double> arrivals, sends;
  std::int64_t num_good = 0;
  for (std::size_t i = 0; i < measurement.records.size(); ++i) {
    const RequestRecord& record = measurement.records[i];
    if (record.was_sent()) {
      arrivals.push_back(record.arrival_s);
      sends.push_back(record.sent_s);
    }
    if (!record.succeeded()) continue;
    const Timeline one = timeline_of(record, requests[i], options.is_closed_loop);
    timelines.push_back(one);
    metrics.num_input_tokens += one.num_prompt_tokens;
    metrics.num_output_tokens += one.num_output_tokens;
    if (one.num_output_tokens < requests[i].output_len) ++metrics.num_short_outputs;
    if (one.num_prompt_tokens != std::ssize(*requests[i].prompt_token_ids)) {
      ++metrics.num_other_prompt_counts;
    }
    if (holds(one, options.goodput)) ++num_good;
  }
  metrics.num_completed = std::ssize(timelines);
  metrics.scheduled_rate = rate_of(std::move(arrivals));
  metrics.sent_rate = rate_of(std::move(sends));
  const auto num_sent = static_cast<double>(metrics.num_completed + metrics.num_failed);
  if (num_sent > 0) metrics.goodput_share = static_cast<double>(num_good) / num_sent;
  if (metrics.duration_s > 0) {
    const double duration_s = metrics.duration_s;
    metrics.requests_per_s = static_cast<double>(metrics.num_completed) / duration_s;
    metrics.goodput_per_s = static_cast<double>(num_good) / duration_s;
    metrics.output_tokens_per_s = static_cast<double>(metrics.num_output_tokens) / duration_s;
    metrics.total_tokens_per_s =
        static_cast<double>(metrics.num_input_tokens + metrics.num_output_tokens) / duration_s;
  }
  measure_tokens(measurement.records, metrics);
  measure_concurrency(measurement.records, metrics);
  measure_latencies(timelines, measurement, options, metrics);
  measure_first_report(timelines, metrics);
  measure_timeline(measurement, options.is_closed_loop, metrics);
  return metrics;
}

}  // namespace llmrun
