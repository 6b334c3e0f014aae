// The figures of `llmrun throughput`: one row of kMetrics each.
#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "tools/throughput/throughput_report.h"

namespace llmrun {
namespace {

// What the steps of one kind needed and took.
struct Phase {
  StepWork work;
  double seconds = 0;
};

// One run, digested for the table below.
struct RunFacts {
  const CaseMeasurement& measurement;
  const RunMeasurement& run;
  const ReportContext& context;
  std::int64_t num_requests_done = 0;
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_output_tokens = 0;
  Phase prefill = {};  // steps with a prompt token, decoding ones beside it included
  Phase decode = {};   // steps that only decode
  double ideal_s = 0;

  std::int64_t num_decode_steps = 0;
  std::int64_t num_decode_rows = 0;  // of decode steps
  std::int64_t num_graph_steps = 0;
  double device_busy_s = 0;
  double device_idle_s = 0;

  double kv_reserved_mean_bytes = 0;  // over time
  double kv_reserved_peak_bytes = 0;
  double kv_used_mean_bytes = 0;

  double steady_output_tokens_per_s = 0;
};

using Value = std::optional<double>;

double per_second(std::int64_t count, const RunFacts& facts) {
  return static_cast<double>(count) / facts.run.elapsed_s;
}

Value percent(double part, double whole) {
  if (whole <= 0) return std::nullopt;
  return 100 * part / whole;
}

Value flops_percent(const Phase& phase, const RunFacts& facts) {
  return percent(phase.work.flops, phase.seconds * facts.context.limits.multiply_flops_per_second);
}

Value bandwidth_percent(const Phase& phase, const RunFacts& facts) {
  return percent(phase.work.bytes, phase.seconds * facts.context.limits.read_bytes_per_second);
}

// The device's counter moves every tenth of a second or so: of shorter runs it tells too little.
constexpr double kShortestMeasuredEnergy = 2;  // seconds

Value energy_joules(const RunFacts& facts) {
  if (facts.run.elapsed_s < kShortestMeasuredEnergy) return std::nullopt;
  const auto& first = facts.run.telemetry.front().energy_joules;
  const auto& last = facts.run.telemetry.back().energy_joules;
  if (!first || !last || facts.run.telemetry.size() < 2) return std::nullopt;
  return *last - *first;
}

// The smallest or largest of the sensor's readings while the run went on.
template <typename Field, typename Choose>
Value sensor(const RunFacts& facts, Field field, Choose choose) {
  Value result;
  for (const DeviceTelemetry& telemetry : facts.run.telemetry_during()) {
    const auto& reading = telemetry.*field;
    if (!reading) continue;
    const auto value = static_cast<double>(*reading);
    result = result ? choose(*result, value) : value;
  }
  return result;
}

double smaller(double a, double b) {
  return std::min(a, b);
}
double larger(double a, double b) {
  return std::max(a, b);
}

struct MetricDefinition {
  const char* group;
  const char* name;
  const char* unit;
  const char* definition;
  Value (*value)(const RunFacts&);
};

constexpr auto kMetrics = std::to_array<MetricDefinition>({
    // --- throughput ---
    {"throughput", "elapsed_s", "s",
     "from the arrival of the first request to the last output on the host; loading, warm-up and "
     "reading the dataset excluded",
     [](const RunFacts& f) -> Value { return f.run.elapsed_s; }},
    {"throughput", "requests_per_s", "requests/s", "finished requests / elapsed_s",
     [](const RunFacts& f) -> Value { return per_second(f.num_requests_done, f); }},
    {"throughput", "total_tokens_per_s", "tokens/s", "(prompt + output tokens) / elapsed_s",
     [](const RunFacts& f) -> Value {
       return per_second(f.num_prompt_tokens + f.num_output_tokens, f);
     }},
    {"throughput", "input_tokens_per_s", "tokens/s", "prompt tokens / elapsed_s",
     [](const RunFacts& f) -> Value { return per_second(f.num_prompt_tokens, f); }},
    {"throughput", "output_tokens_per_s", "tokens/s", "output tokens / elapsed_s",
     [](const RunFacts& f) -> Value { return per_second(f.num_output_tokens, f); }},
    {"throughput", "steady_output_tokens_per_s", "tokens/s",
     "output tokens / time between the first and the last step in which 90 % of the largest number "
     "of sequences decode: start and tail excluded",
     [](const RunFacts& f) -> Value {
       if (f.steady_output_tokens_per_s <= 0) return std::nullopt;
       return f.steady_output_tokens_per_s;
     }},

    // --- shares of what the device can do, measured in this run ---
    {"limits", "roofline_share_percent", "%",
     "least time of each of this run's steps (weights and KV read once, useful operations, kernels "
     "one after another, at the measured limits), summed, / elapsed_s",
     [](const RunFacts& f) -> Value {
       const double limit_s = f.prefill.work.limit_s + f.decode.work.limit_s;
       return limit_s > 0 ? percent(limit_s, f.run.elapsed_s) : std::nullopt;
     }},
    {"limits", "ideal_s", "s",
     "the same for the steps of an ideal schedule: all requests at once, continuous batching, this "
     "engine's --max-num-seqs and --max-num-batched-tokens, a paged KV cache of this size",
     [](const RunFacts& f) -> Value {
       if (f.ideal_s <= 0) return std::nullopt;
       return f.ideal_s;
     }},
    {"limits", "ideal_share_percent", "%", "ideal_s / elapsed_s",
     [](const RunFacts& f) -> Value {
       return f.ideal_s > 0 ? percent(f.ideal_s, f.run.elapsed_s) : std::nullopt;
     }},
    {"limits", "prefill_s", "s", "time of the steps with prompt tokens",
     [](const RunFacts& f) -> Value { return f.prefill.seconds; }},
    {"limits", "prefill_mfu_percent", "%",
     "useful operations of these steps / (prefill_s * measured multiply rate)",
     [](const RunFacts& f) -> Value { return flops_percent(f.prefill, f); }},
    {"limits", "prefill_mbu_percent", "%",
     "bytes these steps must read / (prefill_s * measured read bandwidth)",
     [](const RunFacts& f) -> Value { return bandwidth_percent(f.prefill, f); }},
    {"limits", "decode_s", "s", "time of the steps without prompt tokens",
     [](const RunFacts& f) -> Value { return f.decode.seconds; }},
    {"limits", "decode_mfu_percent", "%", "as prefill_mfu_percent, of decode steps",
     [](const RunFacts& f) -> Value { return flops_percent(f.decode, f); }},
    {"limits", "decode_mbu_percent", "%", "as prefill_mbu_percent, of decode steps",
     [](const RunFacts& f) -> Value { return bandwidth_percent(f.decode, f); }},

    // --- scheduling ---
    {"scheduling", "num_steps", "steps", "steps of the engine",
     [](const RunFacts& f) -> Value { return static_cast<double>(f.run.stats.num_steps); }},
    {"scheduling", "mean_decode_batch", "sequences", "sequences a decode step continues, mean",
     [](const RunFacts& f) -> Value {
       if (f.num_decode_steps == 0) return std::nullopt;
       return static_cast<double>(f.num_decode_rows) / static_cast<double>(f.num_decode_steps);
     }},
    {"scheduling", "padding_rows", "rows",
     "rows computed for nobody: padding of prompts and of CUDA graphs, and sequences that have ended",
     [](const RunFacts& f) -> Value {
       return static_cast<double>(f.run.stats.num_padding_tokens + f.run.stats.num_wasted_tokens);
     }},
    {"scheduling", "padding_percent", "%", "padding_rows / all rows computed",
     [](const RunFacts& f) -> Value {
       const EngineStats& stats = f.run.stats;
       return percent(static_cast<double>(stats.num_padding_tokens + stats.num_wasted_tokens),
                      static_cast<double>(stats.num_padding_tokens + stats.num_batched_tokens));
     }},
    {"scheduling", "num_preemptions", "times", "sequences that gave way and were computed again",
     [](const RunFacts& f) -> Value { return static_cast<double>(f.run.stats.num_preemptions); }},
    {"scheduling", "recomputed_tokens", "tokens", "tokens computed again after a preemption",
     [](const RunFacts& f) -> Value {
       return static_cast<double>(f.run.stats.num_recomputed_tokens);
     }},
    {"scheduling", "recomputed_percent", "%",
     "recomputed_tokens / tokens of prompts and outputs computed, again and for the first time",
     [](const RunFacts& f) -> Value { return 100 * f.run.stats.recompute_rate(); }},
    {"scheduling", "graph_steps_percent", "%", "steps replayed from a CUDA graph / num_steps",
     [](const RunFacts& f) -> Value {
       return percent(static_cast<double>(f.num_graph_steps),
                      static_cast<double>(f.run.stats.num_steps));
     }},
    {"scheduling", "device_idle_percent", "%",
     "time in which the device had no work between steps / time from its first work to its last, as "
     "the device's own clock has it",
     [](const RunFacts& f) -> Value {
       return percent(f.device_idle_s, f.device_idle_s + f.device_busy_s);
     }},

    // --- KV cache ---
    {"kv_cache", "kv_pool_bytes", "bytes", "size of the KV pool",
     [](const RunFacts& f) -> Value {
       return static_cast<double>(f.measurement.description.memory_plan.kv_pool_bytes);
     }},
    {"kv_cache", "kv_reserved_peak_bytes", "bytes", "blocks that sequences hold, at most",
     [](const RunFacts& f) -> Value { return f.kv_reserved_peak_bytes; }},
    {"kv_cache", "kv_reserved_mean_bytes", "bytes", "the same, mean over time",
     [](const RunFacts& f) -> Value { return f.kv_reserved_mean_bytes; }},
    {"kv_cache", "kv_used_mean_bytes", "bytes",
     "of them, keys and values of tokens of the sequences that the step computed, mean over time",
     [](const RunFacts& f) -> Value { return f.kv_used_mean_bytes; }},
    {"kv_cache", "kv_wasted_percent", "%",
     "(kv_reserved_mean_bytes - kv_used_mean_bytes) / kv_reserved_mean_bytes",
     [](const RunFacts& f) -> Value {
       return percent(f.kv_reserved_mean_bytes - f.kv_used_mean_bytes, f.kv_reserved_mean_bytes);
     }},
    {"kv_cache", "prefix_hit_percent", "%",
     "prompt tokens found in the prefix cache / looked up; nothing when the cache is off",
     [](const RunFacts& f) -> Value {
       if (!f.measurement.description.config.enable_prefix_caching) return std::nullopt;
       return 100 * f.run.stats.prefix_hit_rate();
     }},

    // --- energy ---
    {"energy", "energy_j", "J",
     "the device's energy counter, end - start; idle power included; not of runs below 2 s, since the "
     "counter moves every tenth of a second or so",
     energy_joules},
    {"energy", "mean_power_w", "W", "energy_j / elapsed_s",
     [](const RunFacts& f) -> Value {
       const Value joules = energy_joules(f);
       if (!joules) return std::nullopt;
       return *joules / f.run.elapsed_s;
     }},
    {"energy", "j_per_output_token", "J/token", "energy_j / output tokens",
     [](const RunFacts& f) -> Value {
       const Value joules = energy_joules(f);
       if (!joules || f.num_output_tokens == 0) return std::nullopt;
       return *joules / static_cast<double>(f.num_output_tokens);
     }},
    {"energy", "min_clock_mhz", "MHz", "multiprocessor clock while the run went on, least",
     [](const RunFacts& f) { return sensor(f, &DeviceTelemetry::clock_mhz, smaller); }},
    {"energy", "max_clock_mhz", "MHz", "the same, most",
     [](const RunFacts& f) { return sensor(f, &DeviceTelemetry::clock_mhz, larger); }},
    {"energy", "max_power_w", "W", "power drawn, most",
     [](const RunFacts& f) { return sensor(f, &DeviceTelemetry::power_watts, larger); }},
    {"energy", "max_temperature_c", "C", "temperature, most",
     [](const RunFacts& f) { return sensor(f, &DeviceTelemetry::temperature_celsius, larger); }},
    {"energy", "price_per_million_output_tokens", "currency",
     "--price-per-hour / output tokens an hour, a million of them; loading and idle time excluded",
     [](const RunFacts& f) -> Value {
       if (f.context.price_per_hour <= 0 || f.num_output_tokens == 0) return std::nullopt;
       return f.context.price_per_hour / 3600 * 1e6 / per_second(f.num_output_tokens, f);
     }},
});

void add_tokens(RunFacts& facts) {
  for (std::size_t i = 0; i < facts.run.requests.size(); ++i) {
    const RequestMeasurement& request = facts.run.requests[i];
    if (!request.error.empty()) continue;
    facts.num_requests_done += 1;
    facts.num_prompt_tokens += std::ssize(facts.context.workload.requests[i].prompt_token_ids);
    facts.num_output_tokens += std::ssize(request.token_ids);
  }
}

void add_steps(RunFacts& facts, const Roofline& roofline) {
  const std::vector<StepRecord>& steps = facts.run.steps;
  const std::vector<double> seconds = step_seconds(steps, facts.run.start_s);
  const MemoryPlanInputs& plan = facts.measurement.description.memory_plan.inputs;
  const auto token_bytes = static_cast<double>(plan.bytes_per_token);
  const double block_bytes = token_bytes * plan.block_size;
  double total_s = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const StepRecord& step = steps[i];
    Phase& phase = step.has_prefill() ? facts.prefill : facts.decode;
    phase.work += roofline.work(step);
    phase.seconds += seconds[i];
    if (!step.has_prefill()) {
      facts.num_decode_steps += 1;
      facts.num_decode_rows += step.num_decode_sequences;
    }
    facts.num_graph_steps += step.replayed_graph ? 1 : 0;
    facts.device_busy_s += step.device_busy_s;
    if (i > 0) facts.device_idle_s += step.device_idle_s;

    const double reserved = static_cast<double>(step.kv_blocks_used) * block_bytes;
    const double used = std::min(reserved, static_cast<double>(step.num_kv_tokens) * token_bytes);
    facts.kv_reserved_peak_bytes = std::max(facts.kv_reserved_peak_bytes, reserved);
    facts.kv_reserved_mean_bytes += reserved * seconds[i];
    facts.kv_used_mean_bytes += used * seconds[i];
    total_s += seconds[i];
  }
  if (total_s > 0) {
    facts.kv_reserved_mean_bytes /= total_s;
    facts.kv_used_mean_bytes /= total_s;
  }
}

void add_steady_rate(RunFacts& facts) {
  constexpr double kFullShare = 0.9;
  const std::vector<StepRecord>& steps = facts.run.steps;
  std::int32_t largest = 0;
  for (const StepRecord& step : steps) largest = std::max(largest, step.num_decode_sequences);
  const auto is_full = [&](const StepRecord& step) {
    return step.num_decode_sequences > 0 && step.num_decode_sequences >= kFullShare * largest;
  };
  const auto first = std::find_if(steps.begin(), steps.end(), is_full);
  if (first == steps.end()) return;
  const auto last = std::find_if(steps.rbegin(), steps.rend(), is_full).base() - 1;
  std::int64_t num_tokens = 0;
  for (auto step = first + 1; step <= last; ++step) num_tokens += step->num_sampled_rows;
  const double seconds = last->collected_s - first->collected_s;
  if (seconds > 0) facts.steady_output_tokens_per_s = static_cast<double>(num_tokens) / seconds;
}

double ideal_seconds(const CaseMeasurement& measurement, const ReportContext& context,
                     const Roofline& roofline) {
  std::vector<std::pair<std::int64_t, std::int64_t>> lengths;
  for (const WorkloadRequest& request : context.workload.requests) {
    lengths.emplace_back(std::ssize(request.prompt_token_ids), request.output_len);
  }
  const EngineConfig& config = measurement.description.config;
  return roofline.ideal_seconds(
      lengths, {.max_num_seqs = config.max_num_seqs,
                .max_num_batched_tokens = config.max_num_batched_tokens,
                .kv_capacity_tokens = measurement.description.memory_plan.kv_pool_tokens});
}

}  // namespace

