// The rows for people and for programs.
#pragma once

#include <string>

#include "tools/kernel_bench/bench.h"

namespace llmrun {

std::string kernels_as_markdown(KernelBench& bench);
std::string kernels_as_json(KernelBench& bench);

}  // namespace llmrun
