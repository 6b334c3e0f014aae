// CausalLm: a loaded language model. Runs the layers for one ragged batch; knows neither requests
// nor who owns which cache block. Shape letters: engine/backend/step_inputs.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/backend/backend.h"
#include "engine/models/model_config.h"

namespace llmrun {

class CausalLm {
 public:
  virtual ~CausalLm() = default;

  virtual const ModelConfig& config() const = 0;

  // Positions the model can compute: 0 .. max_positions() - 1. At most config().max_positions.
  virtual std::int64_t max_positions() const = 0;

  // Bytes of the weights and constants on the device.
  virtual std::size_t weight_bytes() const = 0;

  // Bytes that allocate_workspace() takes for steps of up to `max_tokens` tokens and
  // `max_logits_rows` rows: activations, without the logits, which the caller owns.
  virtual std::size_t workspace_bytes(DType activation_dtype, std::int64_t max_tokens,
                                      std::int64_t max_logits_rows) const = 0;
  virtual void allocate_workspace(Backend& backend, std::int64_t max_tokens,
                                  std::int64_t max_logits_rows) = 0;

  // Runs the layers and stores the step's keys and values. `layers` has one cache per layer. Leaves
  // the hidden states after the final norm of the rows batch.logits_indices in hidden_states().
  // Allocates nothing, and no decision depends on device data, so that a backend may record what is
  // queued here and replay it without calling this.
  // REQUIRES: allocate_workspace() for this batch or a larger one.
  virtual void forward(Backend& backend, const ForwardBatch& batch,
                       std::span<const KvCacheView> layers) = 0;

  // Where forward() leaves its first `num_rows` rows: [num_rows, E], valid until the next
  // forward(). The place does not change after allocate_workspace().
  virtual Tensor hidden_states(std::int64_t num_rows) const = 0;

  // logits [r, V] f32 from rows of hidden_states() [r, E]; E is config().embedding_width().
  virtual void compute_logits(Backend& backend, Tensor logits, Tensor hidden) = 0;
};

}  // namespace llmrun
