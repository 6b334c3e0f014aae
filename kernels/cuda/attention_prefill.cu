// Prefill attention on the tensor cores (any compute capability from 8.0): FlashAttention-2's loop
// (arXiv 2307.08691) over the block table. A block takes 128 rows, (query token, query head) pairs
// of one KV head, so that short chunks still fill the product and keys are read once a group.
#include "kernels/cuda/attention_dispatch.h"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_prefill.cuh"

namespace llmrun::kernels {
namespace {

template <int kD>
struct Layout {
  static constexpr int kRowTiles = kD <= 128 ? 2 : 1;  // of 16 rows, a warp's
  static constexpr int kKeys = kD <= 128 ? 64 : 32;    // of a tile
  static constexpr int kWarps = kPrefillRows / 16 / kRowTiles;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRowBytes = kD * 2 + 16;  // an odd number of 16 bytes: no bank conflicts
  static constexpr int kQueryBytes = kPrefillRows * kRowBytes;
  static constexpr int kTileBytes = kKeys * kRowBytes;
  static constexpr int kSharedBytes = kQueryBytes + 4 * kTileBytes;  // two stages of keys, values
};

// A warp's rows: weighted sums of values, largest scores, sums of weights. A lane holds rows
// lane / 4 and lane / 4 + 8 of each 16.
template <int kD>
struct RowState {
  static constexpr int kRowTiles = Layout<kD>::kRowTiles;
  float sums[kRowTiles][kD / 8][4] = {};
  float largest[kRowTiles][2];
  float total[kRowTiles][2] = {};  // of the lane's keys only
  int position[kRowTiles][2];
  float slope[kRowTiles][2];
};

template <int kD>
__device__ __forceinline__ void init_rows(RowState<kD>& state, const PrefillParams& params,
                                          const PrefillTile& tile, int kv_head) {
  const int first = static_cast<int>(threadIdx.x) / 32 * Layout<kD>::kRowTiles * 16 +
                    static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
  for (int i = 0; i < Layout<kD>::kRowTiles * 2; ++i) {
    const int row = tile.first_row + min(first + i * 8, tile.num_rows - 1);
    state.position[i / 2][i % 2] = tile.first_position + row / params.group_size;
    state.slope[i / 2][i % 2] =
        score_slope(params.rule, kv_head * params.group_size + row % params.group_size);
    state.largest[i / 2][i % 2] = -INFINITY;
  }
}

template <typename T, int kD>
__device__ __forceinline__ void copy_queries(const PrefillParams& params, const PrefillTile& tile,
                                             int kv_head, std::uint32_t target) {
  constexpr int kVectors = kD / 8;
  for (int i = threadIdx.x; i < kPrefillRows * kVectors; i += Layout<kD>::kThreads) {
    const int row = i / kVectors;
    const bool is_valid = row < tile.num_rows;
    const T* source = query_row<T>(params, tile, kv_head, min(row, tile.num_rows - 1), kD);
    copy_async(target + row * Layout<kD>::kRowBytes + i % kVectors * 16, source + i % kVectors * 8,
               is_valid);
  }
}

// Keys, then values, of kKeys positions from `first` on to `target`; zeros from `end` on.
// `row_groups`: lane i holds that of positions first + 8 i.
template <typename T, int kD>
__device__ __forceinline__ void copy_keys_and_values(const PrefillParams& params, int first,
                                                     int end, std::uint32_t row_groups,
                                                     std::uint32_t target) {
  constexpr int kVectors = kD / 8;
  constexpr int kCopies = Layout<kD>::kKeys * kVectors / Layout<kD>::kThreads;
  static_assert(Layout<kD>::kKeys * kVectors % Layout<kD>::kThreads == 0);
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    const int vector = i * Layout<kD>::kThreads + static_cast<int>(threadIdx.x);
    const int row = vector / kVectors;
    const std::int64_t offset =
        static_cast<std::int64_t>(__shfl_sync(~0U, row_groups, row / 8)) * (8 * kD) + row % 8 * kD +
        vector % kVectors * 8;
    const std::uint32_t address = target + row * Layout<kD>::kRowBytes + vector % kVectors * 16;
    copy_async(address, static_cast<const T*>(params.key_cache) + offset, first + row < end);
    copy_async(address + Layout<kD>::kTileBytes, static_cast<const T*>(params.value_cache) + offset,
               first + row < end);
  }
}

template <typename T, int kD>
__device__ __forceinline__ void multiply_keys(
    float (&scores)[Layout<kD>::kRowTiles][Layout<kD>::kKeys / 8][4], std::uint32_t queries,
    std::uint32_t keys) {
  constexpr int kRowBytes = Layout<kD>::kRowBytes;
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const std::uint32_t query_address =
      queries + (warp * Layout<kD>::kRowTiles * 16 + lane % 16) * kRowBytes + lane / 16 * 16;
  const std::uint32_t key_address =
      keys + (lane % 8 + lane / 16 * 8) * kRowBytes + lane / 8 % 2 * 16;
#pragma unroll
  for (int d = 0; d < kD / 16; ++d) {
    uint4 q[Layout<kD>::kRowTiles];
#pragma unroll
    for (int row = 0; row < Layout<kD>::kRowTiles; ++row) {
      q[row] = load_matrices(query_address + row * 16 * kRowBytes + d * 32);
    }
#pragma unroll
    for (int key = 0; key < Layout<kD>::kKeys / 16; ++key) {
      const uint4 k = load_matrices(key_address + key * 16 * kRowBytes + d * 32);
#pragma unroll
      for (int row = 0; row < Layout<kD>::kRowTiles; ++row) {
        multiply_add_16x8<T>(scores[row][2 * key], q[row], k.x, k.y);
        multiply_add_16x8<T>(scores[row][2 * key + 1], q[row], k.z, k.w);
      }
    }
  }
}

// Scale, softcap, ALiBi; keys a row does not see become -infinity.
template <int kD, bool kIsPlain>
__device__ __forceinline__ void adjust_scores(
    float (&scores)[Layout<kD>::kRowTiles][Layout<kD>::kKeys / 8][4], const RowState<kD>& state,
    const ScoreRule& rule, int first) {
  const int column = first + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int row = 0; row < Layout<kD>::kRowTiles; ++row) {
#pragma unroll
    for (int i = 0; i < Layout<kD>::kKeys / 2; ++i) {
      float& score = scores[row][i / 4][i % 4];
      if constexpr (kIsPlain) {
        score *= rule.factor;
      } else {
        const int distance = column + i / 4 * 8 + i % 2 - state.position[row][i % 4 / 2];
        score = score_of(rule, score, state.slope[row][i % 4 / 2], distance);
        if (!is_seen(rule, distance)) score = -INFINITY;
      }
    }
  }
}

