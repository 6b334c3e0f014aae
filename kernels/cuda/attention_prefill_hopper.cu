// Prefill attention with Hopper's warpgroup products, head sizes 64 and 128. The loop is
// FlashAttention-3's (arXiv 2407.08608) over the block table: a warpgroup copies tiles of keys and
// values ahead, two others have 64 rows each and run the product of the next tile's scores while
// they do the softmax of this one. Blocks are persistent, so that copies go on across tiles.
#include <algorithm>

#include "kernels/cuda/attention_dispatch.h"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/bulk_copy.cuh"
#include "kernels/cuda/hopper.h"
#include "kernels/cuda/warpgroup_product.cuh"

namespace llmrun::kernels {
namespace {

constexpr int kKeys = 128;  // of a tile
constexpr int kStages = 3;
constexpr int kGroupRows = 64;
constexpr int kGroups = kPrefillRows / kGroupRows;  // that multiply
constexpr int kThreads = (kGroups + 1) * kWarpgroupThreads;
[[maybe_unused]] constexpr int kCopyRegisters = 56;
[[maybe_unused]] constexpr int kMultiplyRegisters = 224;

template <int kD>
struct Layout {
  static constexpr int kColumns = kD / 64;
  static constexpr int kColumnBytes = kKeys * 128;  // of keys and values
  static constexpr int kTileBytes = kColumns * kColumnBytes;
  static constexpr int kQueryColumnBytes = kGroupRows * 128;
  static constexpr int kQueryBytes = kColumns * kQueryColumnBytes;  // of one group
  static constexpr int kSharedBytes =
      1024 + kGroups * kQueryBytes + 2 * kStages * kTileBytes + 4 * kStages * 8;
};

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Shared memory, by address.
template <int kD>
struct Shared {
  std::uint32_t queries;
  std::uint32_t keys;
  std::uint32_t values;
  std::uint32_t barriers;

  __device__ explicit Shared(unsigned char* memory) {
    queries = (to_shared(memory) + 1023) & ~1023U;  // the swizzle's period
    keys = queries + kGroups * Layout<kD>::kQueryBytes;
    values = keys + kStages * Layout<kD>::kTileBytes;
    barriers = values + kStages * Layout<kD>::kTileBytes;
  }
  __device__ std::uint32_t keys_full(int stage) const { return barriers + stage * 8; }
  __device__ std::uint32_t values_full(int stage) const { return barriers + (kStages + stage) * 8; }
  __device__ std::uint32_t keys_free(int stage) const {
    return barriers + (2 * kStages + stage) * 8;
  }
  __device__ std::uint32_t values_free(int stage) const {
    return barriers + (3 * kStages + stage) * 8;
  }
};

__device__ __forceinline__ bool is_phase_over(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t is_over;
  asm volatile(
      "{\n"
      ".reg .pred over;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 over, [%1], %2;\n"
      "selp.u32 %0, 1, 0, over;\n"
      "}\n"
      : "=r"(is_over)
      : "r"(barrier), "r"(parity)
      : "memory");
  return is_over != 0;
}

// The block's i-th (tile, KV head), longest first and to and fro over the blocks; -1: no more.
__device__ __forceinline__ int work_index(int i, int num_works) {
  const int blocks = static_cast<int>(gridDim.x);
  const int block = static_cast<int>(blockIdx.x);
  const int index = i * blocks + (i % 2 == 0 ? block : blocks - 1 - block);
  return index < num_works ? index : -1;
}

// The copying warpgroup.
template <typename T, int kD>
class TileLoader {
 public:
  __device__ TileLoader(const PrefillParams& params, const Shared<kD>& shared)
      : params_(params), shared_(shared) {}

