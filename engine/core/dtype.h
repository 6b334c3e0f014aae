// Element types of tensors. The one engine header that device code may include.
#pragma once

#include <cstddef>
#include <cstdint>

namespace llmrun {

enum class DType : std::uint8_t { kF32, kF16, kBf16, kI32, kI64, kU8 };

// Bytes of one element.
constexpr std::size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32: return 4;
    case DType::kF16:
    case DType::kBf16: return 2;
    case DType::kI64: return 8;
    case DType::kU8: return 1;
  }
  return 0;
}

// "float32", "float16", "bfloat16", "int32", "int64", "uint8": the names of PyTorch.
constexpr const char* to_string(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "float32";
    case DType::kF16: return "float16";
    case DType::kBf16: return "bfloat16";
    case DType::kI32: return "int32";
    case DType::kI64: return "int64";
    case DType::kU8: return "uint8";
  }
  return "?";
}

}  // namespace llmrun
