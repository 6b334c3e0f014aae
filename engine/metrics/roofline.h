// The least that the steps of a dense decoder-only transformer cost a device: bytes it must read,
// operations it must do, and the time both take at the device's best rates.
//
// Only what is needed is counted: neither padding nor activations, sampling or the host.
// With L layers, hidden size h, Hq and Hkv heads of size d, MLP size f, vocabulary V; a step of T
// tokens, B of them sampled:
//   P_lin  = L (h Hq d + 2 h Hkv d + Hq d h + 3 h f)     P_head = V h
//   FLOPs  = 2 P_lin T + 2 P_head B + 4 L Hq d (sum over tokens of their context)
//   bytes  = weights once + KV bytes (contexts of decode sequences + T + past of prefill chunks)
//   limit  = max(layers' bytes, layers' FLOPs) + max(head's bytes, head's FLOPs)
//            + KV bytes of decode sequences and new tokens
//            + max(KV bytes of past, FLOPs of prefill attention),   each over the device's rate:
//            kernels one after another
// The embedding is a gather and not counted. Sliding windows are not modelled: the count is too
// high for contexts that exceed one.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "engine/metrics/step_log.h"

namespace llmrun {

struct TransformerShape {
  std::int64_t num_layers = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_query_heads = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t vocab_size = 0;
  bool has_qkv_bias = false;
  std::int64_t weight_bytes_per_element = 2;
  std::int64_t kv_bytes_per_element = 2;
};

struct DeviceRates {
  double bytes_per_s = 0;
  double flops_per_s = 0;
};

struct StepWork {
  double bytes = 0;
  double flops = 0;
  double limit_s = 0;  // no device of these rates is faster; 0 when the rates are not known

  StepWork& operator+=(const StepWork& other);
};

class Roofline {
 public:
  Roofline(const TransformerShape& shape, const DeviceRates& rates);

  StepWork work(const StepRecord& step) const;

  // Requests of (prompt tokens, output tokens), all there at time 0, on an engine that wastes
  // nothing: decode first, then prompts in order within the token budget.
  struct IdealSchedule {
    std::int64_t max_num_seqs = 0;
    std::int64_t max_num_batched_tokens = 0;
    std::int64_t kv_capacity_tokens = 0;
  };
  // Its time; 0 when a request does not fit.
  double ideal_seconds(std::span<const std::pair<std::int64_t, std::int64_t>> requests,
                       const IdealSchedule& schedule) const;

  std::int64_t kv_bytes_per_token() const { return kv_bytes_per_token_; }
  double weight_bytes_per_step() const { return layer_bytes_ + head_bytes_; }

 private:
  DeviceRates rates_;
  double layer_params_ = 0;
  double head_params_ = 0;
  double layer_bytes_ = 0;  // norms and biases included
  double head_bytes_ = 0;
  std::int64_t kv_bytes_per_token_ = 0;
  double flops_per_context_token_ = 0;
};

}  // namespace llmrun