  __device__ __forceinline__ void load_work(int work) {
    const int kv_head = work % params_.num_kv_heads;
    const PrefillTile tile = load_prefill_tile(params_, work / params_.num_kv_heads);
    const PrefillSpan span = prefill_span(params_, tile, kKeys);
    RowGroupReader reader(params_, tile.sequence, kv_head, span);
    reader.prefetch(span.begin);
    for (int first = span.begin; first < span.end; first += kKeys) {
      const std::uint32_t row_groups = reader.row_groups(first);
      reader.prefetch(first + kKeys);
      const int stage = step_ % kStages;
      const std::uint32_t parity = (step_ / kStages & 1) ^ 1;
      wait_free(shared_.keys_free(stage), parity);
      copy_rows(params_.key_cache, row_groups, span.end - first,
                shared_.keys + stage * Layout<kD>::kTileBytes);
      publish_before(shared_.keys_full(stage));
      wait_free(shared_.values_free(stage), parity);
      copy_rows(params_.value_cache, row_groups, span.end - first,
                shared_.values + stage * Layout<kD>::kTileBytes);
      publish_before(shared_.values_full(stage));
      ++step_;
    }
  }
  __device__ __forceinline__ void finish() { publish_last(); }

 private:
  // Rows from num_valid on become zeros.
  __device__ __forceinline__ void copy_rows(const void* cache, std::uint32_t row_groups,
                                            int num_valid, std::uint32_t target) const {
    constexpr int kUnits = kD / 8;  // 16 bytes, of a row
    constexpr int kRows = kWarpgroupThreads / kUnits;
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroupThreads;
    const int unit = thread % kUnits;
    target += unit / 8 * Layout<kD>::kColumnBytes;
#pragma unroll 4
    for (int i = 0; i < kKeys / kRows; ++i) {
      const int row = i * kRows + thread / kUnits;
      const std::int64_t group = __shfl_sync(~0U, row_groups, row / 8);
      const T* source = static_cast<const T*>(cache) + group * (8 * kD) + row % 8 * kD + unit * 8;
      copy_async(target + swizzled_offset(row, unit % 8), source, row < num_valid);
    }
  }
  // Whoever frees the memory may be waiting for the tile before.
  __device__ __forceinline__ void wait_free(std::uint32_t barrier, std::uint32_t parity) {
    if (is_phase_over(barrier, parity)) return;
    publish_last();
    wait_phase(barrier, parity);
  }
  __device__ __forceinline__ void publish_last() {
    if (full_ == 0) return;
    wait_copies<0>();
    fence_async_proxy();
    arrive(full_);
    full_ = 0;
  }
  // Closes this tile's copies and hands over those of the tile before.
  __device__ __forceinline__ void publish_before(std::uint32_t full) {
    commit_copies();
    if (full_ != 0) {
      wait_copies<1>();
      fence_async_proxy();
      arrive(full_);
    }
    full_ = full;
  }

  const PrefillParams& params_;
  const Shared<kD>& shared_;
  int step_ = 0;
  std::uint32_t full_ = 0;  // barrier of the copies that were closed last
};

// The rows of a multiplying warpgroup. A lane holds rows lane / 4 and lane / 4 + 8 of its
// warp's 16.
template <int kD>
struct Rows {
  float sums[kD / 2] = {};
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0, 0};  // of the lane's keys only
  float rescale[2];
  int position[2];
  float slope[2];
  int seen_by_all_from;  // keys that no row of the group masks: [from, to)
  int seen_by_all_to;
};

__device__ __forceinline__ int first_row_of_lane() {
  return static_cast<int>(threadIdx.x) / 32 % 4 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
}

template <int kD>
__device__ __forceinline__ void init_rows(Rows<kD>& rows, const PrefillParams& params,
                                          const PrefillTile& tile, int kv_head, int group) {
  const auto position = [&](int row) {
    return tile.first_position +
           (tile.first_row + min(group * kGroupRows + row, tile.num_rows - 1)) / params.group_size;
  };
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row_of_lane() + i * 8;
    rows.position[i] = position(row);
    const int head = (tile.first_row + group * kGroupRows + row) % params.group_size;
    rows.slope[i] = score_slope(params.rule, kv_head * params.group_size + head);
  }
  rows.seen_by_all_from = window_begin(params.rule, position(kGroupRows - 1));
  rows.seen_by_all_to = position(0) + 1;
}

