#include <cuda_runtime.h>

#include "engine/core/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/tensor_map.h"

namespace llmrun::kernels {
namespace {

using EncodeTensorMap = decltype(&cuTensorMapEncodeTiled);

// The driver's function, asked for at run time: the library is not linked.
EncodeTensorMap encode_tensor_map() {
  static const EncodeTensorMap function = [] {
    void* pointer = nullptr;
    cudaDriverEntryPointQueryResult result{};
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &pointer, 12000,
                                                cudaEnableDefault, &result),
               "cuTensorMapEncodeTiled");
    if (result != cudaDriverEntryPointSuccess || pointer == nullptr) {
      throw Error(ErrorKind::kDevice, "CUDA: the driver has no cuTensorMapEncodeTiled");
    }
    return reinterpret_cast<EncodeTensorMap>(pointer);
  }();
  return function;
}

}  // namespace

CUtensorMap tensor_map(const void* data, DType dtype, std::int64_t rows, std::int64_t columns,
                       int box_rows) {
  CUtensorMap map{};
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(columns) * 2};
  const cuuint32_t box[2] = {kTensorMapColumns, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  const CUresult status = encode_tensor_map()(
      &map,
      dtype == DType::kF16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
      const_cast<void*>(data), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw Error(ErrorKind::kInternal, "CUDA: cuTensorMapEncodeTiled refuses a matrix");
  }
  return map;
}

}  // namespace llmrun::kernels
