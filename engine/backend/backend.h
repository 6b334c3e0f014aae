// Backend: the device. Memory, and the operations of a decoder-only transformer.
//
// Every Tensor is contiguous, row-major and on this backend's device; the output comes first. Work
// is queued in call order; a backend may return before it is done, and everything a caller reads
// back goes through collect(). A shape or dtype that an operation does not take is a bug of the
// caller: Error(kInternal). A failure of the device is Error(kDevice). One thread at a time uses a
// Backend.
//
// Activations have dtype activation_dtype(); on the CPU that is float32 whatever the weights are,
// but for what only feeds a product: linear_input_dtype(). Shape letters:
// engine/backend/step_inputs.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/backend/device_report.h"
#include "engine/backend/forward_batch.h"
#include "engine/backend/kv_cache_view.h"
#include "engine/backend/sampling_batch.h"
#include "engine/backend/step_inputs.h"
#include "engine/core/activation.h"
#include "engine/core/tensor.h"

namespace llmrun {

// Device memory with an owner.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual void* data() = 0;
  virtual std::size_t num_bytes() const = 0;
};

// A tensor with the memory it lives in.
struct DeviceTensor {
  std::unique_ptr<DeviceBuffer> buffer;
  Tensor tensor;
};

// A weight matrix in the form this backend multiplies with; what is inside is the backend's own.
class LinearWeight {
 public:
  virtual ~LinearWeight() = default;
  std::int64_t num_rows() const { return num_rows_; }        // N, output features
  std::int64_t num_columns() const { return num_columns_; }  // K, input features
  virtual std::size_t num_bytes() const = 0;

 protected:
  LinearWeight(std::int64_t num_rows, std::int64_t num_columns)
      : num_rows_(num_rows), num_columns_(num_columns) {}

 private:
  std::int64_t num_rows_;
  std::int64_t num_columns_;
};

// Where the rows of a weight come from. Parts are stacked on the row dimension (q, k, v).
struct LinearSource {
  std::vector<Tensor> parts;   // host, each [N_i, K], f32 | f16 | bf16
  std::vector<Tensor> biases;  // host, each [N_i]; empty: no bias. As many as parts otherwise
  // Only for a backend that reads_weights_in_pieces(): the parts have no memory, and this puts
  // bytes [begin, begin + out.size()) of one of them, whole elements, into `out`. May be called by
  // several threads; what it throws is thrown on.
  using ReadPart =
      std::function<void(std::size_t part, std::size_t begin, std::span<std::byte> out)>;
  ReadPart read_part = nullptr;
};

// One expert of a mixture: an MLP of its own.
struct Expert {
  std::unique_ptr<LinearWeight> gate_up;  // from make_gate_up, gate and up [I, H]
  std::unique_ptr<LinearWeight> down;     // [H, I]
};

// How the heads of one attention layer look at each other.
struct AttentionParams {
  float scale = 1.0F;               // applied to q . k
  float logit_softcap = 0.0F;       // > 0: softcap * tanh(score / softcap)
  std::int32_t sliding_window = 0;  // > 0: a token sees itself and the window - 1 tokens before it
  Tensor alibi_slopes = {};         // [Hq] f32 on the device, or empty
};

// The largest step that will be uploaded, and what its sequences look at.
struct StepLimits {
  std::int32_t max_num_tokens = 0;     // T, padding of the caller included
  std::int32_t max_num_sequences = 0;  // S
  std::int32_t max_num_slots = 0;      // request slots
  std::int32_t max_num_blocks = 0;     // B, blocks of the longest sequence
  std::int32_t max_logits_rows = 0;    // R of one sample()
  std::int32_t num_query_heads = 0;
  std::int64_t vocab_size = 0;         // columns of the logits
  std::int64_t intermediate_size = 0;  // I
  KvCacheShape kv_cache;               // num_blocks need not be known yet
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;  // "cpu", "cuda"
  virtual std::string description()
      const = 0;  // device, instruction set, threads: one line for people
  virtual DType activation_dtype() const = 0;
  // The dtype of x that products with this weight take as it is. Where it is not
  // activation_dtype(), rms_norm, attention and gate_up can write `out` in it and gather_rows moves
  // it, and x in activation_dtype() is converted.
  virtual DType linear_input_dtype(const LinearWeight& weight) const {
    static_cast<void>(weight);
    return activation_dtype();
  }
  // Bytes that can still be allocated, and bytes the device has.
  virtual std::size_t free_bytes() const = 0;
  virtual std::size_t total_bytes() const = 0;

