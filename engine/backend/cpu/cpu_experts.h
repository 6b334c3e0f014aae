// Mixtures of experts on the CPU: each expert multiplies the tokens that chose it, and no others.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/cpu_linear.h"
#include "engine/backend/cpu/cpu_memory.h"
#include "kernels/cpu/elementwise.h"

namespace llmrun {

// See Backend::route.
void route_to_experts(const Tensor& inout, std::int32_t top_k);

class CpuExperts {
 public:
  CpuExperts(CpuLinear& linear, const kernels::ElementwiseKernels& kernels)
      : linear_(linear), kernels_(kernels) {}

  // See Backend::add_experts.
  void add(const Tensor& inout, const Tensor& x, const Tensor& routing,
           std::span<const Expert> experts, Activation activation, const Tensor& scratch);

 private:
  void add_expert(const Tensor& inout, const Tensor& x, const float* factors,
                  std::int64_t factor_stride, const Expert& expert, Activation activation,
                  const Tensor& scratch);

  CpuLinear& linear_;
  const kernels::ElementwiseKernels& kernels_;
  std::vector<std::int64_t> rows_;  // tokens that chose the expert
  HostBuffer gathered_;             // [rows, H] their x
  HostBuffer result_;               // [rows, H]
};

}  // namespace llmrun
