// The decoder that all supported models are: residual layers of attention and an MLP. What a layer
// has beyond the plain form is there in its weights; what is absent is left out.
//
//   x = embedding[ids] * scale (projected) (+ positions)
//   each layer:  x += norm'(attention(norm(x))) ;  x += norm'(mlp(norm(x)))
//     or, with config.norms_after_residual:  x = norm(x + attention(x)) ;  x = norm(x + mlp(x))
//   logits = soft_cap(lm_head(projected(norm(x))))
//
// An architecture is a file that fills DecoderWeights from a checkpoint's names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/models/causal_lm.h"
#include "engine/models/weight_loader.h"

namespace llmrun {

enum class NormKind : std::uint8_t {
  kRms,    // x / rms(x) * weight
  kLayer,  // (x - mean) / deviation * weight + bias
};

struct Norm {
  NormKind kind = NormKind::kRms;
  DeviceTensor weight;  // [H]; empty: no norm
  DeviceTensor bias;    // [H] of kLayer

  bool exists() const { return !weight.tensor.empty(); }
};

// `added`: to each weight, for models that store weight - 1.
Norm load_rms_norm(WeightLoader& weights, const std::string& name, std::int64_t size,
                   float added = 0.0F);
Norm load_layer_norm(WeightLoader& weights, const std::string& name, std::int64_t size);

struct DecoderLayer {
  Norm attention_norm;
  std::unique_ptr<LinearWeight> qkv;               // [(Hq + 2 Hkv) D, H]
  DeviceTensor query_norm;                         // [D], of each head before rotation; empty: none
  DeviceTensor key_norm;                           // [D]
  std::unique_ptr<LinearWeight> attention_output;  // [H, Hq D]
  Norm attention_output_norm;                      // before it is added; empty: none

  Norm mlp_norm;
  std::unique_ptr<LinearWeight> gate_up;  // gate and up [I, H]; null: no gate, but `up`
  std::unique_ptr<LinearWeight> up;       // [I, H]
  std::unique_ptr<LinearWeight> down;     // [H, I]
  std::unique_ptr<LinearWeight> router;   // [experts, H]; null: the one MLP above
  std::vector<Expert> experts;
  Norm mlp_output_norm;  // before it is added; empty: none

  AttentionParams attention_params;
};

// Scale and window of a layer, as the configuration has them.
AttentionParams make_attention_params(const ModelConfig& config, std::int32_t layer);

struct DecoderWeights {
  std::unique_ptr<LinearWeight> embedding;        // [V, E]
  std::unique_ptr<LinearWeight> embedding_input;  // [H, E]; null: E is H
  std::unique_ptr<LinearWeight> positions;        // [positions, H] learned; null: none
  DeviceTensor rope_table;                        // [positions, rotated]; empty: none
  DeviceTensor alibi_slopes;                      // [Hq]; empty: none
  std::vector<DecoderLayer> layers;
  Norm final_norm;                                 // empty: none
  std::unique_ptr<LinearWeight> embedding_output;  // [E, H]; null: E is H
  std::unique_ptr<LinearWeight> lm_head;           // [V, E]; null: the embedding
};

// Angles of config.rope for positions below `max_positions`.
DeviceTensor load_rope_table(const ModelConfig& config, WeightLoader& weights,
                             std::int64_t max_positions);

class Decoder final : public CausalLm {
 public:
  Decoder(ModelConfig config, DecoderWeights weights, std::int64_t max_positions);

  const ModelConfig& config() const override { return config_; }
  std::int64_t max_positions() const override { return max_positions_; }
  std::size_t weight_bytes() const override;
  std::size_t workspace_bytes(DType activation_dtype, std::int64_t max_tokens,
                              std::int64_t max_logits_rows) const override;
  void allocate_workspace(Backend& backend, std::int64_t max_tokens,
                          std::int64_t max_logits_rows) override;
  void forward(Backend& backend, const ForwardBatch& batch,
               std::span<const KvCacheView> layers) override;
  Tensor hidden_states(std::int64_t num_rows) const override;
  void compute_logits(Backend& backend, Tensor logits, Tensor hidden) override;

 private:
  // Activations of one step. Two of them serve twice: what they held is dead by then.
  struct Workspace {
    DeviceTensor hidden;       // [max_tokens, H] the residual stream
    DeviceTensor narrow;       // [max_tokens, max(H, Hq D)] normed input, then attention output
    DeviceTensor wide;         // [max_tokens, max((Hq + 2 Hkv) D, I, H)] qkv, then MLP activation
    DeviceTensor routing;      // [max_tokens, experts] f32
    DeviceTensor logits_rows;  // [max_logits_rows, H] rows of `hidden` whose logits are wanted
    DeviceTensor output_rows;  // [max_logits_rows, E] the same projected, where E is not H
  };

  std::int64_t narrow_size() const;
  std::int64_t wide_size() const;
  bool has_projection() const { return config_.embedding_width() != config_.hidden_size; }
  void embed(Backend& backend, const ForwardBatch& batch, Tensor hidden);
  void apply(Backend& backend, const Norm& norm, Tensor out, Tensor x) const;
  Tensor block_input(Backend& backend, const Norm& norm, Tensor hidden,
                     const LinearWeight& weight) const;
  Tensor attention_output(Backend& backend, const DecoderLayer& layer,
                          std::int64_t num_tokens) const;
  void add_block(Backend& backend, Tensor hidden, Tensor x, const LinearWeight& weight,
                 const Norm& output_norm, const Norm& residual_norm, Tensor scratch) const;
  void project_qkv(Backend& backend, const DecoderLayer& layer, const KvCacheView& kv,
                   const ForwardBatch& batch);
  void attend(Backend& backend, const DecoderLayer& layer, const KvCacheView& kv,
              const ForwardBatch& batch);
  void run_mlp(Backend& backend, const DecoderLayer& layer, Tensor hidden);
  void run_experts(Backend& backend, const DecoderLayer& layer, Tensor hidden);

  ModelConfig config_;
  DecoderWeights weights_;
  std::int64_t max_positions_;
  Workspace workspace_;
};

}  // namespace llmrun
