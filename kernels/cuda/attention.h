// Causal attention over the paged KV cache on a GPU. Shape letters: engine/backend/step_inputs.h.
//
// decode_attention takes the tokens that the plan lists as DecodeItems, prefill_attention the rows
// of its PrefillTiles (kernels/cuda/attention_work.h); in any batch the two together write all of
// out. plain_attention needs no plan, takes every shape, and is what they are checked against.
//
// Decode moves each key and value once: 2 S L Hkv D elements for S sequences of length L, and is
// bound by memory. Prefill is bound by arithmetic: 4 Hq D operations for each pair of a query and a
// key it sees.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/core/dtype.h"
#include "kernels/cuda/attention_work.h"
#include "kernels/cuda/launch.h"

namespace llmrun::kernels {

struct AttentionShape {
  int num_query_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  std::int64_t block_size = 0;  // tokens
  DType dtype = DType::kBf16;   // of activations and of the cache
};

// One layer's attention.
struct PagedAttention {
  AttentionShape shape;
  void* out = nullptr;                // [T, Hq D]
  const void* qkv = nullptr;          // [T, (Hq + 2 Hkv) D]; only the rotated q is read
  const void* key_cache = nullptr;    // [num_blocks, Hkv, block_size, D], this step's keys included
  const void* value_cache = nullptr;  // likewise
  const std::int32_t* block_tables = nullptr;  // [S, B]
  int max_num_blocks = 0;                      // B
  float scale = 1.0F;                          // applied to q . k
  float logit_softcap = 0.0F;                  // > 0: softcap * tanh(score / softcap)
  int sliding_window = 0;                      // > 0: positions that a token sees, itself included
  const float* alibi_slopes = nullptr;  // [Hq] or null: slope * (key position - query position)
};

// Whether decode_attention and prefill_attention take a shape: bf16 or f16, head_dim 64, 80, 96,
// 128 or 256, block_size % 8 == 0. Everything else is for plain_attention.
bool has_tiled_attention(const AttentionShape& shape);

// Decode workers that fill the current device once: what the plan is made for. Also allows the
// kernels their shared memory on this device: call it once for each device and shape before the
// first launch of either.
int prepare_tiled_attention(const AttentionShape& shape);

// Device memory for the parts of tokens whose context is split over workers, `max_slots` of the
// plan. Must be zero before the first launch; every launch leaves its counters zero.
std::size_t decode_workspace_bytes(const AttentionShape& shape, std::int64_t max_slots);

// The plan's decode items. Grid and arguments depend on nothing but these parameters, so that it
// can be recorded in a graph; the items are read from `plan`, which has at least one: kernels
// behind this one wait for what is in front of it through the blocks that have items.
void decode_attention(const Launch& launch, const PagedAttention& args, const std::int32_t* plan,
                      int num_workers, void* workspace, std::int64_t max_slots);

// The plan's prefill tiles, `num_tiles` of them at `tiles` (plan + prefill_offset).
void prefill_attention(const Launch& launch, const PagedAttention& args, const std::int32_t* tiles,
                       int num_tiles);

// All tokens: one block of threads for each (token, query head), a plain online softmax, any dtype
// and head_dim up to 1024. Tokens behind query_start_loc[S] are left alone.
void plain_attention(const Launch& launch, const PagedAttention& args,
                     const std::int32_t* query_start_loc,  // [S + 1]
                     const std::int32_t* seq_lens,         // [S]
                     int num_tokens, int num_sequences);

}  // namespace llmrun::kernels
