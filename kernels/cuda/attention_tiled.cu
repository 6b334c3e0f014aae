// Which shapes the tensor-core kernels take, and which of the prefill kernels runs.
#include "kernels/cuda/attention_dispatch.h"
#include "kernels/cuda/attention_prefill.cuh"

namespace llmrun::kernels {

bool has_tiled_attention(const AttentionShape& shape) {
  const bool is_half = shape.dtype == DType::kBf16 || shape.dtype == DType::kF16;
  const int d = shape.head_dim;
  return is_half && (d == 64 || d == 80 || d == 96 || d == 128 || d == 256) &&
         shape.block_size % 8 == 0 && shape.num_query_heads % shape.num_kv_heads == 0;
}

int prepare_tiled_attention(const AttentionShape& shape) {
  prepare_prefill_mma(shape);
  if (has_prefill_hopper(shape)) prepare_prefill_hopper(shape);
  return prepare_decode_attention(shape);
}

void prefill_attention(const Launch& options, const PagedAttention& args, const std::int32_t* tiles,
                       int num_tiles) {
  if (num_tiles == 0) return;
  const AttentionShape& shape = args.shape;
  PrefillParams params{};
  params.out = args.out;
  params.qkv = args.qkv;
  params.key_cache = args.key_cache;
  params.value_cache = args.value_cache;
  params.block_tables = args.block_tables;
  params.tiles = reinterpret_cast<const PrefillTile*>(tiles);
  params.max_num_blocks = args.max_num_blocks;
  params.block_size = static_cast<int>(shape.block_size);
  params.num_query_heads = shape.num_query_heads;
  params.num_kv_heads = shape.num_kv_heads;
  params.group_size = shape.num_query_heads / shape.num_kv_heads;
  params.is_plain = args.logit_softcap <= 0 && args.alibi_slopes == nullptr;
  params.rule = make_score_rule(args);
  if (has_prefill_hopper(shape)) {
    launch_prefill_hopper(options, shape, params, num_tiles);
  } else {
    launch_prefill_mma(options, shape, params, num_tiles);
  }
}

}  // namespace llmrun::kernels
