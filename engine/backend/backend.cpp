#include "engine/backend/backend.h"

namespace llmrun {

DeviceTensor Backend::allocate_tensor(DType dtype, std::initializer_list<std::int64_t> shape) {
  std::size_t num_bytes = dtype_bytes(dtype);
  for (const std::int64_t extent : shape) num_bytes *= static_cast<std::size_t>(extent);
  DeviceTensor result;
  result.buffer = allocate(num_bytes);
  result.tensor = Tensor(result.buffer->data(), dtype, shape);
  return result;
}

}  // namespace llmrun
