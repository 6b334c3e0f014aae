#include "kernels/cpu/vec_avx512.h"
//
#include "kernels/cpu/attention_impl.h"

namespace llmrun::kernels {

const AttentionKernel& attention_avx512() {
  return kAttention;
}

}  // namespace llmrun::kernels
