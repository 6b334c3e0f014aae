// A limit of sampling parameters that validate() and those who fill in defaults share.
#pragma once

#include <cstdint>

namespace llmrun {

// n (or best_of) times max_tokens; reliability rule S01.
inline constexpr std::int64_t kMaxTokensOfAllSamples = 1'000'000;

}  // namespace llmrun
