#include "tools/kernel_bench/bench.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include <fmt/format.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/cpu/cpu_peaks.h"
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/core/cpu_info.h"
#include "engine/core/error.h"
#include "engine/core/float16.h"

namespace llmrun {
namespace {

// More than the second-level cache of any GPU, and weights enough for products to be tuned as those
// of a model are.
constexpr double kColdGpuBytes = 512.0 * 1024 * 1024;

// Of one sample() in the engine.
constexpr std::int64_t kMaxLogitsRows = 1024;

CpuIsa parse_isa(const std::string& name) {
  if (name == "best") return best_cpu_isa();
  const std::optional<CpuIsa> isa = parse_cpu_isa(name);
  if (isa.has_value()) return *isa;
  throw Error(ErrorKind::kUsage,
              "--isa " + name + ": one of best, portable, avx2, avx512bf16, amx");
}

DType parse_dtype(const std::string& name) {
  if (name == "bf16") return DType::kBf16;
  if (name == "f32") return DType::kF32;
  throw Error(ErrorKind::kUsage, "--dtype " + name + ": one of bf16, f32");
}

bool choose_gpu(const KernelBenchOptions& options) {
  if (options.device == "cpu") return false;
  const std::string problem = cuda_unavailable_reason();
  if (problem.empty()) return true;
  if (options.device == "cuda") throw Error(ErrorKind::kUsage, "--device cuda: " + problem);
  fmt::print(stderr, "device: cpu ({})\n", problem);
  return false;
}

// Fills `tensor` with `values` over and over.
template <typename T>
void copy_pattern(Backend& backend, const Tensor& tensor, const std::vector<T>& values) {
  const auto size = static_cast<std::int64_t>(values.size());
  for (std::int64_t begin = 0; begin < tensor.num_elements(); begin += size) {
    const std::int64_t count = std::min(size, tensor.num_elements() - begin);
    backend.copy_to_device(Tensor(tensor.as<T>() + begin, tensor.dtype(), {count}), values.data());
  }
}

}  // namespace

KernelBench::KernelBench(const KernelBenchOptions& options)
    : options_(options),
      dtype_(parse_dtype(options.dtype)),
      is_gpu_(choose_gpu(options)),
      model_(find_model_shape(!options.model_shape.empty() ? options.model_shape
                              : is_gpu_                    ? "qwen2-7b"
                                                           : "qwen2.5-0.5b")) {
  if (options_.num_tokens.empty()) {
    options_.num_tokens = is_gpu_ ? std::vector<std::int64_t>{1, 8, 25, 64, 256, 1024}
                                  : std::vector<std::int64_t>{1, 8, 25, 64, 512};
  }
  if (is_gpu_) {
    open_gpu();
  } else {
    open_cpu();
  }
}

void KernelBench::open_cpu() {
  const CpuIsa isa = parse_isa(options_.isa);
  const CpuPeaks peaks = measure_cpu_peaks(options_.num_threads, isa);
  limits_ = {.read_bytes_per_s = peaks.read_bytes_per_s,
             .f32_flops_per_s = peaks.f32_flops_per_s,
             .bf16_flops_per_s = peaks.bf16_flops_per_s};
  backend_ = make_cpu_backend({.num_threads = options_.num_threads, .isa = isa});
  has_amx_ = isa == CpuIsa::kAmx;
  product_input_dtype_ =
      backend_->linear_input_dtype(*backend_->make_random_linear(64, 64, false, dtype_, 1.0F, 1));
  const CpuInfo info = read_cpu_info();
  cold_bytes_ =
      std::min(2.0 * static_cast<double>(std::max<std::int64_t>(info.last_cache_bytes, 1 << 25)),
               static_cast<double>(info.available_memory_bytes) / 4);
}

void KernelBench::open_gpu() {
  if (options_.isa != "best" || options_.num_threads != 0) {
    throw Error(ErrorKind::kUsage, "--isa and --threads are for --device cpu");
  }
  backend_ = make_cuda_backend({.dtype = dtype_});
  product_input_dtype_ = backend_->activation_dtype();
  const DeviceLimits limits = backend_->measure_limits(dtype_);
  limits_.read_bytes_per_s = limits.read_bytes_per_second;
  (dtype_ == DType::kBf16 ? limits_.bf16_flops_per_s : limits_.f32_flops_per_s) =
      limits.multiply_flops_per_second;
  cold_bytes_ = std::min(kColdGpuBytes, static_cast<double>(backend_->free_bytes()) / 4);
}

std::int64_t KernelBench::most_tokens() const {
  return *std::max_element(options_.num_tokens.begin(), options_.num_tokens.end());
}

double KernelBench::product_flops_per_s() const {
  return dtype_ == DType::kBf16 ? limits_.bf16_flops_per_s : limits_.f32_flops_per_s;
}

double KernelBench::attention_flops_per_s(bool is_prompt) const {
  return is_gpu_ || (is_prompt && has_amx_) ? product_flops_per_s() : limits_.f32_flops_per_s;
}

bool KernelBench::wants(const Row& row) const {
  return options_.filter.empty() ||
         (row.kernel + " " + row.shape).find(options_.filter) != std::string::npos;
}

std::int64_t KernelBench::num_copies(double bytes) const {
  return static_cast<std::int64_t>(std::ceil(cold_bytes_ / bytes)) + 1;
}

bool KernelBench::has_room(double bytes) const {
  return bytes < static_cast<double>(backend_->free_bytes()) / 2;
}

DeviceTensor KernelBench::random_tensor(DType dtype, std::initializer_list<std::int64_t> shape) {
  DeviceTensor result = backend_->allocate_tensor(dtype, shape);
  constexpr std::int64_t kPatternElements = 1 << 20;
  std::vector<float> values(
      static_cast<std::size_t>(std::min(kPatternElements, result.tensor.num_elements())));
  std::mt19937 engine(1);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  for (float& value : values) value = uniform(engine);
  if (dtype == DType::kF32) {
    copy_pattern(*backend_, result.tensor, values);
  } else {
    LLMRUN_CHECK(dtype == DType::kBf16);
    std::vector<std::uint16_t> bits(values.size());
    std::transform(values.begin(), values.end(), bits.begin(), float_to_bf16);
    copy_pattern(*backend_, result.tensor, bits);
  }
  return result;
}

DeviceTensor KernelBench::random_ids(std::int64_t count, std::int64_t vocab_size) {
  DeviceTensor result = backend_->allocate_tensor(DType::kI32, {count});
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  std::mt19937 engine(1);
  for (std::int32_t& id : ids) {
    id = static_cast<std::int32_t>(engine() % static_cast<std::uint32_t>(vocab_size));
  }
  backend_->copy_to_device(result.tensor, ids.data());
  return result;
}

void KernelBench::measure(Row row, const StepInputs& inputs, std::int64_t num_copies,
                          const Call& call) {
  if (!is_gpu_) {
    row.timing = time_calls(*backend_, inputs, num_copies, options_.seconds, call);
  } else {
    // For all rows alike: the first one that sees a weight has its products tuned.
    backend_->prepare(
        {.max_num_tokens = std::max(static_cast<std::int32_t>(most_tokens()), inputs.num_tokens()),
         .max_num_sequences = inputs.num_sequences(),
         .max_num_slots = 1,
         .max_num_blocks = inputs.max_num_blocks,
         .max_logits_rows = static_cast<std::int32_t>(std::min(most_tokens(), kMaxLogitsRows)),
         .num_query_heads = static_cast<std::int32_t>(model_.num_query_heads),
         .vocab_size = model_.vocab_size,
         .intermediate_size = model_.intermediate_size,
         .kv_cache = {.num_layers = 1,
                      .block_size = kKvBlockSize,
                      .num_kv_heads = static_cast<std::int32_t>(model_.num_kv_heads),
                      .head_dim = static_cast<std::int32_t>(model_.head_dim),
                      .dtype = dtype_}});
    const double least_s = std::max(row.bytes / limits_.read_bytes_per_s,
                                    row.flops > 0 ? row.flops / row.peak_flops_per_s : 0.0);
    row.timing = time_steps(*backend_, inputs, num_copies, options_.seconds, least_s, call);
  }
  rows_.push_back(std::move(row));
}

std::int64_t num_kv_blocks(std::int64_t num_sequences, std::int64_t context) {
  return num_sequences * ((context + kKvBlockSize - 1) / kKvBlockSize) + 1;
}

StepInputs make_step(std::int64_t num_sequences, std::int64_t query_len, std::int64_t context) {
  StepInputs step;
  const std::int64_t blocks_each = (context + kKvBlockSize - 1) / kKvBlockSize;
  step.max_num_blocks = static_cast<std::int32_t>(blocks_each);
  step.block_tables.resize(static_cast<std::size_t>(num_sequences * blocks_each));
  std::iota(step.block_tables.begin(), step.block_tables.end(), 1);  // 0 is reserved
  std::shuffle(step.block_tables.begin(), step.block_tables.end(), std::mt19937(1));
  step.query_start_loc.push_back(0);
  for (std::int64_t s = 0; s < num_sequences; ++s) {
    for (std::int64_t position = context - query_len; position < context; ++position) {
      const std::int64_t entry = s * blocks_each + position / kKvBlockSize;
      const std::int64_t block = step.block_tables[static_cast<std::size_t>(entry)];
      step.token_ids.push_back(0);
      step.positions.push_back(static_cast<std::int32_t>(position));
      step.slot_mapping.push_back(block * kKvBlockSize + position % kKvBlockSize);
    }
    step.query_start_loc.push_back(step.num_tokens());
    step.seq_lens.push_back(static_cast<std::int32_t>(context));
    step.logits_indices.push_back(step.num_tokens() - 1);
  }
  return step;
}

}  // namespace llmrun
