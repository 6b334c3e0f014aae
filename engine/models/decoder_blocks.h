// The decoder that most open models are: pre-norm residual layers of attention and gated MLP.
//
//   x = embedding[ids]
//   each layer:  x += attention(rms_norm(x)) ;  x += down(silu(gate(n)) * up(n)), n = rms_norm(x)
//   logits = lm_head(rms_norm(x))
//
// Source: Touvron et al. 2023, LLaMA, https://arxiv.org/abs/2302.13971, section 2.2. Tensor names
// are those of Hugging Face's LlamaForCausalLM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/models/causal_lm.h"
#include "engine/models/weight_loader.h"

namespace llmrun {

// What architectures of this form differ in.
struct DecoderTraits {
  bool qkv_bias = false;
  bool attention_output_bias = false;
};

struct DecoderLayer {
  DeviceTensor attention_norm;                     // [H]
  std::unique_ptr<LinearWeight> qkv;               // [(Hq + 2 Hkv) D, H]
  std::unique_ptr<LinearWeight> attention_output;  // [H, Hq D]
  DeviceTensor mlp_norm;                           // [H]
  std::unique_ptr<LinearWeight> gate_up;           // gate and up [I, H]
  std::unique_ptr<LinearWeight> down;              // [H, I]
  AttentionParams attention_params;
};

class PreNormDecoder final : public CausalLm {
 public:
  // `max_positions`: rows of the rotary table.
  PreNormDecoder(ModelConfig config, const DecoderTraits& traits, WeightLoader& weights,
                 std::int64_t max_positions);

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
    DeviceTensor wide;         // [max_tokens, max((Hq + 2 Hkv) D, I)] qkv, then MLP activation
    DeviceTensor logits_rows;  // [max_logits_rows, H] rows of `hidden` whose logits are wanted
  };

  DecoderLayer load_layer(std::int32_t index, const DecoderTraits& traits, WeightLoader& weights);
  std::int64_t narrow_size() const;
  std::int64_t wide_size() const;
  void project_qkv(Backend& backend, const DecoderLayer& layer, const KvCacheView& kv,
                   const ForwardBatch& batch);
  void attend(Backend& backend, const DecoderLayer& layer, const KvCacheView& kv,
              const ForwardBatch& batch);
  void run_mlp(Backend& backend, const DecoderLayer& layer, Tensor hidden);

  ModelConfig config_;
  std::int64_t max_positions_;
  std::unique_ptr<LinearWeight> embedding_;  // [V, H]
  std::vector<DecoderLayer> layers_;
  DeviceTensor final_norm_;                // [H]
  std::unique_ptr<LinearWeight> lm_head_;  // [V, H]; null: the embedding
  DeviceTensor rope_table_;                // [max_positions, D]
  Workspace workspace_;
};

}  // namespace llmrun
