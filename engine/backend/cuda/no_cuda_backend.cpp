// The CUDA backend of a build without CUDA.
#include "engine/backend/cuda/cuda_backend.h"
#include "engine/core/error.h"

namespace llmrun {

std::string cuda_unavailable_reason() {
  return "this build of llmrun has no CUDA backend";
}

std::unique_ptr<Backend> make_cuda_backend(const CudaBackendOptions& /*options*/) {
  throw Error(ErrorKind::kUsage, cuda_unavailable_reason());
}

}  // namespace llmrun
