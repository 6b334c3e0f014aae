#include "engine/models/decoder_blocks.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/models/rope.h"

namespace llmrun {
namespace {

// The first rows of a workspace buffer, seen with `size` columns.
Tensor view(const DeviceTensor& buffer, std::int64_t num_rows, std::int64_t size) {
  LLMRUN_CHECK(num_rows * size <= buffer.tensor.num_elements());
  return {buffer.tensor.data(), buffer.tensor.dtype(), {num_rows, size}};
}

}  // namespace

PreNormDecoder::PreNormDecoder(ModelConfig config, const DecoderTraits& traits,
                               WeightLoader& weights, std::int64_t max_positions)
    : config_(std::move(config)), max_positions_(max_positions) {
  const std::int64_t hidden_size = config_.hidden_size;
  const std::int64_t vocab_size = config_.vocab_size;
  embedding_ =
      weights.linear({.parts = {{"model.embed_tokens", vocab_size}}, .num_columns = hidden_size});
  for (std::int32_t layer = 0; layer < config_.num_layers; ++layer) {
    layers_.push_back(load_layer(layer, traits, weights));
  }
  final_norm_ = weights.norm("model.norm", hidden_size);
  if (config_.tie_word_embeddings) {
    weights.ignore("lm_head.weight");
  } else {
    lm_head_ = weights.linear({.parts = {{"lm_head", vocab_size}}, .num_columns = hidden_size});
  }
  std::vector<float> table = make_rope_table(config_.rope, config_.head_dim, max_positions);
  rope_table_ =
      weights.constant(Tensor(table.data(), DType::kF32, {max_positions, config_.head_dim}));
}

DecoderLayer PreNormDecoder::load_layer(std::int32_t index, const DecoderTraits& traits,
                                        WeightLoader& weights) {
  const std::string name = fmt::format("model.layers.{}.", index);
  const std::string attention = name + "self_attn.";
  const std::int64_t hidden_size = config_.hidden_size;
  const std::int64_t intermediate_size = config_.intermediate_size;
  DecoderLayer layer;
  layer.attention_norm = weights.norm(name + "input_layernorm", hidden_size);
  layer.qkv = weights.linear({.parts = {{attention + "q_proj", config_.q_size()},
                                        {attention + "k_proj", config_.kv_size()},
                                        {attention + "v_proj", config_.kv_size()}},
                              .num_columns = hidden_size,
                              .has_bias = traits.qkv_bias});
  layer.attention_output = weights.linear({.parts = {{attention + "o_proj", hidden_size}},
                                           .num_columns = config_.q_size(),
                                           .has_bias = traits.attention_output_bias});
  layer.mlp_norm = weights.norm(name + "post_attention_layernorm", hidden_size);
  layer.gate_up =
      weights.gate_up(name + "mlp.gate_proj", name + "mlp.up_proj", intermediate_size, hidden_size);
  layer.down = weights.linear(
      {.parts = {{name + "mlp.down_proj", hidden_size}}, .num_columns = intermediate_size});
  // Constants that old checkpoints stored as if they were weights.
  weights.ignore(attention + "rotary_emb.inv_freq");
  layer.attention_params.scale = static_cast<float>(1.0 / std::sqrt(config_.head_dim));
  layer.attention_params.sliding_window = config_.sliding_windows[static_cast<std::size_t>(index)];
  return layer;
}

std::size_t PreNormDecoder::weight_bytes() const {
  const auto bytes_of = [](const auto& owner) { return owner ? owner->num_bytes() : 0; };
  std::size_t sum = bytes_of(embedding_) + bytes_of(lm_head_) + bytes_of(final_norm_.buffer) +
                    bytes_of(rope_table_.buffer);
  for (const DecoderLayer& layer : layers_) {
    sum += bytes_of(layer.attention_norm.buffer) + bytes_of(layer.qkv) +
           bytes_of(layer.attention_output) + bytes_of(layer.mlp_norm.buffer) +
           bytes_of(layer.gate_up) + bytes_of(layer.down);
  }
  return sum;
}

std::int64_t PreNormDecoder::narrow_size() const {
  return std::max<std::int64_t>(config_.hidden_size, config_.q_size());
}

std::int64_t PreNormDecoder::wide_size() const {
  return std::max<std::int64_t>(config_.q_size() + 2 * config_.kv_size(),
                                config_.intermediate_size);
}

std::size_t PreNormDecoder::workspace_bytes(DType activation_dtype, std::int64_t max_tokens,
                                            std::int64_t max_logits_rows) const {
  const std::int64_t num_elements =
      max_tokens * (config_.hidden_size + narrow_size() + wide_size()) +
      max_logits_rows * config_.hidden_size;
  return static_cast<std::size_t>(num_elements) * dtype_bytes(activation_dtype);
}

void PreNormDecoder::allocate_workspace(Backend& backend, std::int64_t max_tokens,
                                        std::int64_t max_logits_rows) {
  LLMRUN_CHECK(max_tokens >= 1 && max_logits_rows >= 1);
  const DType dtype = backend.activation_dtype();
  workspace_ = {};
  workspace_.hidden = backend.allocate_tensor(dtype, {max_tokens, config_.hidden_size});
  workspace_.narrow = backend.allocate_tensor(dtype, {max_tokens, narrow_size()});
  workspace_.wide = backend.allocate_tensor(dtype, {max_tokens, wide_size()});
  workspace_.logits_rows = backend.allocate_tensor(dtype, {max_logits_rows, config_.hidden_size});
}

Tensor PreNormDecoder::hidden_states(std::int64_t num_rows) const {
  return workspace_.logits_rows.tensor.rows(num_rows);
}

void PreNormDecoder::forward(Backend& backend, const ForwardBatch& batch,
                             std::span<const KvCacheView> layers) {
  LLMRUN_CHECK(layers.size() == layers_.size());
  const std::int64_t num_tokens = batch.num_tokens;
  const std::int64_t num_rows = batch.num_logits_rows;
  Tensor hidden = view(workspace_.hidden, num_tokens, config_.hidden_size);
  backend.embedding(hidden, *embedding_, batch.token_ids);

  for (std::size_t i = 0; i + 1 < layers_.size(); ++i) {
    project_qkv(backend, layers_[i], layers[i], batch);
    attend(backend, layers_[i], layers[i], batch);
    const Tensor attention = view(workspace_.narrow, num_tokens, config_.q_size());
    backend.linear_add(hidden, attention, *layers_[i].attention_output);
    run_mlp(backend, layers_[i], hidden);
  }

  // Nothing reads the last layer's output but the rows whose logits are wanted: the others are done
  // as soon as their keys and values are stored.
  const DecoderLayer& last = layers_.back();
  project_qkv(backend, last, layers.back(), batch);
  if (num_rows == 0) return;
  const Tensor rows = hidden_states(num_rows);
  attend(backend, last, layers.back(), batch);
  Tensor attention = view(workspace_.narrow, num_tokens, config_.q_size());
  const Tensor attention_rows = view(workspace_.wide, num_rows, config_.q_size());  // qkv is dead
  backend.gather_rows(attention_rows, attention, batch.logits_indices);
  backend.gather_rows(rows, hidden, batch.logits_indices);
  backend.linear_add(rows, attention_rows, *last.attention_output);
  run_mlp(backend, last, rows);
  backend.rms_norm(rows, rows, final_norm_.tensor, static_cast<float>(config_.rms_norm_eps));
}

// hidden [T, H] -> narrow: normed [T, H] -> wide: qkv [T, (Hq + 2 Hkv) D], rotated and stored
void PreNormDecoder::project_qkv(Backend& backend, const DecoderLayer& layer, const KvCacheView& kv,
                                 const ForwardBatch& batch) {
  const Tensor hidden = view(workspace_.hidden, batch.num_tokens, config_.hidden_size);
  const Tensor normed = view(workspace_.narrow, batch.num_tokens, config_.hidden_size);
  const Tensor qkv =
      view(workspace_.wide, batch.num_tokens, config_.q_size() + 2 * config_.kv_size());
  backend.rms_norm(normed, hidden, layer.attention_norm.tensor,
                   static_cast<float>(config_.rms_norm_eps));
  backend.linear(qkv, normed, *layer.qkv);
  backend.rope_and_store_kv(qkv, kv, batch, rope_table_.tensor, config_.num_query_heads);
}

// wide: qkv [T, (Hq + 2 Hkv) D] -> narrow: attention output [T, Hq D]
void PreNormDecoder::attend(Backend& backend, const DecoderLayer& layer, const KvCacheView& kv,
                            const ForwardBatch& batch) {
  const Tensor qkv =
      view(workspace_.wide, batch.num_tokens, config_.q_size() + 2 * config_.kv_size());
  const Tensor out = view(workspace_.narrow, batch.num_tokens, config_.q_size());
  backend.attention(out, qkv, kv, batch, layer.attention_params);
}

// hidden [n, H] -> narrow: normed [n, H] -> wide: activation [n, I] -> added to hidden
void PreNormDecoder::run_mlp(Backend& backend, const DecoderLayer& layer, Tensor hidden) {
  const Tensor normed = view(workspace_.narrow, hidden.dim(0), config_.hidden_size);
  const Tensor activation = view(workspace_.wide, hidden.dim(0), config_.intermediate_size);
  backend.rms_norm(normed, hidden, layer.mlp_norm.tensor, static_cast<float>(config_.rms_norm_eps));
  backend.gate_up_silu(activation, normed, *layer.gate_up);
  backend.linear_add(hidden, activation, *layer.down);
}

void PreNormDecoder::compute_logits(Backend& backend, Tensor logits, Tensor hidden) {
  backend.linear(logits, hidden, lm_head_ ? *lm_head_ : *embedding_);
}

}  // namespace llmrun