Roofline make_roofline(const EngineDescription& engine, const ReportContext& context) {
  const ModelConfig& model = context.model;
  return Roofline(
      {.num_layers = model.num_layers,
       .hidden_size = model.hidden_size,
       .intermediate_size = model.intermediate_size,
       .num_query_heads = model.num_query_heads,
       .num_kv_heads = model.num_kv_heads,
       .head_dim = model.head_dim,
       .vocab_size = model.vocab_size,
       .has_qkv_bias = model.attention_bias || model.architecture.starts_with("Qwen2"),
       .weight_bytes_per_element = static_cast<std::int64_t>(dtype_bytes(engine.dtype)),
       .kv_bytes_per_element = static_cast<std::int64_t>(dtype_bytes(engine.kv_cache_dtype))},
      {.bytes_per_s = context.limits.read_bytes_per_second,
       .flops_per_s = context.limits.multiply_flops_per_second});
}

std::vector<Metric> measure_metrics(const CaseMeasurement& measurement,
                                    const ReportContext& context) {
  const Roofline roofline = make_roofline(measurement.description, context);
  const double ideal_s = ideal_seconds(measurement, context, roofline);
  std::vector<Metric> metrics;
  metrics.reserve(kMetrics.size());
  for (const MetricDefinition& definition : kMetrics) {
    metrics.push_back({.group = definition.group,
                       .name = definition.name,
                       .unit = definition.unit,
                       .definition = definition.definition,
                       .samples = {},
                       .statistics = {}});
  }
  for (const RunMeasurement& run : measurement.runs) {
    RunFacts facts{.measurement = measurement, .run = run, .context = context};
    facts.ideal_s = ideal_s;
    add_tokens(facts);
    add_steps(facts, roofline);
    add_steady_rate(facts);
    for (std::size_t i = 0; i < kMetrics.size(); ++i) {
      if (const Value value = kMetrics[i].value(facts)) metrics[i].samples.push_back(*value);
    }
  }
  for (Metric& metric : metrics) metric.statistics = summarize(metric.samples);
  return metrics;
}

