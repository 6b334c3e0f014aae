#include "engine/backend/cuda/cuda_attention.h"

#include "engine/core/error.h"
#include "kernels/cuda/check.h"

namespace llmrun {
namespace {

kernels::AttentionShape shape_of(const CudaAttention::Options& options) {
  return {.num_query_heads = options.limits.num_query_heads,
          .num_kv_heads = options.limits.kv_cache.num_kv_heads,
          .head_dim = options.limits.kv_cache.head_dim,
          .block_size = options.limits.kv_cache.block_size,
          .dtype = options.dtype};
}

// The tiled kernels' buffers for heads of more than 64 need the shared memory of an A100 or H100;
// smaller devices of the same generations have less.
bool fits_shared_memory(std::int32_t head_dim) {
  constexpr int kSharedBytes = 160 * 1024;
  return head_dim <= 64 ||
         kernels::device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) >= kSharedBytes;
}

bool is_tiled(const CudaAttention::Options& options) {
  return !options.plain && kernels::has_tiled_attention(shape_of(options)) &&
         fits_shared_memory(options.limits.kv_cache.head_dim);
}

AttentionPlanOptions plan_options(const CudaAttention::Options& options) {
  if (!is_tiled(options)) return {};
  return {.num_workers = kernels::prepare_tiled_attention(shape_of(options)),
          .group_size = options.limits.num_query_heads / options.limits.kv_cache.num_kv_heads,
          .batch_invariant = options.deterministic};
}

AttentionPlanLimits plan_limits(const CudaAttention::Options& options) {
  if (!is_tiled(options)) return {};
  return attention_plan_limits(plan_options(options), options.limits.max_num_tokens,
                               options.limits.max_num_sequences);
}

}  // namespace

CudaAttention::CudaAttention(kernels::Launch launch, const Options& options)
    : launch_(launch),
      shape_(shape_of(options)),
      is_tiled_(is_tiled(options)),
      plan_options_(plan_options(options)),
      plan_limits_(plan_limits(options)),
      words_(plan_limits_.num_words) {
  if (options.limits.kv_cache.dtype != options.dtype) {
    throw Error(ErrorKind::kUsage,
                "--kv-cache-dtype: a GPU keeps the KV cache in the dtype of the model; use auto");
  }
  if (!is_tiled_) return;
  workspace_ = std::make_unique<CudaBuffer>(num_bytes(options));
  kernels::check_cuda(
      cudaMemsetAsync(workspace_->data(), 0, workspace_->num_bytes(), launch.stream),
      "cudaMemsetAsync");
}

std::size_t CudaAttention::num_bytes(const Options& options) {
  if (!is_tiled(options)) return 0;
  return kernels::decode_workspace_bytes(shape_of(options), plan_limits(options).num_slots);
}

std::int64_t CudaAttention::max_plan_words(const Options& options) {
  return static_cast<std::int64_t>(plan_limits(options).num_words);
}

std::span<const std::int32_t> CudaAttention::plan(const StepInputs& inputs) {
  if (!is_tiled_) return {};
  plan_ = plan_attention(inputs, plan_options_, words_);
  return std::span(words_).first(plan_.num_words);
}

void CudaAttention::run(const Tensor& out, const Tensor& qkv, const KvCacheView& kv,
                        const ForwardBatch& batch, const AttentionParams& params,
                        const std::int32_t* device_plan) {
  LLMRUN_CHECK(kv.key.rank() == 4 && kv.key.dtype() == shape_.dtype && out.dtype() == shape_.dtype);
  LLMRUN_CHECK(kv.key.dim(1) == shape_.num_kv_heads && kv.key.dim(2) == shape_.block_size &&
               kv.key.dim(3) == shape_.head_dim);
  LLMRUN_CHECK(qkv.dim(0) == batch.num_tokens && out.dim(0) == batch.num_tokens);
  const kernels::PagedAttention args{
      .shape = shape_,
      .out = out.data(),
      .qkv = qkv.data(),
      .key_cache = kv.key.data(),
      .value_cache = kv.value.data(),
      .block_tables = batch.block_tables.as<std::int32_t>(),
      .max_num_blocks = static_cast<int>(batch.block_tables.dim(1)),
      .scale = params.scale,
      .logit_softcap = params.logit_softcap,
      .sliding_window = params.sliding_window,
      .alibi_slopes = params.alibi_slopes.empty() ? nullptr : params.alibi_slopes.as<float>()};
  if (!is_tiled_) {
    kernels::plain_attention(launch_, args, batch.query_start_loc.as<std::int32_t>(),
                             batch.seq_lens.as<std::int32_t>(), batch.num_tokens,
                             batch.num_sequences);
    return;
  }
  if (plan_.num_decode_items > 0) {
    kernels::decode_attention(launch_, args, device_plan, plan_options_.num_workers,
                              workspace_->data(), plan_limits_.num_slots);
  }
  if (plan_.num_prefill_tiles > 0) {
    kernels::prefill_attention(launch_, args, device_plan + plan_.prefill_offset,
                               plan_.num_prefill_tiles);
  }
}

}  // namespace llmrun
