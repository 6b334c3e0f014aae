#include "kernels/cuda/hopper.h"
#include "kernels/cuda/skinny_linear.h"
#include "kernels/cuda/skinny_linear_variants.h"

namespace llmrun::kernels {
bool supports_skinny_linear(const LinearArguments& args) {
  constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;
  if (args.dtype != DType::kBf16 && args.dtype != DType::kF16) return false;
  if (args.out_dtype != args.dtype && args.out_dtype != DType::kF32) return false;
  if (args.num_tokens < 1 || args.num_tokens > kMaxSkinnyTokens) return false;
  if (args.num_rows < 1 || args.num_rows > kMaxExtent) return false;
  if (args.num_columns < 8 || args.num_columns % 8 != 0 || args.num_columns > kMaxExtent) {
    return false;
  }
  if (args.epilogue == CudaLinearEpilogue::kSiluMul && args.num_rows % 16 != 0) return false;
  return is_16_byte_aligned(args.x) && is_16_byte_aligned(args.weight);
}

void skinny_linear(const Launch& launch, const LinearArguments& args) {
  LLMRUN_CHECK(supports_skinny_linear(args));
  if (runs_hopper_code()) {
    const std::size_t shared_bytes =
        launch.overlap ? kSkinnySharedBytesOverlapping : kSkinnySharedBytesAlone;
    skinny_linear_stream(launch, args,
                         plan_skinny_stream(args, skinny_stream_device(), shared_bytes));
  } else {
    skinny_linear_direct(launch, args);
  }
}

}  // namespace llmrun::kernels
