// What one rendering of a template may consume. Templates come with checkpoints and are not
// trusted: every loop, string and list they build is charged here, and passing a limit is an error
// of that rendering. One budget serves one rendering, on one thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace llmrun::jinja {

struct RenderLimits {
  std::int64_t steps = 10'000'000;           // evaluated nodes; copied or compared data counts too
  std::int64_t loop_iterations = 1'000'000;  // of all loops together
  std::size_t output_bytes = 16U << 20;
  std::size_t string_bytes = 16U << 20;      // of one string
  std::size_t allocated_bytes = 256U << 20;  // of all strings and lists made, freed ones included
  std::int64_t range_length = 100'000;
  int call_depth = 64;         // macros within macros
  int evaluation_depth = 500;  // nested statements, expressions and values; bounds the stack
  double seconds = 2.0;
};

// Any failure while a template is rendered: a Python-like type error, an undefined variable, a
// passed limit, raise_exception(). The interpreter adds the place.
class RenderError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class RenderBudget {
 public:
  explicit RenderBudget(const RenderLimits& limits);

  const RenderLimits& limits() const { return limits_; }

  // All throw RenderError when a limit is passed.
  void charge_steps(std::int64_t steps = 1) {
    steps_ += steps;
    if (steps_ >= next_check_) check_steps();
  }
  void charge_loop_iteration();
  // A new string of that many bytes.
  void charge_string(std::size_t bytes);
  // A new list or dictionary with that many items.
  void charge_items(std::size_t num_items);

  // Bounds recursion, of the interpreter and of functions that walk nested values.
  class Depth {
   public:
    explicit Depth(RenderBudget& budget) : budget_(budget) {
      if (++budget_.depth_ > budget_.limits_.evaluation_depth) budget_.fail_depth();
    }
    ~Depth() { --budget_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    RenderBudget& budget_;
  };

 private:
  void check_steps();
  void charge_bytes(std::size_t bytes);
  [[noreturn]] void fail_depth();

  RenderLimits limits_;
  std::int64_t steps_ = 0;
  std::int64_t next_check_;
  std::int64_t loop_iterations_ = 0;
  std::size_t allocated_bytes_ = 0;
  int depth_ = 0;
  std::chrono::steady_clock::time_point deadline_;
};

}  // namespace llmrun::jinja
