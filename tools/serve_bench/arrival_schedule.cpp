#include "tools/serve_bench/arrival_schedule.h"

#include <cmath>
#include <random>

#include "engine/core/random.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kStream = 0x6172726976616c;  // "arrival": apart from the workload's seeds

}  // namespace

double ramp_rate(const ArrivalOptions& options, std::int64_t index, std::int64_t count) {
  const double progress = static_cast<double>(index) / static_cast<double>(count);
  const double start = options.ramp_up_start_rps;
  const double end = options.ramp_up_end_rps;
  if (options.ramp_up_strategy == "exponential") return start * std::pow(end / start, progress);
  return start + (end - start) * progress;
}

std::vector<double> make_arrivals(const ArrivalOptions& options, std::int64_t count,
                                  std::uint64_t seed) {
  std::vector<double> arrivals(static_cast<std::size_t>(count), 0.0);
  const bool ramps = !options.ramp_up_strategy.empty();
  if (!ramps && std::isinf(options.request_rate)) return arrivals;
  std::mt19937_64 generator(derive_seed(seed, kStream));
  const bool is_constant = std::isinf(options.burstiness);
  std::gamma_distribution<double> unit_gap(is_constant ? 1 : options.burstiness,
                                           is_constant ? 1 : 1 / options.burstiness);
  double now_s = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double rate = ramps ? ramp_rate(options, i, count) : options.request_rate;
    now_s += (is_constant ? 1.0 : unit_gap(generator)) / rate;
    arrivals[static_cast<std::size_t>(i)] = now_s;
  }
  if (ramps || now_s <= 0) return arrivals;
  const double scale = static_cast<double>(count) / options.request_rate / now_s;
  for (double& arrival : arrivals) arrival *= scale;
  return arrivals;
}

}  // namespace llmrun
