#include "engine/chat_template/render_budget.h"

#include <algorithm>

#include <fmt/format.h>

namespace llmrun::jinja {
namespace {

// The clock is read once in so many steps: about every 0.1 ms.
constexpr std::int64_t kStepsBetweenChecks = 2048;
// Copying this many bytes is counted as one step.
constexpr std::size_t kBytesPerStep = 256;
constexpr std::size_t kBytesPerItem = 32;
// What a string costs beside its characters.
constexpr std::size_t kBytesPerString = 64;

}  // namespace

RenderBudget::RenderBudget(const RenderLimits& limits)
    : limits_(limits),
      next_check_(std::min(kStepsBetweenChecks, limits.steps + 1)),
      deadline_(std::chrono::steady_clock::now() +
                std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                    std::chrono::duration<double>(limits.seconds))) {}

void RenderBudget::check_steps() {
  if (steps_ > limits_.steps) {
    throw RenderError(fmt::format("the template takes more than {} steps", limits_.steps));
  }
  if (std::chrono::steady_clock::now() > deadline_) {
    throw RenderError(fmt::format("the template takes longer than {} s", limits_.seconds));
  }
  next_check_ = std::min(steps_ + kStepsBetweenChecks, limits_.steps + 1);
}

void RenderBudget::charge_loop_iteration() {
  charge_steps();
  if (++loop_iterations_ > limits_.loop_iterations) {
    throw RenderError(
        fmt::format("the template's loops run more than {} times", limits_.loop_iterations));
  }
}

void RenderBudget::charge_string(std::size_t bytes) {
  if (bytes > limits_.string_bytes) {
    throw RenderError(fmt::format("the template makes a string of {} bytes, more than {}", bytes,
                                  limits_.string_bytes));
  }
  charge_bytes(bytes + kBytesPerString);
}

void RenderBudget::charge_items(std::size_t num_items) {
  // Counts beyond the limit are cut, so that the product fits.
  charge_bytes(std::min(num_items, limits_.allocated_bytes) * kBytesPerItem);
}

void RenderBudget::charge_bytes(std::size_t bytes) {
  allocated_bytes_ += bytes;
  if (allocated_bytes_ > limits_.allocated_bytes) {
    throw RenderError(
        fmt::format("the template makes more than {} bytes of values", limits_.allocated_bytes));
  }
  charge_steps(static_cast<std::int64_t>(bytes / kBytesPerStep));
}

void RenderBudget::fail_depth() {
  --depth_;  // the guard that called does not exist, so nobody else takes this level back
  throw RenderError(fmt::format("the template nests calls or values deeper than {} levels",
                                limits_.evaluation_depth));
}

}  // namespace llmrun::jinja
