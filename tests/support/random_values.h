// Inputs of products and attention.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "engine/core/float16.h"

namespace llmrun::testing {

// Normal values that bf16 holds exactly, so that rounding them changes nothing.
inline std::vector<float> random_values(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = bf16_to_float(float_to_bf16(normal(engine)));
  return values;
}

}  // namespace llmrun::testing
