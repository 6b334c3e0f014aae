#include "kernels/cpu/vec_avx2.h"
//
#include "kernels/cpu/elementwise_impl.h"

namespace llmrun::kernels {

const ElementwiseKernels& elementwise_avx2() {
  return kElementwise;
}

}  // namespace llmrun::kernels
