// What random tests have in common: episodes, each named by its seed; draws; and checks that throw,
// since a million assertions of the test framework would take longer than what they check.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include <doctest/doctest.h>
#include <fmt/format.h>

namespace llmrun::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSanitized = true;
#else
inline constexpr bool kIsSanitized = false;
#endif

struct Violation : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename... Arguments>
void require(bool condition, fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  if (!condition) throw Violation(fmt::format(format, std::forward<Arguments>(arguments)...));
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  // Uniform in [low, high].
  std::int32_t draw(std::int32_t low, std::int32_t high) {
    const auto span = static_cast<std::uint64_t>(high - low + 1);
    return low + static_cast<std::int32_t>(engine_() % span);
  }
  bool chance(std::int32_t percent) { return draw(1, 100) <= percent; }
  // One of them. REQUIRES: there is one.
  template <typename Container>
  auto& choose(Container& items) {
    return items.at(static_cast<std::size_t>(draw(0, static_cast<std::int32_t>(items.size()) - 1)));
  }

 private:
  std::mt19937_64 engine_;
};

// Runs episodes 1 to `count`, and fails with the seed of the first that throws.
// LLMRUN_TEST_SEED=<seed> runs that one alone, LLMRUN_TEST_EPISODES=<n> as many as n. Returns
// whether it ran `count` of them.
template <typename Episode>
bool run_episodes(std::uint64_t count, const Episode& run) {
  if (const char* seed = std::getenv("LLMRUN_TEST_SEED")) {
    run(std::stoull(seed));
    return false;
  }
  const char* wanted = std::getenv("LLMRUN_TEST_EPISODES");
  const std::uint64_t last = wanted != nullptr ? std::stoull(wanted) : count;
  for (std::uint64_t seed = 1; seed <= last; ++seed) {
    try {
      run(seed);
    } catch (const std::exception& error) {
      FAIL(fmt::format("LLMRUN_TEST_SEED={}: {}", seed, error.what()));
    }
  }
  return wanted == nullptr;
}

}  // namespace llmrun::testing
