#include "kernels/cpu/vec_avx512.h"
//
#include "kernels/cpu/elementwise_impl.h"

namespace llmrun::kernels {

const ElementwiseKernels& elementwise_avx512() {
  return kElementwise;
}

}  // namespace llmrun::kernels
