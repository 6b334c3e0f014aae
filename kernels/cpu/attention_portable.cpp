#include "kernels/cpu/vec_portable.h"
//
#include "kernels/cpu/attention_impl.h"

namespace llmrun::kernels {

const AttentionKernel& attention_portable() {
  return kAttention;
}

}  // namespace llmrun::kernels
