// Flags that users know from other engines' command lines and that are not here.
#pragma once

#include <optional>
#include <string>

namespace llmrun {

// What stands here for the flag `name` ("--enforce-eager") of vLLM, or why nothing does.
std::optional<std::string> foreign_flag_hint(const std::string& name);

}  // namespace llmrun
