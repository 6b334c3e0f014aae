// Linear kernels in AVX-512 and AVX512-BF16.
#include "kernels/cpu/vec_avx512.h"
//
#include "kernels/cpu/linear_impl.h"

namespace llmrun::kernels {
namespace {

constexpr TileShape kShape = {6, 12, {0, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2}, 1024};
constexpr TileShape kShapeF32 = {6, 12, {0, 4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2}, 512};

// vdpbf16ps: acc += even * even + odd * odd, products and sums in float32.
struct OpDotBf16 {
  using Activation = std::uint16_t;
  using Weight = std::uint16_t;
  using Operand = __m512i;
  using Scalar = __m512i;
  static constexpr int kDepth = 2;
  static Operand load(const Weight* w, int) { return _mm512_loadu_si512(w); }
  static Scalar broadcast(const Activation* a) {
    int pair;
    __builtin_memcpy(&pair, a, sizeof(pair));
    return _mm512_set1_epi32(pair);
  }
  static Vec accumulate(Vec acc, Scalar s, Operand o) {
    return {_mm512_dpbf16_ps(acc.v, reinterpret_cast<__m512bh>(s), reinterpret_cast<__m512bh>(o))};
  }
};

std::size_t bf16_activation_bytes(std::int64_t num_rows, std::int64_t padded_depth) {
  return static_cast<std::size_t>(num_rows * padded_depth) * sizeof(std::uint16_t);
}

// x rounded to bf16, [num_rows, padded_depth].
void pack_bf16_activations(void* packed, const float* x, std::int64_t x_stride,
                           std::int64_t row_begin, std::int64_t row_end, std::int64_t depth,
                           std::int64_t padded_depth) {
  for (std::int64_t row = row_begin; row < row_end; ++row) {
    const float* from = x + row * x_stride;
    std::uint16_t* to = static_cast<std::uint16_t*>(packed) + row * padded_depth;
    for (std::int64_t k = 0; k < padded_depth; k += Vec::kLanes) {
      const std::int64_t rest = depth - k;
      Vec value = Vec::broadcast(0.0F);
      if (rest >= Vec::kLanes) {
        value = Vec::load(from + k);
      } else if (rest > 0) {
        value = Vec::load_first(from + k, static_cast<int>(rest));
      }
      value.store_bf16(to + k);
    }
  }
}

}  // namespace

const LinearKernel& linear_f32_avx512() {
  static constexpr LinearKernel kKernel = {"f32 avx512",
                                           1,
                                           4,
                                           kTileScratchBytes,
                                           no_activation_bytes,
                                           nullptr,
                                           run_linear<OpF32, kShapeF32>};
  return kKernel;
}

const LinearKernel& linear_bf16_avx512() {
  static constexpr LinearKernel kKernel = {"bf16 avx512bf16",
                                           1,
                                           4,
                                           kTileScratchBytes,
                                           bf16_activation_bytes,
                                           pack_bf16_activations,
                                           run_linear<OpDotBf16, kShape>};
  return kKernel;
}

}  // namespace llmrun::kernels
