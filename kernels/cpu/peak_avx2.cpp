#include "kernels/cpu/vec_avx2.h"
//
#include "kernels/cpu/peak_impl.h"

namespace llmrun::kernels {

const PeakKernels& peak_avx2() {
  static constexpr PeakKernels kKernels = {multiply_f32, multiply_f32, read_all};
  return kKernels;
}

}  // namespace llmrun::kernels
