#pragma once

#include <cstdint>

namespace llmrun {

// Index into a vocabulary; valid ids are 0 <= id < vocab_size.
using TokenId = std::int32_t;

}  // namespace llmrun
