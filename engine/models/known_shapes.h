// Shapes of known models, for benchmarks with dummy weights: --model shape:NAME.
#pragma once

#include <string>
#include <vector>

#include "engine/models/model_config.h"

namespace llmrun {

// The configuration of the known model `name`, in any case. Throws Error(kUsage) that lists all
// names.
ModelConfig known_shape(const std::string& name);

// In the order of the table.
std::vector<std::string> known_shape_names();

}  // namespace llmrun
