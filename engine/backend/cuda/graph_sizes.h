// The numbers of sequences for which decode steps are recorded as graphs. Steps of up to an eighth
// of padding at larger batches; none above kLargestGraph, where a step's work hides its launches.
#pragma once

#include <cstdint>
#include <optional>

namespace llmrun {

constexpr std::int32_t kLargestGraph = 512;

// The smallest size that holds `num_sequences`, or nothing when there is none up to `limit`.
constexpr std::optional<std::int32_t> graph_size_for(std::int32_t num_sequences,
                                                     std::int32_t limit) {
  if (num_sequences < 1 || num_sequences > kLargestGraph) return {};
  std::int32_t size = 0;
  if (num_sequences <= 2) {
    size = num_sequences;
  } else if (num_sequences <= 4) {
    size = 4;
  } else {
    const std::int32_t step = num_sequences <= 128 ? 8 : num_sequences <= 256 ? 16 : 32;
    size = (num_sequences + step - 1) / step * step;
  }
  if (size > limit) size = limit;
  if (size < num_sequences) return {};
  return size;
}

}  // namespace llmrun
