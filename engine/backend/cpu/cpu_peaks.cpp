#include "engine/backend/cpu/cpu_peaks.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "engine/backend/cpu/cpu_memory.h"
#include "kernels/cpu/cpu_kernels.h"

namespace llmrun {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Best of `amount` / time over passes of `pass`, which go on for `seconds`, at least three.
double best_rate(double amount, double seconds, const std::function<void()>& pass) {
  pass();  // wakes the threads and touches the memory
  double best = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int passes = 0; passes < 3 || seconds_since(start) < seconds; ++passes) {
    const auto begin = std::chrono::steady_clock::now();
    pass();
    best = std::max(best, amount / seconds_since(begin));
  }
  return best;
}

double measure_flops(ThreadPool& pool, double (*multiply)(std::int64_t), double seconds) {
  const auto begin = std::chrono::steady_clock::now();
  constexpr std::int64_t kTrialIterations = 100000;
  const double flops_per_iteration =
      multiply(kTrialIterations) / static_cast<double>(kTrialIterations);
  const double trial_s = seconds_since(begin);
  // Passes of about 5 ms: long enough for the start of a loop not to count.
  const auto iterations = std::max<std::int64_t>(
      1000, static_cast<std::int64_t>(static_cast<double>(kTrialIterations) * 0.005 / trial_s));
  const double amount = flops_per_iteration * static_cast<double>(iterations) * pool.num_threads();
  return best_rate(amount, seconds, [&] {
    pool.parallel_for(pool.num_threads(),
                      [&](std::int64_t, std::int32_t) { multiply(iterations); });
  });
}

double measure_read(ThreadPool& pool, const kernels::PeakKernels& kernels, double seconds) {
  constexpr std::int64_t kMebibyte = std::int64_t{1} << 20;
  const CpuInfo info = read_cpu_info();
  const std::int64_t wanted = std::min({8 * std::max(info.last_cache_bytes, 32 * kMebibyte),
                                        1024 * kMebibyte, info.available_memory_bytes / 4});
  const std::int64_t num_bytes = std::max(wanted, 64 * kMebibyte);
  HostBuffer buffer(static_cast<std::size_t>(num_bytes));
  const std::int64_t count = num_bytes / static_cast<std::int64_t>(sizeof(float));
  constexpr std::int64_t kGrain = kMebibyte / 4;  // floats: 1 MiB a task
  float* data = buffer.as<float>();
  pool.parallel_ranges(count, kGrain, [&](std::int64_t begin, std::int64_t end, std::int32_t) {
    std::fill(data + begin, data + end, 1.0F);
  });
  std::vector<float> sums(static_cast<std::size_t>(pool.num_threads()) * 16);
  return best_rate(static_cast<double>(num_bytes), seconds, [&] {
    pool.parallel_ranges(
        count, kGrain, [&](std::int64_t begin, std::int64_t end, std::int32_t thread) {
          sums[static_cast<std::size_t>(thread) * 16] += kernels.read(data + begin, end - begin);
        });
  });
}

}  // namespace

CpuPeaks measure_cpu_peaks(ThreadPool& pool, CpuIsa isa, double seconds) {
  const kernels::PeakKernels& kernels = kernels::cpu_kernels(isa).peak;
  CpuPeaks peaks;
  peaks.read_bytes_per_s = measure_read(pool, kernels, seconds / 2);
  peaks.f32_flops_per_s = measure_flops(pool, kernels.multiply_f32, seconds / 4);
  peaks.bf16_flops_per_s = measure_flops(pool, kernels.multiply_bf16, seconds / 4);
  return peaks;
}

CpuPeaks measure_cpu_peaks(std::int32_t num_threads, CpuIsa isa, double seconds) {
  ThreadPool pool({.num_threads = num_threads});
  return measure_cpu_peaks(pool, isa, seconds);
}

}  // namespace llmrun
