// Matrix products of the CUDA backend: each on an own kernel or on cuBLASLt, as GemmPlanner
// decided, with the work that goes before and after.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/cuda_weights.h"
#include "engine/backend/cuda/gemm_plan.h"
#include "engine/core/activation.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_arguments.h"

namespace llmrun {

class CudaLinear {
 public:
  struct Options {
    bool deterministic = false;
    bool tune = true;  // measure algorithms of large models at start
    std::string device_name;
  };
  CudaLinear(kernels::Launch launch, const Options& options);

  // Notes a weight that will be used, so that prepare() can measure with it, if it still lives
  // then.
  void note_weight(const CudaLinearWeight& weight);

  // Allocates scratch memory for steps of up to `max_num_tokens` and measures what is not known
  // yet. `vocab_size`: weights with so many rows make float32 logits of up to `max_logits_rows`.
  // The noted weights are forgotten afterwards.
  void prepare(std::int64_t max_num_tokens, std::int64_t vocab_size, std::int64_t max_logits_rows);
  // What prepare() will allocate and keep.
  static std::size_t num_bytes(std::int64_t max_num_tokens, std::int64_t intermediate_size,
                               DType dtype);

  // out [M, N] from x [M, K] and the weight.
  void run(void* out, DType out_dtype, const void* x, std::int64_t num_tokens,
           const CudaLinearWeight& weight, kernels::CudaLinearEpilogue epilogue);
  // out [M, N / 2] of the weight's type = activation(gate) * up.
  void run_gate_up(void* out, const void* x, std::int64_t num_tokens,
                   const CudaLinearWeight& weight, Activation activation);

 private:
  GemmShape shape_of(const CudaLinearWeight& weight, DType out_dtype) const;
  bool can_run(GemmKernel kernel, const GemmCall& call, kernels::CudaLinearEpilogue epilogue) const;
  void run_chosen(const GemmCall& call, kernels::CudaLinearEpilogue epilogue,
                  const GemmChoice& choice);
  GemmCall call_of(void* out, DType out_dtype, const void* x, std::int64_t num_tokens,
                   const CudaLinearWeight& weight) const;
  void run_gate_up_slices(const GemmCall& call, Activation activation, const GemmChoice& choice);
  void tune(std::int64_t max_num_tokens, std::int64_t vocab_size, std::int64_t max_logits_rows);
  double measure(const GemmShape& shape, std::int64_t num_tokens, const GemmChoice& choice,
                 void* out, const void* x);

  kernels::Launch launch_;
  Options options_;
  CublasLtGemm gemm_;
  GemmPlanner planner_;
  CudaBuffer workspace_{CublasLtGemm::kWorkspaceBytes};
  std::size_t gate_up_row_bytes_ = 0;    // of the largest gate and up
  std::unique_ptr<CudaBuffer> gate_up_;  // [kGateUpTokens, 2 I]
  std::vector<std::weak_ptr<const CudaLinearWeight>> noted_weights_;
  std::vector<const CudaLinearWeight*> weights_;  // of the noted ones those that live; in prepare()
};

}  // namespace llmrun