  // --- reports
  // Runs loops that show how fast this device can be, with products of weights in `dtype`; about a
  // second. Nothing else may run.
  virtual DeviceLimits measure_limits(DType dtype) {
    static_cast<void>(dtype);
    return {};
  }
  // These two may be called by another thread while the backend works.
  virtual DeviceTelemetry telemetry() { return {}; }
  // Changes several times within a step, where that can be seen: a step of a large model on a CPU
  // may take minutes.
  virtual std::uint64_t progress() const { return 0; }
  // Of the step that was collected last.
  virtual StepTiming last_step_timing() const { return {}; }

  // --- memory
  // ---------------------------------------------------------------------------------------
  // Uninitialised memory, 64-byte aligned or better. Throws Error(kMemory) with the bytes asked
  // for.
  virtual std::unique_ptr<DeviceBuffer> allocate(std::size_t num_bytes) = 0;
  DeviceTensor allocate_tensor(DType dtype, std::initializer_list<std::int64_t> shape);
  virtual void copy_to_device(Tensor device, const void* host) = 0;
  // Waits for all queued work, then copies. For tests and start-up, not for the hot path.
  virtual void copy_to_host(void* host, Tensor device) = 0;

  // --- weights
  // -------------------------------------------------------------------------------------- Packs a
  // weight. `dtype` is what it is stored and multiplied in: kF32, kBf16 or kF16.
  virtual std::unique_ptr<LinearWeight> make_linear(const LinearSource& source, DType dtype) = 0;
  // The same for the two parts gate [I, H] and up [I, H] of an MLP, to be used by gate_up.
  virtual std::unique_ptr<LinearWeight> make_gate_up(const LinearSource& source, DType dtype) = 0;
  // Whether both also take a source with `read_part`, and bring one piece of it to the device while
  // the next is read.
  virtual bool reads_weights_in_pieces() const { return false; }
  // Random normal weights made on the device, for benchmarks without a checkpoint. Never zeros.
  virtual std::unique_ptr<LinearWeight> make_random_linear(std::int64_t num_rows,
                                                           std::int64_t num_columns, bool has_bias,
                                                           DType dtype, float stddev,
                                                           std::uint64_t seed) = 0;
  virtual std::unique_ptr<LinearWeight> make_random_gate_up(std::int64_t intermediate_size,
                                                            std::int64_t hidden_size, DType dtype,
                                                            float stddev, std::uint64_t seed) = 0;
  // A vector parameter (a norm's weight) in the form the backend's operations take it, from host
  // [N].
  virtual DeviceTensor make_vector(Tensor host) = 0;

  // Allocates what steps of this size need beside the caller's tensors. Called when the weights are
  // there, before the KV cache is allocated and before the first upload, and again, with no step in
  // flight, when other steps will come. step_bytes() says how much that will be, graphs included.
  virtual void prepare(const StepLimits& limits) { static_cast<void>(limits); }
  virtual std::size_t step_bytes(const StepLimits& limits) const {
    static_cast<void>(limits);
    return 0;
  }

  // --- one step: upload, execute(operations), sample, later collect
  // ------------------------------------ Brings a step's inputs to the device and resolves feedback
  // tokens there.
  virtual ForwardBatch upload(const StepInputs& inputs) = 0;
  // Runs `work`, which calls the operations below for `batch`. A backend with graphs may replay
  // what it recorded for a batch of this shape instead.
  virtual void execute(const ForwardBatch& batch, const std::function<void()>& work) {
    static_cast<void>(batch);
    work();
  }
  // Chooses one token from each row. logits [R, V] f32, rows.size() == R. Columns from `vocab_size`
  // on are padding: a model may have more rows than its tokenizer has tokens. The chosen token
  // becomes the row's slot's feedback token, and is counted in the slot's penalty state. Returns a
  // ticket for collect(). Without rows the ticket only tells when the step is done.
  virtual std::uint64_t sample(Tensor logits, std::span<const SamplingRow> rows,
                               std::int64_t vocab_size) = 0;
  // Waits until `ticket`'s tokens are there and returns them, one per row. Each ticket is collected
  // once, in the order they were given.
  virtual std::vector<SampledToken> collect(std::uint64_t ticket) = 0;
  // Starts the penalty state of a slot from the tokens known so far. Needed before the first
  // sample() of a row that has_penalties(); the last output token may still be unknown to the host
  // (it is then counted by the sample() that chose it).
  virtual void reset_penalty_state(std::int32_t slot, std::span<const TokenId> prompt_tokens,
                                   std::span<const TokenId> output_tokens,
                                   std::int64_t vocab_size) = 0;

