// Attention of the CUDA backend: the tiled kernels with the plan they need, or the plain one.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cuda/attention_plan.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/launch.h"

namespace llmrun {

class CudaAttention {
 public:
  struct Options {
    StepLimits limits;
    DType dtype = DType::kBf16;  // of activations and of the cache
    bool plain = false;
    bool deterministic = false;
  };
  CudaAttention(kernels::Launch launch, const Options& options);

  // What the constructor allocates, and the longest plan.
  static std::size_t num_bytes(const Options& options);
  static std::int64_t max_plan_words(const Options& options);

  // Plans a step. The result is valid until the next call, and goes to the device with the inputs.
  std::span<const std::int32_t> plan(const StepInputs& inputs);

  // One layer of the step that was planned last. `device_plan`: where its plan lies.
  void run(const Tensor& out, const Tensor& qkv, const KvCacheView& kv, const ForwardBatch& batch,
           const AttentionParams& params, const std::int32_t* device_plan);

 private:
  kernels::Launch launch_;
  kernels::AttentionShape shape_;
  bool is_tiled_;
  AttentionPlanOptions plan_options_;
  AttentionPlanLimits plan_limits_;
  std::vector<std::int32_t> words_;
  AttentionPlan plan_;
  std::unique_ptr<CudaBuffer> workspace_;
};

}  // namespace llmrun
