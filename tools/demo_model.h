// Where the demo model is: what runs when no --model is given.
#pragma once

#include <string>

namespace llmrun {

// `model`, or when it is empty the folder of the demo model: LLMRUN_DEMO_MODEL, datasets/demo/model
// beside or above the program, or where it was built from. Throws Error(kUsage) when there is none.
std::string model_or_demo(const std::string& model);

}  // namespace llmrun
