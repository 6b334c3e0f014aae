// A device with its limits, and the rows that were timed on it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/backend.h"
#include "tools/kernel_bench/model_shape.h"
#include "tools/kernel_bench/options.h"
#include "tools/kernel_bench/timing.h"

namespace llmrun {

// Measured in this run. 0: not measured.
struct BenchLimits {
  double read_bytes_per_s = 0;
  double f32_flops_per_s = 0;
  double bf16_flops_per_s = 0;
};

// What one timed operation moves and computes, and how long it took.
struct Row {
  std::string kernel;
  std::string shape;
  std::int64_t num_tokens = 0;
  double bytes = 0;
  double flops = 0;
  double peak_flops_per_s = 0;  // of the arithmetic it uses
  Timing timing{};
};

class KernelBench {
 public:
  explicit KernelBench(const KernelBenchOptions& options);

  const ModelShape& model() const { return model_; }
  const BenchLimits& limits() const { return limits_; }
  const std::vector<std::int64_t>& num_tokens() const { return options_.num_tokens; }
  std::int64_t most_tokens() const;
  Backend& backend() { return *backend_; }
  bool is_gpu() const { return is_gpu_; }
  DType dtype() const { return dtype_; }  // of weights and KV cache
  // Of what norms, attention and gated MLPs write for a product, where nothing has to be padded.
  DType product_input_dtype() const { return product_input_dtype_; }
  const std::string& dtype_name() const { return options_.dtype; }
  // Of matrix products, and of attention, which a CPU computes in float32, but prompts over a bf16
  // cache in AMX where it has that.
  double product_flops_per_s() const;
  double attention_flops_per_s(bool is_prompt) const;

  bool wants(const Row& row) const;
  // Copies of `bytes` needed for the caches to be cold at each use.
  std::int64_t num_copies(double bytes) const;
  // Whether the device has room for so much and for what operations need beside.
  bool has_room(double bytes) const;
  // A tensor of random values in [-1, 1).
  DeviceTensor random_tensor(DType dtype, std::initializer_list<std::int64_t> shape);
  // Token ids in [0, vocab_size).
  DeviceTensor random_ids(std::int64_t count, std::int64_t vocab_size);

  // Times a call of the operation and keeps the row. Steps are as `inputs` says.
  void measure(Row row, const StepInputs& inputs, std::int64_t num_copies, const Call& call);
  const std::vector<Row>& rows() const { return rows_; }

 private:
  void open_cpu();
  void open_gpu();

  KernelBenchOptions options_;
  DType dtype_;
  DType product_input_dtype_ = DType::kF32;
  bool has_amx_ = false;
  bool is_gpu_ = false;
  ModelShape model_;
  BenchLimits limits_;
  std::unique_ptr<Backend> backend_;
  double cold_bytes_ = 0;
  std::vector<Row> rows_;
};

// Tokens of one block of the KV cache.
constexpr std::int64_t kKvBlockSize = 16;

// `num_sequences` sequences of `context` tokens, the last `query_len` of them new, whose blocks lie
// scattered in a cache of num_kv_blocks() blocks.
StepInputs make_step(std::int64_t num_sequences, std::int64_t query_len, std::int64_t context);
// Of such a step, the reserved block included.
std::int64_t num_kv_blocks(std::int64_t num_sequences, std::int64_t context);

}  // namespace llmrun