template <typename T, int kD>
__device__ __forceinline__ void load_queries(const PrefillParams& params, const PrefillTile& tile,
                                             int kv_head, int group, std::uint32_t target) {
  constexpr int kUnits = kD / 8;
  const int thread = static_cast<int>(threadIdx.x) % kWarpgroupThreads;
#pragma unroll 4
  for (int i = thread; i < kGroupRows * kUnits; i += kWarpgroupThreads) {
    const int row = i / kUnits;
    const int unit = i % kUnits;
    const int tile_row = group * kGroupRows + row;
    const T* source =
        query_row<T>(params, tile, kv_head, min(tile_row, tile.num_rows - 1), kD) + unit * 8;
    copy_async(target + unit / 8 * Layout<kD>::kQueryColumnBytes + swizzled_offset(row, unit % 8),
               source, tile_row < tile.num_rows);
  }
  commit_copies();
  wait_copies<0>();
  fence_async_proxy();
}

template <typename T, int kD>
__device__ __forceinline__ void start_scores(float (&scores)[kKeys / 2], std::uint32_t queries,
                                             std::uint32_t keys) {
#pragma unroll
  for (int k = 0; k < kD / 16; ++k) {
    const int column = k / 4;
    const int offset = k % 4 * 32;
    multiply_rows_by_rows<T>(
        scores, describe_operand(queries + column * Layout<kD>::kQueryColumnBytes + offset, 16),
        describe_operand(keys + column * Layout<kD>::kColumnBytes + offset, 16), k > 0);
  }
  commit_products();
}

template <typename T, int kD>
__device__ __forceinline__ void start_sums(float (&sums)[kD / 2],
                                           const std::uint32_t (&weights)[kKeys / 4],
                                           std::uint32_t values) {
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    const uint4 a =
        make_uint4(weights[4 * k], weights[4 * k + 1], weights[4 * k + 2], weights[4 * k + 3]);
    multiply_by_columns<T>(sums, a,
                           describe_operand(values + k * 16 * 128, Layout<kD>::kColumnBytes), true);
  }
  commit_products();
}

// Softcap and ALiBi, and -infinity for keys that a row does not see. With kIsPlain scores stay
// unscaled.
template <bool kIsPlain, int kD>
__device__ __forceinline__ void adjust_scores(float (&scores)[kKeys / 2], const Rows<kD>& rows,
                                              const ScoreRule& rule, int first) {
  if (kIsPlain && first >= rows.seen_by_all_from && first + kKeys <= rows.seen_by_all_to) return;
  const int column = first + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int i = 0; i < kKeys / 2; ++i) {
    const int half = i % 4 / 2;
    const int distance = column + i / 4 * 8 + i % 2 - rows.position[half];
    if (!kIsPlain) scores[i] = score_of(rule, scores[i], rows.slope[half], distance);
    if (!is_seen(rule, distance)) scores[i] = -INFINITY;
  }
}

// Scores to weights; maxima and totals follow, rows.rescale is for the sums so far.
template <int kD>
__device__ __forceinline__ void update_softmax(float (&scores)[kKeys / 2], Rows<kD>& rows,
                                               float factor) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = rows.largest[half];
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
      largest = fmaxf(largest, fmaxf(scores[4 * i + 2 * half], scores[4 * i + 2 * half + 1]));
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 2));
    const float shift = largest == -INFINITY ? 0.0F : largest * factor;
    rows.rescale[half] = exp2_fast(fmaf(rows.largest[half], factor, -shift));
    rows.largest[half] = largest;
    float total[2] = {rows.total[half] * rows.rescale[half], 0};
#pragma unroll
    for (int i = 0; i < kKeys / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float& score = scores[4 * i + 2 * half + j];
        score = exp2_fast(fmaf(score, factor, -shift));
        total[j] += score;
      }
    }
    rows.total[half] = total[0] + total[1];
  }
}

