// How far the loading of a model is, as log lines.
#pragma once

#include <functional>

#include "engine/engine_factory.h"
#include "tools/progress.h"

namespace llmrun {

// For create_engine(): a line a second while weights are loaded; none when quiet. `progress` must
// outlive the function.
std::function<void(LoadProgressReport)> log_loading(Progress& progress, bool quiet);

}  // namespace llmrun