// Scores to weights; the rows' maxima, totals and sums follow.
template <int kD>
__device__ __forceinline__ void update_softmax(
    float (&scores)[Layout<kD>::kRowTiles][Layout<kD>::kKeys / 8][4], RowState<kD>& state) {
#pragma unroll
  for (int row = 0; row < Layout<kD>::kRowTiles; ++row) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = state.largest[row][half];
#pragma unroll
      for (int i = 0; i < Layout<kD>::kKeys / 8; ++i) {
        largest = fmaxf(largest, fmaxf(scores[row][i][2 * half], scores[row][i][2 * half + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 2));
      const float shift = largest == -INFINITY ? 0.0F : largest;
      const float rescale = exp2_fast(state.largest[row][half] - shift);
      state.largest[row][half] = largest;
      float total = state.total[row][half] * rescale;
#pragma unroll
      for (int i = 0; i < Layout<kD>::kKeys / 8; ++i) {
#pragma unroll
        for (int j = 2 * half; j < 2 * half + 2; ++j) {
          scores[row][i][j] = exp2_fast(scores[row][i][j] - shift);
          total += scores[row][i][j];
        }
      }
      state.total[row][half] = total;
#pragma unroll
      for (int d = 0; d < kD / 8; ++d) {
        state.sums[row][d][2 * half] *= rescale;
        state.sums[row][d][2 * half + 1] *= rescale;
      }
    }
  }
}

template <typename T, int kD>
__device__ __forceinline__ void multiply_values(
    RowState<kD>& state, const float (&weights)[Layout<kD>::kRowTiles][Layout<kD>::kKeys / 8][4],
    std::uint32_t values) {
  constexpr int kRowBytes = Layout<kD>::kRowBytes;
  const int lane = threadIdx.x % 32;
  const std::uint32_t address = values + lane % 16 * kRowBytes + lane / 16 * 16;
#pragma unroll
  for (int key = 0; key < Layout<kD>::kKeys / 16; ++key) {
    uint4 w[Layout<kD>::kRowTiles];
#pragma unroll
    for (int row = 0; row < Layout<kD>::kRowTiles; ++row) {
      const auto& low = weights[row][2 * key];
      const auto& high = weights[row][2 * key + 1];
      w[row] = make_uint4(pack<T>(low[0], low[1]), pack<T>(low[2], low[3]),
                          pack<T>(high[0], high[1]), pack<T>(high[2], high[3]));
    }
#pragma unroll
    for (int d = 0; d < kD / 16; ++d) {
      const uint4 v = load_matrices_transposed(address + key * 16 * kRowBytes + d * 32);
#pragma unroll
      for (int row = 0; row < Layout<kD>::kRowTiles; ++row) {
        multiply_add_16x8<T>(state.sums[row][2 * d], w[row], v.x, v.y);
        multiply_add_16x8<T>(state.sums[row][2 * d + 1], w[row], v.z, v.w);
      }
    }
  }
}