template <int kD>
__device__ __forceinline__ void rescale_sums(Rows<kD>& rows) {
#pragma unroll
  for (int i = 0; i < kD / 2; ++i) rows.sums[i] *= rows.rescale[i % 4 / 2];
}

template <typename T>
__device__ __forceinline__ void pack_weights(std::uint32_t (&weights)[kKeys / 4],
                                             const float (&scores)[kKeys / 2]) {
#pragma unroll
  for (int i = 0; i < kKeys / 4; ++i) weights[i] = pack<T>(scores[2 * i], scores[2 * i + 1]);
}

template <typename T, int kD>
__device__ __forceinline__ void store_rows(const Rows<kD>& rows, const PrefillParams& params,
                                           const PrefillTile& tile, int kv_head, int group) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = rows.total[half];
    total += __shfl_xor_sync(~0U, total, 1);
    total += __shfl_xor_sync(~0U, total, 2);
    const int row = group * kGroupRows + first_row_of_lane() + half * 8;
    if (row >= tile.num_rows) continue;
    const float factor = 1.0F / total;
    T* out = out_row<T>(params, tile, kv_head, row, kD) + static_cast<int>(threadIdx.x) % 4 * 2;
#pragma unroll
    for (int d = 0; d < kD / 8; ++d) {
      *reinterpret_cast<std::uint32_t*>(out + d * 8) =
          pack<T>(rows.sums[4 * d + 2 * half] * factor, rows.sums[4 * d + 2 * half + 1] * factor);
    }
  }
}

__device__ __forceinline__ void release(std::uint32_t barrier) {
  if (threadIdx.x % 32 == 0) arrive(barrier);
}

// A multiplying warpgroup: one tile of rows for one KV head. `step` counts tiles of keys.
template <typename T, int kD, bool kIsPlain>
__device__ __forceinline__ void attend_work(const PrefillParams& params, const Shared<kD>& shared,
                                            int work, int group, int& step) {
  const int kv_head = work % params.num_kv_heads;
  const PrefillTile tile = load_prefill_tile(params, work / params.num_kv_heads);
  const PrefillSpan span = prefill_span(params, tile, kKeys);
  const float factor = kIsPlain ? params.rule.factor : 1.0F;
  const std::uint32_t queries = shared.queries + group * Layout<kD>::kQueryBytes;
  sync_warpgroup(group);  // the queries before have been read
  load_queries<T, kD>(params, tile, kv_head, group, queries);
  sync_warpgroup(group);
  Rows<kD> rows;
  init_rows(rows, params, tile, kv_head, group);

  float scores[kKeys / 2];
  std::uint32_t weights[kKeys / 4];
  int stage = step % kStages;
  wait_phase(shared.keys_full(stage), step / kStages & 1);
  begin_products();
  start_scores<T, kD>(scores, queries, shared.keys + stage * Layout<kD>::kTileBytes);
  wait_products<0>();
  pin_registers(scores);
  release(shared.keys_free(stage));
  adjust_scores<kIsPlain>(scores, rows, params.rule, span.begin);
  update_softmax(scores, rows, factor);
  pack_weights<T>(weights, scores);

  for (int first = span.begin + kKeys; first < span.end; first += kKeys) {
    const int next_stage = (step + 1) % kStages;
    wait_phase(shared.keys_full(next_stage), (step + 1) / kStages & 1);
    begin_products();
    start_scores<T, kD>(scores, queries, shared.keys + next_stage * Layout<kD>::kTileBytes);
    wait_phase(shared.values_full(stage), step / kStages & 1);
    start_sums<T, kD>(rows.sums, weights, shared.values + stage * Layout<kD>::kTileBytes);
    wait_products<1>();
    pin_registers(scores);
    release(shared.keys_free(next_stage));
    adjust_scores<kIsPlain>(scores, rows, params.rule, first);
    update_softmax(scores, rows, factor);
    wait_products<0>();
    pin_registers(rows.sums);
    release(shared.values_free(stage));
    rescale_sums(rows);
    pack_weights<T>(weights, scores);
    stage = next_stage;
    ++step;
  }
  wait_phase(shared.values_full(stage), step / kStages & 1);
  begin_products();
  start_sums<T, kD>(rows.sums, weights, shared.values + stage * Layout<kD>::kTileBytes);
  wait_products<0>();
  pin_registers(rows.sums);
  release(shared.values_free(stage));
  ++step;
  store_rows<T, kD>(rows, params, tile, kv_head, group);
}

