#include "kernels/cpu/vec_avx2.h"
//
#include "kernels/cpu/attention_impl.h"

namespace llmrun::kernels {

const AttentionKernel& attention_avx2() {
  return kAttention;
}

}  // namespace llmrun::kernels
