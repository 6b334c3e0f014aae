#include "engine/backend/cpu/cpu_elementwise.h"

#include <algorithm>

#include "engine/core/error.h"

namespace llmrun {

void check_tensor(const Tensor& tensor, DType dtype, std::initializer_list<std::int64_t> shape) {
  LLMRUN_CHECK(tensor.dtype() == dtype);
  LLMRUN_CHECK(tensor.rank() == static_cast<int>(shape.size()));
  int dim = 0;
  for (const std::int64_t extent : shape) LLMRUN_CHECK(tensor.dim(dim++) == extent);
}

template <typename F>
void CpuElementwise::over_elements(const Tensor& tensor, const F& fn) {
  LLMRUN_CHECK(tensor.rank() == 2 && tensor.dtype() == DType::kF32);
  pool_.parallel_ranges(
      tensor.num_elements(), kElementsPerTask,
      [&](std::int64_t begin, std::int64_t end, std::int32_t) { fn(begin, end); });
}

template <typename F>
void CpuElementwise::over_rows(const Tensor& tensor, const F& fn) {
  LLMRUN_CHECK(tensor.rank() == 2 && tensor.dtype() == DType::kF32);
  const std::int64_t grain = std::max<std::int64_t>(kElementsPerTask / tensor.dim(1), 1);
  pool_.parallel_ranges(
      tensor.dim(0), grain,
      [&](std::int64_t begin, std::int64_t end, std::int32_t) { fn(begin, end); });
}

void CpuElementwise::rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps) {
  LLMRUN_CHECK(x.rank() == 2);
  const std::int64_t size = x.dim(1);
  check_tensor(weight, DType::kF32, {size});
  if (out.dtype() == DType::kBf16) {
    check_tensor(out, DType::kBf16, {x.dim(0), size});
    over_rows(x, [&](std::int64_t begin, std::int64_t end) {
      kernels_.rms_norm_to_bf16(out.as<std::uint16_t>(), x.as<float>(), weight.as<float>(), eps,
                                begin, end, size);
    });
    return;
  }
  check_tensor(out, DType::kF32, {x.dim(0), size});
  over_rows(x, [&](std::int64_t begin, std::int64_t end) {
    kernels_.rms_norm(out.as<float>(), size, x.as<float>(), size, weight.as<float>(), eps, begin,
                      end, size);
  });
}

void CpuElementwise::layer_norm(const Tensor& out, const Tensor& x, const Tensor& weight,
                                const Tensor& bias, float eps) {
  LLMRUN_CHECK(x.rank() == 2);
  const std::int64_t size = x.dim(1);
  check_tensor(out, DType::kF32, {x.dim(0), size});
  check_tensor(weight, DType::kF32, {size});
  if (!bias.empty()) check_tensor(bias, DType::kF32, {size});
  const float* bias_data = bias.empty() ? nullptr : bias.as<float>();
  over_rows(x, [&](std::int64_t begin, std::int64_t end) {
    kernels_.layer_norm(out.as<float>(), x.as<float>(), weight.as<float>(), bias_data, eps, begin,
                        end, size);
  });
}

void CpuElementwise::norm_heads(const Tensor& qkv, std::int32_t first_head, std::int32_t num_heads,
                                const Tensor& weight, float eps) {
  LLMRUN_CHECK(qkv.rank() == 2 && weight.rank() == 1);
  const std::int64_t head_dim = weight.dim(0);
  check_tensor(weight, DType::kF32, {head_dim});
  LLMRUN_CHECK(first_head >= 0 && (first_head + num_heads) * head_dim <= qkv.dim(1));
  over_rows(qkv, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* heads = qkv.as<float>() + row * qkv.dim(1) + first_head * head_dim;
      kernels_.rms_norm(heads, head_dim, heads, head_dim, weight.as<float>(), eps, 0, num_heads,
                        head_dim);
    }
  });
}

void CpuElementwise::activate(const Tensor& inout, Activation activation) {
  over_elements(inout, [&](std::int64_t begin, std::int64_t end) {
    kernels_.activate(inout.as<float>() + begin, end - begin, activation);
  });
}

void CpuElementwise::add(const Tensor& inout, const Tensor& x) {
  LLMRUN_CHECK(inout.rank() == 2);
  check_tensor(x, DType::kF32, {inout.dim(0), inout.dim(1)});
  over_elements(inout, [&](std::int64_t begin, std::int64_t end) {
    kernels_.add(inout.as<float>() + begin, x.as<float>() + begin, 1.0F, end - begin);
  });
}

void CpuElementwise::scale(const Tensor& inout, float factor) {
  over_elements(inout, [&](std::int64_t begin, std::int64_t end) {
    kernels_.scale(inout.as<float>() + begin, factor, end - begin);
  });
}

void CpuElementwise::soft_cap(const Tensor& inout, float cap) {
  LLMRUN_CHECK(cap > 0);
  over_elements(inout, [&](std::int64_t begin, std::int64_t end) {
    kernels_.soft_cap(inout.as<float>() + begin, cap, end - begin);
  });
}

}  // namespace llmrun
