#include "engine/models/decoder_blocks.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/float16.h"
#include "engine/models/rope.h"

namespace llmrun {
namespace {

// The first rows of a workspace buffer, seen with `size` columns of `dtype`.
Tensor view(const DeviceTensor& buffer, DType dtype, std::int64_t num_rows, std::int64_t size) {
  const Tensor seen(buffer.tensor.data(), dtype, {num_rows, size});
  LLMRUN_CHECK(seen.num_bytes() <= buffer.tensor.num_bytes());
  return seen;
}
Tensor view(const DeviceTensor& buffer, std::int64_t num_rows, std::int64_t size) {
  return view(buffer, buffer.tensor.dtype(), num_rows, size);
}

std::size_t bytes_of(const std::unique_ptr<LinearWeight>& weight) {
  return weight ? weight->num_bytes() : 0;
}
std::size_t bytes_of(const DeviceTensor& tensor) {
  return tensor.buffer ? tensor.buffer->num_bytes() : 0;
}
std::size_t bytes_of(const Norm& norm) {
  return bytes_of(norm.weight) + bytes_of(norm.bias);
}
std::size_t bytes_of(const DecoderLayer& layer) {
  std::size_t sum = bytes_of(layer.attention_norm) + bytes_of(layer.qkv) +
                    bytes_of(layer.query_norm) + bytes_of(layer.key_norm) +
                    bytes_of(layer.attention_output) + bytes_of(layer.attention_output_norm) +
                    bytes_of(layer.mlp_norm) + bytes_of(layer.gate_up) + bytes_of(layer.up) +
                    bytes_of(layer.down) + bytes_of(layer.router) + bytes_of(layer.mlp_output_norm);
  for (const Expert& expert : layer.experts)
    sum += bytes_of(expert.gate_up) + bytes_of(expert.down);
  return sum;
}

// transformers keeps the factor in the dtype of the activations.
float rounded_to(DType dtype, double factor) {
  const auto value = static_cast<float>(factor);
  if (dtype == DType::kBf16) return bf16_to_float(float_to_bf16(value));
  if (dtype == DType::kF16) return f16_to_float(float_to_f16(value));
  return value;
}

}  // namespace

Norm load_rms_norm(WeightLoader& weights, const std::string& name, std::int64_t size, float added) {
  return {NormKind::kRms, weights.vector(name + ".weight", size, added), {}};
}

Norm load_layer_norm(WeightLoader& weights, const std::string& name, std::int64_t size) {
  return {NormKind::kLayer, weights.vector(name + ".weight", size),
          weights.vector(name + ".bias", size)};
}

AttentionParams make_attention_params(const ModelConfig& config, std::int32_t layer) {
  double scale = config.attention_scale;
  if (scale == 0.0) scale = 1.0 / std::sqrt(config.head_dim);
  if (config.attention_scale_by_layer) scale /= layer + 1;
  return {.scale = static_cast<float>(scale),
          .logit_softcap = static_cast<float>(config.attention_softcap),
          .sliding_window = config.sliding_windows[static_cast<std::size_t>(layer)]};
}

DeviceTensor load_rope_table(const ModelConfig& config, WeightLoader& weights,
                             std::int64_t max_positions) {
  std::vector<float> table = make_rope_table(config.rope, config.rotary_size(), max_positions);
  return weights.constant(Tensor(table.data(), DType::kF32, {max_positions, config.rotary_size()}));
}

Decoder::Decoder(ModelConfig config, DecoderWeights weights, std::int64_t max_positions)
    : config_(std::move(config)), weights_(std::move(weights)), max_positions_(max_positions) {
  for (DecoderLayer& layer : weights_.layers) {
    layer.attention_params.alibi_slopes = weights_.alibi_slopes.tensor;
  }
}

std::size_t Decoder::weight_bytes() const {
  std::size_t sum = bytes_of(weights_.embedding) + bytes_of(weights_.embedding_input) +
                    bytes_of(weights_.positions) + bytes_of(weights_.rope_table) +
                    bytes_of(weights_.alibi_slopes) + bytes_of(weights_.final_norm) +
                    bytes_of(weights_.embedding_output) + bytes_of(weights_.lm_head);
  for (const DecoderLayer& layer : weights_.layers) sum += bytes_of(layer);
  return sum;
}

std::int64_t Decoder::narrow_size() const {
  return std::max<std::int64_t>(config_.hidden_size, config_.q_size());
}

std::int64_t Decoder::wide_size() const {
  return std::max({config_.qkv_size(), std::int64_t{config_.intermediate_size},
                   std::int64_t{config_.hidden_size}, std::int64_t{config_.embedding_width()}});
}

std::size_t Decoder::workspace_bytes(DType activation_dtype, std::int64_t max_tokens,
                                     std::int64_t max_logits_rows) const {
  const std::int64_t row_size =
      config_.hidden_size + (has_projection() ? config_.embedding_width() : 0);
  const std::int64_t num_elements =
      max_tokens * (config_.hidden_size + narrow_size() + wide_size()) + max_logits_rows * row_size;
  return static_cast<std::size_t>(num_elements) * dtype_bytes(activation_dtype) +
         static_cast<std::size_t>(max_tokens * config_.num_experts) * sizeof(float);
}

void Decoder::allocate_workspace(Backend& backend, std::int64_t max_tokens,
                                 std::int64_t max_logits_rows) {
  LLMRUN_CHECK(max_tokens >= 1 && max_logits_rows >= 1);
  const DType dtype = backend.activation_dtype();
  workspace_ = {};
  workspace_.hidden = backend.allocate_tensor(dtype, {max_tokens, config_.hidden_size});
  workspace_.narrow = backend.allocate_tensor(dtype, {max_tokens, narrow_size()});
  workspace_.wide = backend.allocate_tensor(dtype, {max_tokens, wide_size()});
  workspace_.logits_rows = backend.allocate_tensor(dtype, {max_logits_rows, config_.hidden_size});
  if (config_.num_experts > 0) {
    workspace_.routing = backend.allocate_tensor(DType::kF32, {max_tokens, config_.num_experts});
  }
  if (has_projection()) {
    workspace_.output_rows =
        backend.allocate_tensor(dtype, {max_logits_rows, config_.embedding_width()});
  }
}

Tensor Decoder::hidden_states(std::int64_t num_rows) const {
  const DeviceTensor& rows = has_projection() ? workspace_.output_rows : workspace_.logits_rows;
  return rows.tensor.rows(num_rows);
}

void Decoder::forward(Backend& backend, const ForwardBatch& batch,
                      std::span<const KvCacheView> layers) {
  LLMRUN_CHECK(layers.size() == weights_.layers.size());
  const std::int64_t num_tokens = batch.num_tokens;
  const std::int64_t num_rows = batch.num_logits_rows;
  const std::int64_t hidden_size = config_.hidden_size;
  Tensor hidden = view(workspace_.hidden, num_tokens, hidden_size);
  embed(backend, batch, hidden);

  for (std::size_t i = 0; i + 1 < layers.size(); ++i) {
    const DecoderLayer& layer = weights_.layers[i];
    project_qkv(backend, layer, layers[i], batch);
    attend(backend, layer, layers[i], batch);
    add_block(backend, hidden, attention_output(backend, layer, num_tokens),
              *layer.attention_output, layer.attention_output_norm, layer.attention_norm,
              view(workspace_.wide, num_tokens, hidden_size));
    run_mlp(backend, layer, hidden);
  }

  // Nothing reads the last layer's output but the rows whose logits are wanted: the others are done
  // as soon as their keys and values are stored.
  const DecoderLayer& last = weights_.layers.back();
  project_qkv(backend, last, layers.back(), batch);
  if (num_rows == 0) return;
  attend(backend, last, layers.back(), batch);
  const Tensor rows = workspace_.logits_rows.tensor.rows(num_rows);
  const Tensor attention = attention_output(backend, last, num_tokens);
  const Tensor attention_rows =
      view(workspace_.wide, attention.dtype(), num_rows, config_.q_size());  // qkv is dead
  backend.gather_rows(attention_rows, attention, batch.logits_indices);
  backend.gather_rows(rows, hidden, batch.logits_indices);
  add_block(backend, rows, attention_rows, *last.attention_output, last.attention_output_norm,
            last.attention_norm, view(workspace_.narrow, num_rows, hidden_size));
  run_mlp(backend, last, rows);
  if (weights_.final_norm.exists()) apply(backend, weights_.final_norm, rows, rows);
  if (has_projection()) {
    backend.linear(hidden_states(num_rows), rows, *weights_.embedding_output);
  }
}

void Decoder::embed(Backend& backend, const ForwardBatch& batch, Tensor hidden) {
  if (has_projection()) {
    const Tensor narrow = view(workspace_.wide, batch.num_tokens, config_.embedding_width());
    backend.embedding(narrow, *weights_.embedding, batch.token_ids);
    backend.linear(hidden, narrow, *weights_.embedding_input);
  } else {
    backend.embedding(hidden, *weights_.embedding, batch.token_ids);
  }
  if (config_.embedding_scale != 1.0) {
    backend.scale(hidden, rounded_to(backend.activation_dtype(), config_.embedding_scale));
  }
  if (weights_.positions) backend.embedding_add(hidden, *weights_.positions, batch.positions);
}

void Decoder::apply(Backend& backend, const Norm& norm, Tensor out, Tensor x) const {
  const auto eps = static_cast<float>(config_.norm_eps);
  if (norm.kind == NormKind::kRms) {
    backend.rms_norm(out, x, norm.weight.tensor, eps);
  } else {
    backend.layer_norm(out, x, norm.weight.tensor, norm.bias.tensor, eps);
  }
}

// hidden [n, H] -> narrow: normed [n, H] for a product with `weight`; hidden itself where norms
// come after
Tensor Decoder::block_input(Backend& backend, const Norm& norm, Tensor hidden,
                            const LinearWeight& weight) const {
  if (config_.norms_after_residual) return hidden;
  const DType dtype =
      norm.kind == NormKind::kRms ? backend.linear_input_dtype(weight) : backend.activation_dtype();
  const Tensor normed = view(workspace_.narrow, dtype, hidden.dim(0), config_.hidden_size);
  apply(backend, norm, normed, hidden);
  return normed;
}

// hidden [n, H] += x W^T, the end of a block. `scratch` [n, H] is overwritten; it is not x.
void Decoder::add_block(Backend& backend, Tensor hidden, Tensor x, const LinearWeight& weight,
                        const Norm& output_norm, const Norm& residual_norm, Tensor scratch) const {
  if (output_norm.exists()) {
    backend.linear(scratch, x, weight);
    apply(backend, output_norm, scratch, scratch);
    backend.add(hidden, scratch);
  } else {
    backend.linear_add(hidden, x, weight);
  }
  if (config_.norms_after_residual) apply(backend, residual_norm, hidden, hidden);
}

// hidden [T, H] -> wide: qkv [T, (Hq + 2 Hkv) D], rotated and stored
void Decoder::project_qkv(Backend& backend, const DecoderLayer& layer, const KvCacheView& kv,
                          const ForwardBatch& batch) {
  const Tensor hidden = view(workspace_.hidden, batch.num_tokens, config_.hidden_size);
  const Tensor qkv = view(workspace_.wide, batch.num_tokens, config_.qkv_size());
  backend.linear(qkv, block_input(backend, layer.attention_norm, hidden, *layer.qkv), *layer.qkv);
  if (!layer.query_norm.tensor.empty()) {
    const auto eps = static_cast<float>(config_.norm_eps);
    backend.norm_heads(qkv, 0, config_.num_query_heads, layer.query_norm.tensor, eps);
    backend.norm_heads(qkv, config_.num_query_heads, config_.num_kv_heads, layer.key_norm.tensor,
                       eps);
  }
  backend.rope_and_store_kv(qkv, kv, batch, weights_.rope_table.tensor, config_.num_query_heads);
}

// wide: qkv [T, (Hq + 2 Hkv) D] -> narrow: attention output [T, Hq D]
void Decoder::attend(Backend& backend, const DecoderLayer& layer, const KvCacheView& kv,
                     const ForwardBatch& batch) {
  const Tensor qkv = view(workspace_.wide, batch.num_tokens, config_.qkv_size());
  backend.attention(attention_output(backend, layer, batch.num_tokens), qkv, kv, batch,
                    layer.attention_params);
}

Tensor Decoder::attention_output(Backend& backend, const DecoderLayer& layer,
                                 std::int64_t num_tokens) const {
  return view(workspace_.narrow, backend.linear_input_dtype(*layer.attention_output), num_tokens,
              config_.q_size());
}

// hidden [n, H] -> narrow: normed [n, H] -> wide: activation [n, I] -> added to hidden
void Decoder::run_mlp(Backend& backend, const DecoderLayer& layer, Tensor hidden) {
  if (layer.router) return run_experts(backend, layer, hidden);
  const std::int64_t num_rows = hidden.dim(0);
  Tensor activation;
  if (layer.gate_up) {
    activation = view(workspace_.wide, backend.linear_input_dtype(*layer.down), num_rows,
                      config_.intermediate_size);
    backend.gate_up(activation, block_input(backend, layer.mlp_norm, hidden, *layer.gate_up),
                    *layer.gate_up, config_.activation);
  } else {
    activation = view(workspace_.wide, num_rows, config_.intermediate_size);
    backend.linear(activation, block_input(backend, layer.mlp_norm, hidden, *layer.up), *layer.up);
    backend.activate(activation, config_.activation);
  }
  add_block(backend, hidden, activation, *layer.down, layer.mlp_output_norm, layer.mlp_norm,
            view(workspace_.narrow, num_rows, config_.hidden_size));
}

void Decoder::run_experts(Backend& backend, const DecoderLayer& layer, Tensor hidden) {
  const Tensor input = view(workspace_.narrow, hidden.dim(0), config_.hidden_size);
  apply(backend, layer.mlp_norm, input, hidden);
  const Tensor routing = workspace_.routing.tensor.rows(hidden.dim(0));
  backend.linear(routing, input, *layer.router);
  backend.route(routing, config_.num_experts_per_token);
  backend.add_experts(hidden, input, routing, layer.experts, config_.activation,
                      view(workspace_.wide, hidden.dim(0), config_.intermediate_size));
}

void Decoder::compute_logits(Backend& backend, Tensor logits, Tensor hidden) {
  backend.linear(logits, hidden, weights_.lm_head ? *weights_.lm_head : *weights_.embedding);
  if (config_.logits_softcap > 0.0) {
    backend.soft_cap(logits, static_cast<float>(config_.logits_softcap));
  }
}

}  // namespace llmrun
