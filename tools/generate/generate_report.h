// What `llmrun generate` says on standard error about a run: before it, and at its end.
#pragma once

#include <string>

#include "engine/engine_factory.h"
#include "engine/sequence/sampling_params.h"
#include "tools/generate/generate_run.h"

namespace llmrun {

// Model, device, memory plan, notes and sampling parameters.
std::string opening_report(const EngineDescription& description, const SamplingParams& defaults);

// Answered requests and tokens by second over `seconds`, KV use, preemptions, prefix hits, and the
// first failure.
std::string closing_report(const GenerateProgress& progress, double seconds);

}  // namespace llmrun
