#include "kernels/cpu/vec_portable.h"
//
#include "kernels/cpu/elementwise_impl.h"

namespace llmrun::kernels {

const ElementwiseKernels& elementwise_portable() {
  return kElementwise;
}

}  // namespace llmrun::kernels
