// The small operations of Backend on float32 tensors, over a thread pool. What each computes is
// said in engine/backend/backend.h.
#pragma once

#include <cstdint>

#include "engine/core/activation.h"
#include "engine/core/tensor.h"
#include "engine/core/thread_pool.h"
#include "kernels/cpu/elementwise.h"

namespace llmrun {

// Elements of float32 that are worth a task of their own in an operation bound by memory.
inline constexpr std::int64_t kElementsPerTask = 4096;

// Error(kInternal) unless the tensor has this type and shape.
void check_tensor(const Tensor& tensor, DType dtype, std::initializer_list<std::int64_t> shape);

class CpuElementwise {
 public:
  CpuElementwise(ThreadPool& pool, const kernels::ElementwiseKernels& kernels)
      : pool_(pool), kernels_(kernels) {}

  void rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps);
  void layer_norm(const Tensor& out, const Tensor& x, const Tensor& weight, const Tensor& bias,
                  float eps);
  void norm_heads(const Tensor& qkv, std::int32_t first_head, std::int32_t num_heads,
                  const Tensor& weight, float eps);
  void activate(const Tensor& inout, Activation activation);
  void add(const Tensor& inout, const Tensor& x);
  void scale(const Tensor& inout, float factor);
  void soft_cap(const Tensor& inout, float cap);

 private:
  // Calls fn(begin, end) over the elements of a float32 matrix.
  template <typename F>
  void over_elements(const Tensor& tensor, const F& fn);
  // Calls fn(begin, end) over its rows.
  template <typename F>
  void over_rows(const Tensor& tensor, const F& fn);

  ThreadPool& pool_;
  const kernels::ElementwiseKernels& kernels_;
};

}  // namespace llmrun