  // --- operations
  // ----------------------------------------------------------------------------------- out[t] =
  // table[ids[t]].  out [T, H], table [V, H], ids [T] i32.
  virtual void embedding(Tensor out, const LinearWeight& table, Tensor ids) = 0;
  // out = x W^T (+ bias).  out [T, N], x [T, K]. Accumulates in f32.
  virtual void linear(Tensor out, Tensor x, const LinearWeight& weight) = 0;
  // inout += x W^T (+ bias): the end of an attention or MLP block.  inout [T, N], x [T, K].
  virtual void linear_add(Tensor inout, Tensor x, const LinearWeight& weight) = 0;
  // inout[t] += table[rows[t]]: learned positions.  inout [T, H], table [N, H], rows [T] i32.
  virtual void embedding_add(Tensor inout, const LinearWeight& table, Tensor rows) = 0;
  // out = activation(x G^T) * (x U^T), weight from make_gate_up.  out [T, I], x [T, H].
  virtual void gate_up(Tensor out, Tensor x, const LinearWeight& weight, Activation activation) = 0;
  // inout = activation(inout): an MLP without a gate.  inout [T, I].
  virtual void activate(Tensor inout, Activation activation) = 0;
  // inout += x.  inout, x [T, H].
  virtual void add(Tensor inout, Tensor x) = 0;
  // inout *= factor.  inout [T, H].
  virtual void scale(Tensor inout, float factor) = 0;
  // inout = cap * tanh(inout / cap).  inout [R, V] f32.
  virtual void soft_cap(Tensor inout, float cap) = 0;
  // out[t] = x[t] / sqrt(mean(x[t]^2) + eps) * weight.  out, x [T, H], weight [H]. out may be x.
  virtual void rms_norm(Tensor out, Tensor x, Tensor weight, float eps) = 0;
  // out[t] = (x[t] - mean) / sqrt(variance + eps) * weight + bias.  out, x [T, H], weight, bias
  // [H]; an empty bias adds nothing. out may be x.
  virtual void layer_norm(Tensor out, Tensor x, Tensor weight, Tensor bias, float eps) = 0;
  // rms_norm of `num_heads` heads from `first_head` on, each by itself, in place.
  //   qkv [T, heads * D], weight [D]
  virtual void norm_heads(Tensor qkv, std::int32_t first_head, std::int32_t num_heads,
                          Tensor weight, float eps) = 0;
  // The weights of the `top_k` likeliest experts of each token; of the others 0. A row's weights
  // add up to 1: softmax over the chosen ones; of equals the lower index.  inout [T, E] f32, logits
  // before.
  virtual void route(Tensor inout, std::int32_t top_k) = 0;
  // inout[t] += sum over experts of routing[t][e] * down_e(activation(gate_e x[t]) * (up_e x[t])).
  //   inout, x [T, H], routing [T, E] f32; scratch [T, I]: overwritten
  virtual void add_experts(Tensor inout, Tensor x, Tensor routing, std::span<const Expert> experts,
                           Activation activation, Tensor scratch) = 0;
  // Rotates q and k in place (halves: pairs (i, i + rotary_dim / 2), as Hugging Face) and stores k
  // and v.
  //   qkv [T, (Hq + 2 Hkv) D]: q heads, then k heads, then v heads
  //   cos_sin [max_positions, rotary_dim] f32: cos of rotary_dim / 2 angles, then sin. Empty: no
  //   rotation.
  virtual void rope_and_store_kv(Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                                 Tensor cos_sin, std::int32_t num_query_heads) = 0;
  // Causal attention of each new token over its sequence's cache, this step's tokens included.
  //   out [T, Hq D], qkv as above (q is read from it).
  virtual void attention(Tensor out, Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                         const AttentionParams& params) = 0;
  // out[r] = x[indices[r]].  out [R, H], x [T, H], indices [R] i32.
  virtual void gather_rows(Tensor out, Tensor x, Tensor indices) = 0;
};

}  // namespace llmrun