template <int kD>
__device__ __forceinline__ void init_barriers(const Shared<kD>& shared) {
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      init_barrier(shared.keys_full(stage), kWarpgroupThreads);
      init_barrier(shared.values_full(stage), kWarpgroupThreads);
      init_barrier(shared.keys_free(stage), kGroups * kWarpgroupThreads / 32);
      init_barrier(shared.values_free(stage), kGroups * kWarpgroupThreads / 32);
    }
    fence_barrier_init();
  }
  __syncthreads();
}

#endif

template <typename T, int kD, bool kIsPlain>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_kernel(const __grid_constant__ PrefillParams params, int num_works) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char memory[];
  const Shared<kD> shared(memory);
  init_barriers(shared);
  wait_for_inputs();
  allow_next();
  const int group = static_cast<int>(threadIdx.x) / kWarpgroupThreads;
  if (group == kGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCopyRegisters));
    TileLoader<T, kD> loader(params, shared);
    for (int i = 0, work = work_index(0, num_works); work >= 0; work = work_index(++i, num_works)) {
      loader.load_work(work);
    }
    loader.finish();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplyRegisters));
    int step = 0;
    for (int i = 0, work = work_index(0, num_works); work >= 0; work = work_index(++i, num_works)) {
      attend_work<T, kD, kIsPlain>(params, shared, work, group, step);
    }
  }
#endif
}

// Calls f(element type's value, integral_constant of the head size, bool_constant of is_plain).
template <typename F>
void dispatch(const AttentionShape& shape, bool is_plain, F&& f) {
  const auto with_head_dim = [&](auto element) {
    using T = decltype(element);
    const auto with_plain = [&](auto head_dim) {
      if (is_plain) {
        f(T{}, head_dim, std::true_type{});
      } else {
        f(T{}, head_dim, std::false_type{});
      }
    };
    if (shape.head_dim == 64) {
      with_plain(std::integral_constant<int, 64>{});
    } else {
      with_plain(std::integral_constant<int, 128>{});
    }
  };
  if (shape.dtype == DType::kBf16) {
    with_head_dim(__nv_bfloat16{});
  } else {
    with_head_dim(__half{});
  }
}

}  // namespace

bool has_prefill_hopper(const AttentionShape& shape) {
  return (shape.head_dim == 64 || shape.head_dim == 128) && runs_hopper_code();
}

void prepare_prefill_hopper(const AttentionShape& shape) {
  for (const bool is_plain : {false, true}) {
    dispatch(shape, is_plain, [&](auto element, auto head_dim, auto plain) {
      using T = decltype(element);
      constexpr int kD = decltype(head_dim)::value;
      check_cuda(cudaFuncSetAttribute(prefill_kernel<T, kD, decltype(plain)::value>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      Layout<kD>::kSharedBytes),
                 "prefill_attention: shared memory");
    });
  }
}

void launch_prefill_hopper(const Launch& options, const AttentionShape& shape,
                           const PrefillParams& params, int num_tiles) {
  const int num_works = num_tiles * shape.num_kv_heads;
  const int blocks = std::min(num_works, device_attribute(cudaDevAttrMultiProcessorCount));
  dispatch(shape, params.is_plain, [&](auto element, auto head_dim, auto plain) {
    using T = decltype(element);
    constexpr int kD = decltype(head_dim)::value;
    launch(options, "prefill_attention", prefill_kernel<T, kD, decltype(plain)::value>,
           dim3(static_cast<unsigned>(blocks)), dim3(kThreads), Layout<kD>::kSharedBytes, params,
           num_works);
  });
}

}  // namespace llmrun::kernels
