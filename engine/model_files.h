// What a model's files hold, without reading its weights: for people.
#pragma once

#include <filesystem>
#include <optional>

#include "engine/engine_config.h"
#include "engine/models/checkpoint_summary.h"

namespace llmrun {

struct ModelFiles {
  std::filesystem::path folder;
  CheckpointSummary checkpoint;
};

// Nothing for a model with random weights. `model`: what describe_model() read of the same
// `config`. Throws Error(kModel) for files that cannot be read.
std::optional<ModelFiles> describe_model_files(const EngineConfig& config,
                                               const ModelConfig& model);

}  // namespace llmrun
