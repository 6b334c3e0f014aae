// What the files of a checkpoint hold for its architecture, without reading the weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/models/model_config.h"
#include "engine/weights/model_location.h"

namespace llmrun {

struct CheckpointSummary {
  DType dtype = DType::kF32;         // of most weights
  std::uint64_t num_bytes = 0;       // of all tensors
  std::vector<std::string> missing;  // tensors the architecture needs; loading would fail
  std::vector<std::string> unused;   // tensors it has no use for
  std::vector<std::string> notes;    // what else is odd about the files
};

// Throws Error(kModel) for files that cannot be read. REQUIRES: location is a folder.
CheckpointSummary summarize_checkpoint(const ModelLocation& location, const ModelConfig& config,
                                       bool allow_symlinks);

}  // namespace llmrun
