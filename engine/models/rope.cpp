#include "engine/models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/core/error.h"

namespace llmrun {
namespace {

// Low frequencies are divided by `factor`, high ones kept, those between blended.
// Source: transformers _compute_llama3_parameters.
void scale_llama3(const RopeConfig& rope, std::vector<float>& frequencies) {
  const auto length = static_cast<double>(rope.original_max_positions);
  const auto factor = static_cast<float>(rope.factor);
  const auto low = static_cast<float>(rope.low_freq_factor);
  const auto range = static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
  for (float& frequency : frequencies) {
    const float wavelength = static_cast<float>(2.0 * std::numbers::pi) / frequency;
    if (wavelength < static_cast<float>(length / rope.high_freq_factor)) continue;
    if (wavelength > static_cast<float>(length / rope.low_freq_factor)) {
      frequency /= factor;
      continue;
    }
    const float smooth = (static_cast<float>(length) / wavelength - low) / range;
    frequency = (1.0F - smooth) * frequency / factor + smooth * frequency;
  }
}

// Dimensions that turn often within the trained length keep their frequency, those that turn rarely
// are interpolated. Source: transformers _compute_yarn_parameters.
void scale_yarn(const RopeConfig& rope, std::int32_t rotary_dim, std::vector<float>& frequencies) {
  const auto dimension_of = [&](double num_rotations) {
    const auto length = static_cast<double>(rope.original_max_positions);
    return rotary_dim * std::log(length / (num_rotations * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(rope.theta));
  };
  double low = dimension_of(rope.beta_fast);
  double high = dimension_of(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, rotary_dim - 1.0);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float position =
        (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float extrapolated = 1.0F - std::clamp(position, 0.0F, 1.0F);
    const float interpolated = frequencies[i] / static_cast<float>(rope.factor);
    frequencies[i] = interpolated * (1.0F - extrapolated) + frequencies[i] * extrapolated;
  }
}

// A longer wavelength base for contexts beyond the trained length: NTK-aware scaling.
// Source: transformers _compute_dynamic_ntk_parameters.
double dynamic_theta(const RopeConfig& rope, std::int32_t rotary_dim, std::int64_t num_positions) {
  if (num_positions <= rope.original_max_positions || rotary_dim <= 2) return rope.theta;
  const double length =
      static_cast<double>(num_positions) / static_cast<double>(rope.original_max_positions);
  const double dim = rotary_dim;
  return rope.theta * std::pow(rope.factor * length - (rope.factor - 1.0), dim / (dim - 2.0));
}

// What each wavelength is multiplied by; nothing where the scaling is another.
// Source: transformers _compute_longrope_parameters.
const std::vector<double>* longrope_factors(const RopeConfig& rope, std::int64_t num_positions) {
  if (rope.scaling != RopeScaling::kLongRope) return nullptr;
  const bool is_long = num_positions > rope.original_max_positions;
  return is_long ? &rope.long_factors : &rope.short_factors;
}

}  // namespace

std::vector<float> inverse_frequencies(const RopeConfig& rope, std::int32_t rotary_dim,
                                       std::int64_t num_positions) {
  LLMRUN_CHECK(rotary_dim > 0 && rotary_dim % 2 == 0);
  const double theta = rope.scaling == RopeScaling::kDynamic
                           ? dynamic_theta(rope, rotary_dim, num_positions)
                           : rope.theta;
  std::vector<float> frequencies(static_cast<std::size_t>(rotary_dim / 2));
  const std::vector<double>* factors = longrope_factors(rope, num_positions);
  LLMRUN_CHECK(factors == nullptr || factors->size() == frequencies.size());
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
    const float factor = factors == nullptr ? 1.0F : static_cast<float>((*factors)[i]);
    frequencies[i] = 1.0F / (factor * std::pow(static_cast<float>(theta), exponent));
  }
  switch (rope.scaling) {
    case RopeScaling::kNone:
    case RopeScaling::kDynamic:
    case RopeScaling::kLongRope: break;
    case RopeScaling::kLinear:
      for (float& frequency : frequencies) frequency /= static_cast<float>(rope.factor);
      break;
    case RopeScaling::kLlama3: scale_llama3(rope, frequencies); break;
    case RopeScaling::kYarn: scale_yarn(rope, rotary_dim, frequencies); break;
  }
  return frequencies;
}

std::vector<float> make_rope_table(const RopeConfig& rope, std::int32_t rotary_dim,
                                   std::int64_t max_positions) {
  const std::vector<float> frequencies = inverse_frequencies(rope, rotary_dim, max_positions);
  const std::size_t half = frequencies.size();
  std::vector<float> table(static_cast<std::size_t>(max_positions) * 2 * half);
  for (std::size_t position = 0; position < static_cast<std::size_t>(max_positions); ++position) {
    float* row = table.data() + position * 2 * half;
    for (std::size_t i = 0; i < half; ++i) {
      // The product is rounded to float32, as in transformers; only its cos and sin are exact.
      const float angle = static_cast<float>(position) * frequencies[i];
      row[i] = static_cast<float>(std::cos(double{angle}) * rope.attention_factor);
      row[half + i] = static_cast<float>(std::sin(double{angle}) * rope.attention_factor);
    }
  }
  return table;
}

}  // namespace llmrun
