#include "engine/backend/cpu/sampling_bounds.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <numeric>

#include "engine/core/error.h"

namespace llmrun {
namespace {

// Appends the values of `logits` that are at least `bound` to scratch.values.
void append_values(const kernels::SamplingKernels& kernels, std::span<const float> logits,
                   float bound, SamplingScratch& scratch) {
  if (scratch.ids.size() < logits.size()) scratch.ids.resize(logits.size());
  const std::int64_t count = kernels.collect_at_least(
      scratch.ids.data(), logits.data(), static_cast<std::int64_t>(logits.size()), bound);
  for (const TokenId id : std::span(scratch.ids).first(static_cast<std::size_t>(count))) {
    scratch.values.push_back(logits[static_cast<std::size_t>(id)]);
  }
}

// A logit below which tokens cannot be in the nucleus, since all of them together weigh less than
// what the nucleus leaves out.
float lowest_in_nucleus(const SoftmaxScale& scale, float top_p, std::uint64_t total_weight,
                        std::size_t num_tokens) {
  const double left_out = (1.0 - static_cast<double>(top_p)) * static_cast<double>(total_weight);
  // What each may weigh; less the rounding of one target and of each weight.
  const double allowance = (left_out - 1.0) / static_cast<double>(num_tokens) - 0.5;
  if (allowance <= 0.0) return kMinusInfinity;
  // 1 % covers the rounding of z = (logit - max) / T.
  const double z = std::log(0.99 * std::ldexp(allowance, -kernels::kWeightBits));
  const double logit = static_cast<double>(scale.max) + z * static_cast<double>(scale.temperature);
  return std::min(std::nextafter(static_cast<float>(logit), kMinusInfinity), scale.max);
}

// The greatest value v such that the weights of all values >= v sum to `target` or more. Destroys
// its inputs. Each round finds the one of 1024 equal ranges of values that v is in.
float weighted_bound(std::vector<float>& values, std::vector<std::uint64_t>& weights,
                     std::uint64_t target) {
  constexpr std::size_t kFewValues = 32;
  constexpr std::size_t kNumRanges = 1024;
  std::uint64_t above = 0;  // weight of the values that are greater than all that are left
  for (;;) {
    const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
    const float top = *greatest;
    const float width = top - *least;
    const float scale = static_cast<float>(kNumRanges) / width;
    // A range too narrow or too wide to divide is left to the sort.
    if (values.size() <= kFewValues || !std::isfinite(scale) || scale == 0.0F) break;
    const auto range_of = [&](float value) {
      return std::min(static_cast<std::size_t>((top - value) * scale), kNumRanges - 1);
    };
    std::array<std::uint64_t, kNumRanges> range_weights{};
    for (std::size_t i = 0; i < values.size(); ++i)
      range_weights[range_of(values[i])] += weights[i];
    std::size_t range = 0;
    while (above + range_weights[range] < target) above += range_weights[range++];
    std::size_t num_kept = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (range_of(values[i]) != range) continue;
      values[num_kept] = values[i];
      weights[num_kept++] = weights[i];
    }
    values.resize(num_kept);
    weights.resize(num_kept);
  }
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
  for (const std::size_t i : order) {
    above += weights[i];
    if (above >= target) return values[i];
  }
  LLMRUN_CHECK(false && "the weights reach the target");
  return kMinusInfinity;
}

}  // namespace

float top_k_bound(const kernels::SamplingKernels& kernels, std::span<const float> logits,
                  std::int64_t k, SamplingScratch& scratch) {
  const auto num_kept = static_cast<std::size_t>(k);
  LLMRUN_CHECK(num_kept >= 1 && num_kept <= logits.size());
  // The k greatest so far, and those of one chunk that may displace them.
  const std::size_t chunk = std::max<std::size_t>(num_kept, 1024);
  std::vector<float>& values = scratch.values;
  values.clear();
  float bound = kMinusInfinity;
  for (std::size_t begin = 0; begin < logits.size(); begin += chunk) {
    append_values(kernels, logits.subspan(begin, std::min(chunk, logits.size() - begin)), bound,
                  scratch);
    if (values.size() < num_kept) continue;
    const auto last = values.begin() + (k - 1);
    std::nth_element(values.begin(), last, values.end(), std::greater<>());
    bound = *last;
    values.resize(num_kept);
  }
  return bound;
}

float top_p_bound(const kernels::SamplingKernels& kernels, std::span<const float> logits,
                  const SoftmaxScale& scale, float top_p, float bound, SamplingScratch& scratch) {
  const auto sum = [&](std::uint64_t* weights, std::span<const float> values) {
    return kernels.sum_weights(weights, values.data(), static_cast<std::int64_t>(values.size()),
                               scale.max, scale.inverse_temperature);
  };
  std::uint64_t total = 0;
  if (bound == kMinusInfinity) {
    total = sum(nullptr, logits);
    bound = lowest_in_nucleus(scale, top_p, total, logits.size());
  }
  scratch.values.clear();
  // Masked tokens are at -infinity and never candidates.
  append_values(kernels, logits, std::max(bound, std::numeric_limits<float>::lowest()), scratch);
  scratch.weights.resize(scratch.values.size());
  const std::uint64_t candidates_total = sum(scratch.weights.data(), scratch.values);
  if (total == 0) total = candidates_total;
  const double target = std::ceil(static_cast<double>(top_p) * static_cast<double>(total));
  return weighted_bound(scratch.values, scratch.weights,
                        std::max<std::uint64_t>(static_cast<std::uint64_t>(target), 1));
}

}  // namespace llmrun