template <typename T, int kD>
__device__ __forceinline__ void store_rows(const RowState<kD>& state, const PrefillParams& params,
                                           const PrefillTile& tile, int kv_head) {
  const int lane = threadIdx.x % 32;
  const int first = static_cast<int>(threadIdx.x) / 32 * Layout<kD>::kRowTiles * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < Layout<kD>::kRowTiles * 2; ++i) {
    float total = state.total[i / 2][i % 2];
    total += __shfl_xor_sync(~0U, total, 1);
    total += __shfl_xor_sync(~0U, total, 2);
    const int row = first + i * 8;
    if (row >= tile.num_rows) continue;
    const float factor = 1.0F / total;
    T* out = out_row<T>(params, tile, kv_head, row, kD) + lane % 4 * 2;
#pragma unroll
    for (int d = 0; d < kD / 8; ++d) {
      const float* sums = state.sums[i / 2][d] + i % 2 * 2;
      *reinterpret_cast<std::uint32_t*>(out + d * 8) = pack<T>(sums[0] * factor, sums[1] * factor);
    }
  }
}

// Grid (Hkv, tiles): all heads of the longest tiles first.
template <typename T, int kD>
__global__ void __launch_bounds__(Layout<kD>::kThreads)
    prefill_kernel(const __grid_constant__ PrefillParams params) {
  wait_for_inputs();
  allow_next();
  using L = Layout<kD>;
  extern __shared__ __align__(16) unsigned char shared[];
  const std::uint32_t queries = to_shared(shared);
  const std::uint32_t stages = queries + L::kQueryBytes;
  const int kv_head = static_cast<int>(blockIdx.x);
  const PrefillTile tile = load_prefill_tile(params, static_cast<int>(blockIdx.y));
  const PrefillSpan span = prefill_span(params, tile, L::kKeys);

  RowGroupReader reader(params, tile.sequence, kv_head, span);
  reader.prefetch(span.begin);
  copy_queries<T, kD>(params, tile, kv_head, queries);
  std::uint32_t row_groups = reader.row_groups(span.begin);
  reader.prefetch(span.begin + L::kKeys);
  copy_keys_and_values<T, kD>(params, span.begin, span.end, row_groups, stages);
  commit_copies();

  RowState<kD> state;
  init_rows(state, params, tile, kv_head);
  int stage = 0;
  for (int first = span.begin; first < span.end; first += L::kKeys) {
    wait_copies<0>();
    __syncthreads();
    const int next = first + L::kKeys;
    if (next < span.end) {
      row_groups = reader.row_groups(next);
      reader.prefetch(next + L::kKeys);
      copy_keys_and_values<T, kD>(params, next, span.end, row_groups,
                                  stages + (stage ^ 1) * 2 * L::kTileBytes);
    }
    commit_copies();
    const std::uint32_t keys = stages + stage * 2 * L::kTileBytes;
    float scores[L::kRowTiles][L::kKeys / 8][4] = {};
    multiply_keys<T, kD>(scores, queries, keys);
    if (params.is_plain && first >= span.seen_by_all_from && next <= span.seen_by_all_to) {
      adjust_scores<kD, true>(scores, state, params.rule, first);
    } else {
      adjust_scores<kD, false>(scores, state, params.rule, first);
    }
    update_softmax<kD>(scores, state);
    multiply_values<T, kD>(state, scores, keys + L::kTileBytes);
    stage ^= 1;
  }
  store_rows<T, kD>(state, params, tile, kv_head);
}

}  // namespace

void prepare_prefill_mma(const AttentionShape& shape) {
  dispatch_tiled(shape, [&](auto element, auto head_dim) {
    using T = decltype(element);
    constexpr int kD = decltype(head_dim)::value;
    check_cuda(
        cudaFuncSetAttribute(prefill_kernel<T, kD>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             Layout<kD>::kSharedBytes),
        "prefill_attention: shared memory");
  });
}

void launch_prefill_mma(const Launch& options, const AttentionShape& shape,
                        const PrefillParams& params, int num_tiles) {
  const dim3 grid(static_cast<unsigned>(shape.num_kv_heads), static_cast<unsigned>(num_tiles));
  dispatch_tiled(shape, [&](auto element, auto head_dim) {
    using T = decltype(element);
    constexpr int kD = decltype(head_dim)::value;
    launch(options, "prefill_attention", prefill_kernel<T, kD>, grid, dim3(Layout<kD>::kThreads),
           Layout<kD>::kSharedBytes, params);
  });
}

}  // namespace llmrun::kernels
