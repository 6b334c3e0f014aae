#include "kernels/cpu/cpu_kernels.h"

namespace llmrun::kernels {

const CpuKernels& cpu_kernels(CpuIsa isa) {
  static const CpuKernels kPortable = {
      CpuIsa::kPortable,    linear_f32_portable(), linear_bf16_portable(), linear_bf16_portable(),
      attention_portable(), attention_portable(),  elementwise_portable(), peak_portable()};
  static const CpuKernels kAvx2 = {CpuIsa::kAvx2,      linear_f32_avx2(), linear_bf16_avx2(),
                                   linear_bf16_avx2(), attention_avx2(),  attention_avx2(),
                                   elementwise_avx2(), peak_avx2()};
  static const CpuKernels kAvx512Bf16 = {
      CpuIsa::kAvx512Bf16, linear_f32_avx512(), linear_bf16_avx512(), linear_bf16_avx512(),
      attention_avx512(),  attention_avx512(),  elementwise_avx512(), peak_avx512()};
  static const CpuKernels kAmx = {
      CpuIsa::kAmx,       linear_f32_avx512(),  linear_bf16_amx(),    linear_bf16_avx512_xeon(),
      attention_avx512(), attention_bf16_amx(), elementwise_avx512(), peak_amx()};
  switch (isa) {
    case CpuIsa::kPortable: return kPortable;
    case CpuIsa::kAvx2: return kAvx2;
    case CpuIsa::kAvx512Bf16: return kAvx512Bf16;
    case CpuIsa::kAmx: return kAmx;
  }
  return kPortable;
}

}  // namespace llmrun::kernels