std::vector<LatencyMetric> measure_latencies(const CaseMeasurement& measurement) {
  constexpr double kMilliseconds = 1000;
  std::vector<double> queue, ttft, tpot, itl, e2el;
  for (const RunMeasurement& run : measurement.runs) {
    for (const RequestMeasurement& request : run.requests) {
      const std::vector<double>& times = request.token_times_s;
      if (times.empty()) continue;
      queue.push_back(request.first_scheduled_s * kMilliseconds);
      ttft.push_back(times.front() * kMilliseconds);
      e2el.push_back(times.back() * kMilliseconds);
      if (times.size() < 2) continue;
      tpot.push_back((times.back() - times.front()) * kMilliseconds /
                     static_cast<double>(times.size() - 1));
      for (std::size_t i = 1; i < times.size(); ++i) {
        itl.push_back((times[i] - times[i - 1]) * kMilliseconds);
      }
    }
  }
  const auto latency = [](const char* name, const char* definition, std::vector<double> samples) {
    std::sort(samples.begin(), samples.end());
    CumulativeShares cdf = cumulative_shares(samples);
    return LatencyMetric{name, definition, distribution_of(std::move(samples)), std::move(cdf)};
  };
  return {latency("queue_ms", "first scheduled - arrival; all requests arrive when the run starts",
                  std::move(queue)),
          latency("ttft_ms", "first token's id on the host - arrival, waiting included",
                  std::move(ttft)),
          latency("tpot_ms",
                  "of each request with two tokens or more: (last token - first token) / (tokens - "
                  "1); every request weighs the same",
                  std::move(tpot)),
          latency("itl_ms", "each gap between tokens of a request; every token weighs the same",
                  std::move(itl)),
          latency("e2el_ms", "last token's id on the host - arrival", std::move(e2el))};
}

}  // namespace llmrun
