#include "engine/backend/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "engine/backend/cuda/cuda_attention.h"
#include "engine/backend/cuda/cuda_device.h"
#include "engine/backend/cuda/cuda_graph.h"
#include "engine/backend/cuda/cuda_limits.h"
#include "engine/backend/cuda/cuda_linear.h"
#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/cuda/cuda_sampling.h"
#include "engine/backend/cuda/cuda_weights.h"
#include "engine/backend/cuda/graph_sizes.h"
#include "engine/backend/cuda/nvml.h"
#include "engine/backend/cuda/nvtx_range.h"
#include "engine/backend/cuda/step_clock.h"
#include "engine/backend/cuda/step_staging.h"
#include "engine/core/error.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/elementwise.h"

namespace llmrun {
namespace {

using kernels::check_cuda;
using kernels::CudaLinearEpilogue;

// Marks tickets of steps without rows; the others are the sampler's.
constexpr std::uint64_t kNoRows = std::uint64_t{1} << 63;

// What CUDA itself takes for recorded graphs and loaded kernels.
constexpr std::size_t kDriverBytes = std::size_t{384} << 20;

// Slots whose penalty state is planned for; it is allocated when a slot first needs it.
constexpr std::int32_t kPlannedPenaltySlots = 256;

void check_tensor(const Tensor& tensor, DType dtype, std::initializer_list<std::int64_t> shape) {
  LLMRUN_CHECK(tensor.dtype() == dtype);
  LLMRUN_CHECK(tensor.rank() == static_cast<int>(shape.size()));
  int dim = 0;
  for (const std::int64_t extent : shape) LLMRUN_CHECK(tensor.dim(dim++) == extent);
}

const CudaLinearWeight& as_cuda_weight(const LinearWeight& weight) {
  const auto* cuda_weight = dynamic_cast<const CudaLinearWeight*>(&weight);
  LLMRUN_CHECK(cuda_weight != nullptr);
  return *cuda_weight;
}

class CudaStream {
 public:
  CudaStream() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~CudaStream() { cudaStreamDestroy(stream_); }
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const CudaBackendOptions& options)
      : options_(options),
        device_(open_cuda_device()),
        launch_{.stream = stream_.get(), .overlap = device_.can_overlap_launches},
        weights_(stream_.get()),
        linear_(launch_, {.deterministic = options.deterministic,
                          .tune = options.tune,
                          .device_name = device_.name}) {}
  ~CudaBackend() override { cudaStreamSynchronize(stream_.get()); }

  std::string name() const override { return "cuda"; }
  std::string description() const override {
    return fmt::format("{}, {:.1f} GiB, driver {}", device_.name,
                       static_cast<double>(total_bytes()) / 1073741824.0, nvml_driver_version());
  }
  DType activation_dtype() const override { return options_.dtype; }
  std::size_t free_bytes() const override { return memory_info().first; }
  std::size_t total_bytes() const override { return memory_info().second; }

  DeviceLimits measure_limits(DType dtype) override {
    check_cuda(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
    return measure_cuda_limits(device_, dtype, stream_.get());
  }
  DeviceTelemetry telemetry() override { return read_nvml(device_.pci_bus_id); }
  StepTiming last_step_timing() const override { return clock_.last(); }

  std::unique_ptr<DeviceBuffer> allocate(std::size_t num_bytes) override {
    return std::make_unique<CudaBuffer>(num_bytes);
  }
  void copy_to_device(Tensor device, const void* host) override {
    weights_.copier().copy(device.data(), device.num_bytes(),
                           HostToDeviceCopier::from_memory(host));
  }
  void copy_to_host(void* host, Tensor device) override {
    if (device.num_bytes() == 0) return;
    check_cuda(cudaMemcpyAsync(host, device.data(), device.num_bytes(), cudaMemcpyDeviceToHost,
                               stream_.get()),
               "cudaMemcpyAsync to the host");
    check_cuda(cudaStreamSynchronize(stream_.get()), "cudaStreamSynchronize");
  }

  std::unique_ptr<LinearWeight> make_linear(const LinearSource& source, DType dtype) override {
    return noted(weights_.make_linear(source, dtype));
  }
  std::unique_ptr<LinearWeight> make_gate_up(const LinearSource& source, DType dtype) override {
    LLMRUN_CHECK(source.parts.size() == 2);
    check_intermediate_size(source.parts[0].dim(0));
    return noted(weights_.make_gate_up(source, dtype));
  }
  std::unique_ptr<LinearWeight> make_random_linear(std::int64_t num_rows, std::int64_t num_columns,
                                                   bool has_bias, DType dtype, float stddev,
                                                   std::uint64_t seed) override {
    return noted(weights_.make_random(num_rows, num_columns, dtype, has_bias, false, stddev, seed));
  }
  std::unique_ptr<LinearWeight> make_random_gate_up(std::int64_t intermediate_size,
                                                    std::int64_t hidden_size, DType dtype,
                                                    float stddev, std::uint64_t seed) override {
    check_intermediate_size(intermediate_size);
    return noted(
        weights_.make_random(2 * intermediate_size, hidden_size, dtype, false, true, stddev, seed));
  }
  bool reads_weights_in_pieces() const override { return true; }
  DeviceTensor make_vector(Tensor host) override {
    LLMRUN_CHECK(host.rank() == 1);
    DeviceTensor result = allocate_tensor(DType::kF32, {host.dim(0)});
    weights_.copy_vector(result.tensor.as<float>(), host);
    return result;
  }

  void prepare(const StepLimits& limits) override;
  std::size_t step_bytes(const StepLimits& limits) const override;
  ForwardBatch upload(const StepInputs& inputs) override;
  void execute(const ForwardBatch& batch, const std::function<void()>& work) override;
  std::uint64_t sample(Tensor logits, std::span<const SamplingRow> rows,
                       std::int64_t vocab_size) override;
  std::vector<SampledToken> collect(std::uint64_t ticket) override;
  void reset_penalty_state(std::int32_t slot, std::span<const TokenId> prompt_tokens,
                           std::span<const TokenId> output_tokens,
                           std::int64_t vocab_size) override {
    step().sampler.reset_penalty_state(slot, prompt_tokens, output_tokens, vocab_size);
  }

  void embedding(Tensor out, const LinearWeight& table, Tensor ids) override;
  void linear(Tensor out, Tensor x, const LinearWeight& weight) override {
    run_linear(out, x, weight, CudaLinearEpilogue::kStore);
  }
  void linear_add(Tensor inout, Tensor x, const LinearWeight& weight) override {
    run_linear(inout, x, weight, CudaLinearEpilogue::kAdd);
  }
  void embedding_add(Tensor inout, const LinearWeight& table, Tensor rows) override;
  void gate_up(Tensor out, Tensor x, const LinearWeight& weight, Activation activation) override;
  void activate(Tensor inout, Activation activation) override;
  void add(Tensor inout, Tensor x) override;
  void scale(Tensor inout, float factor) override;
  void soft_cap(Tensor inout, float cap) override;
  void rms_norm(Tensor out, Tensor x, Tensor weight, float eps) override;
  void layer_norm(Tensor out, Tensor x, Tensor weight, Tensor bias, float eps) override;
  void norm_heads(Tensor qkv, std::int32_t first_head, std::int32_t num_heads, Tensor weight,
                  float eps) override;
  void route(Tensor inout, std::int32_t top_k) override;
  void add_experts(Tensor inout, Tensor x, Tensor routing, std::span<const Expert> experts,
                   Activation activation, Tensor scratch) override;
  void rope_and_store_kv(Tensor qkv, KvCacheView kv, const ForwardBatch& batch, Tensor cos_sin,
                         std::int32_t num_query_heads) override;
  void attention(Tensor out, Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                 const AttentionParams& params) override;
  void gather_rows(Tensor out, Tensor x, Tensor indices) override;

 private:
  // What exists once the largest step is known.
  struct Step {
    Step(kernels::Launch launch, const StepLimits& limits, const CudaAttention::Options& options)
        : attention(launch, options),
          staging(launch, {.max_num_tokens = limits.max_num_tokens,
                           .max_num_sequences = limits.max_num_sequences,
                           .max_num_blocks = limits.max_num_blocks,
                           .max_plan_words = CudaAttention::max_plan_words(options)}),
          sampler(sampler_options(limits), launch.stream) {}
    CudaAttention attention;
    StepStaging staging;
    CudaSampler sampler;
  };

  static CudaSampler::Options sampler_options(const StepLimits& limits) {
    return {.max_num_slots = limits.max_num_slots,
            .max_num_rows = limits.max_logits_rows,
            .vocab_size_max = limits.vocab_size};
  }
  CudaAttention::Options attention_options(const StepLimits& limits) const {
    return {.limits = limits,
            .dtype = options_.dtype,
            .plain = options_.plain_attention,
            .deterministic = options_.deterministic};
  }
  Step& step() {
    LLMRUN_CHECK(step_.has_value());
    return *step_;
  }
  std::pair<std::size_t, std::size_t> memory_info() const {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    return {free_bytes, total_bytes};
  }
  std::unique_ptr<LinearWeight> noted(std::unique_ptr<CudaLinearWeight> weight) {
    linear_.note_weight(*weight);
    return weight;
  }
  static void check_intermediate_size(std::int64_t intermediate_size) {
    if (intermediate_size % 8 == 0) return;
    throw Error(ErrorKind::kModel,
                fmt::format("the CUDA backend needs an intermediate_size that is a multiple of 8, "
                            "and this model's is {}; use --device cpu",
                            intermediate_size));
  }
  void run_linear(const Tensor& out, const Tensor& x, const LinearWeight& weight,
                  CudaLinearEpilogue epilogue);

  CudaBackendOptions options_;
  CudaDevice device_;
  CudaStream stream_;
  kernels::Launch launch_;
  CudaWeightMaker weights_;
  CudaLinear linear_;
  std::optional<Step> step_;
  StepInputs padded_;  // the step's inputs with padding sequences
  bool is_graph_step_ = false;
  std::map<std::int32_t, CudaGraph> graphs_;  // by number of sequences
  StepClock clock_;
  std::uint64_t num_steps_without_rows_ = 0;
};

// --- one step -----------------------------------------------------------------------------------

void CudaBackend::prepare(const StepLimits& limits) {
  weights_.release_staging();
  graphs_.clear();
  step_.reset();
  linear_.prepare(limits.max_num_tokens, limits.vocab_size, limits.max_logits_rows);
  step_.emplace(launch_, limits, attention_options(limits));
}

std::size_t CudaBackend::step_bytes(const StepLimits& limits) const {
  // What loading takes beside the weights is given back before all this is taken.
  static_assert(CudaWeightMaker::kStagingBytes <= kDriverBytes);
  const CudaAttention::Options attention = attention_options(limits);
  return CudaLinear::num_bytes(limits.max_num_tokens, limits.intermediate_size, options_.dtype) +
         CudaAttention::num_bytes(attention) +
         StepStaging::num_bytes({.max_num_tokens = limits.max_num_tokens,
                                 .max_num_sequences = limits.max_num_sequences,
                                 .max_num_blocks = limits.max_num_blocks,
                                 .max_plan_words = CudaAttention::max_plan_words(attention)}) +
         CudaSampler::num_bytes(sampler_options(limits)) +
         static_cast<std::size_t>(std::min(limits.max_num_slots, kPlannedPenaltySlots)) *
             CudaSampler::penalty_bytes_per_slot(sampler_options(limits)) +
         kDriverBytes;
}

ForwardBatch CudaBackend::upload(const StepInputs& inputs) {
  const NvtxRange range("upload");
  const std::int32_t num_sequences = inputs.num_sequences();
  const bool is_decode =
      inputs.num_tokens() == num_sequences && std::ssize(inputs.logits_indices) == num_sequences;
  const std::int32_t graph_size =
      options_.graphs && is_decode
          ? graph_size_for(num_sequences, step().staging.max_num_sequences()).value_or(0)
          : 0;
  is_graph_step_ = graph_size > 0;
  clock_.begin_step(stream_.get(), is_graph_step_ ? graph_size - num_sequences : 0);
  const StepInputs* step_inputs = &inputs;
  if (graph_size > num_sequences) {
    padded_ = inputs;
    pad_step_inputs(padded_, graph_size);
    step_inputs = &padded_;
  }
  const std::span<const std::int32_t> plan = step().attention.plan(*step_inputs);
  return step().staging.upload(*step_inputs, plan, step().sampler.feedback_tokens());
}

void CudaBackend::execute(const ForwardBatch& batch, const std::function<void()>& work) {
  const NvtxRange range("execute");
  if (!is_graph_step_) {
    work();
  } else {
    auto found = graphs_.find(batch.num_sequences);
    if (found == graphs_.end()) {
      // Once as it is, so that kernels are loaded and products planned; then recorded.
      work();
      graphs_.try_emplace(batch.num_sequences, stream_.get(), work);
    } else {
      found->second.launch(stream_.get());
      clock_.mark_replayed();
    }
  }
  clock_.end_step(stream_.get());
}

std::uint64_t CudaBackend::sample(Tensor logits, std::span<const SamplingRow> rows,
                                  std::int64_t vocab_size) {
  const NvtxRange range("sample");
  LLMRUN_CHECK(logits.rank() == 2 && vocab_size > 0 && vocab_size <= logits.dim(1));
  check_tensor(logits, DType::kF32, {static_cast<std::int64_t>(rows.size()), logits.dim(1)});
  const std::uint64_t ticket =
      rows.empty() ? kNoRows | ++num_steps_without_rows_
                   : step().sampler.sample(logits.as<float>(), logits.dim(1), vocab_size, rows);
  clock_.end_step(stream_.get());
  clock_.set_ticket(ticket);
  return ticket;
}

std::vector<SampledToken> CudaBackend::collect(std::uint64_t ticket) {
  const NvtxRange range("collect");
  std::vector<SampledToken> tokens;
  if ((ticket & kNoRows) == 0) tokens = step().sampler.collect(ticket);
  clock_.collect(ticket);
  return tokens;
}

// --- operations ---------------------------------------------------------------------------------

void CudaBackend::embedding(Tensor out, const LinearWeight& table, Tensor ids) {
  const CudaLinearWeight& weight = as_cuda_weight(table);
  LLMRUN_CHECK(ids.rank() == 1 && weight.dtype() == options_.dtype);
  check_tensor(ids, DType::kI32, {ids.dim(0)});
  check_tensor(out, options_.dtype, {ids.dim(0), weight.num_columns()});
  kernels::gather_rows(launch_, out.data(), weight.data(), ids.as<std::int32_t>(), ids.dim(0),
                       weight.num_columns(), options_.dtype);
}

void CudaBackend::run_linear(const Tensor& out, const Tensor& x, const LinearWeight& weight,
                             CudaLinearEpilogue epilogue) {
  const CudaLinearWeight& cuda_weight = as_cuda_weight(weight);
  LLMRUN_CHECK(!cuda_weight.is_gate_up() && cuda_weight.dtype() == options_.dtype);
  LLMRUN_CHECK(x.rank() == 2 && (out.dtype() == options_.dtype || out.dtype() == DType::kF32));
  check_tensor(x, options_.dtype, {x.dim(0), weight.num_columns()});
  check_tensor(out, out.dtype(), {x.dim(0), weight.num_rows()});
  linear_.run(out.data(), out.dtype(), x.data(), x.dim(0), cuda_weight, epilogue);
}

void CudaBackend::gate_up(Tensor out, Tensor x, const LinearWeight& weight, Activation activation) {
  const CudaLinearWeight& cuda_weight = as_cuda_weight(weight);
  LLMRUN_CHECK(x.rank() == 2 && cuda_weight.dtype() == options_.dtype);
  check_tensor(x, options_.dtype, {x.dim(0), weight.num_columns()});
  check_tensor(out, options_.dtype, {x.dim(0), weight.num_rows() / 2});
  linear_.run_gate_up(out.data(), x.data(), x.dim(0), cuda_weight, activation);
}

void CudaBackend::embedding_add(Tensor inout, const LinearWeight& table, Tensor rows) {
  const CudaLinearWeight& weight = as_cuda_weight(table);
  LLMRUN_CHECK(rows.rank() == 1 && weight.dtype() == options_.dtype);
  check_tensor(rows, DType::kI32, {rows.dim(0)});
  check_tensor(inout, options_.dtype, {rows.dim(0), weight.num_columns()});
  kernels::add_rows(launch_, inout.data(), weight.data(), rows.as<std::int32_t>(), rows.dim(0),
                    weight.num_columns(), options_.dtype);
}

void CudaBackend::activate(Tensor inout, Activation activation) {
  LLMRUN_CHECK(inout.dtype() == options_.dtype);
  kernels::activate(launch_, inout.data(), inout.num_elements(), activation, options_.dtype);
}

void CudaBackend::add(Tensor inout, Tensor x) {
  LLMRUN_CHECK(inout.rank() == 2 && inout.dtype() == options_.dtype);
  check_tensor(x, options_.dtype, {inout.dim(0), inout.dim(1)});
  kernels::add(launch_, inout.data(), x.data(), inout.num_elements(), options_.dtype);
}

void CudaBackend::scale(Tensor inout, float factor) {
  LLMRUN_CHECK(inout.dtype() == options_.dtype);
  kernels::scale(launch_, inout.data(), inout.num_elements(), factor, options_.dtype);
}

void CudaBackend::soft_cap(Tensor inout, float cap) {
  LLMRUN_CHECK(inout.dtype() == DType::kF32 && cap > 0);
  kernels::soft_cap(launch_, inout.as<float>(), inout.num_elements(), cap);
}

void CudaBackend::rms_norm(Tensor out, Tensor x, Tensor weight, float eps) {
  LLMRUN_CHECK(x.rank() == 2);
  check_tensor(x, options_.dtype, {x.dim(0), x.dim(1)});
  check_tensor(out, options_.dtype, {x.dim(0), x.dim(1)});
  check_tensor(weight, DType::kF32, {x.dim(1)});
  kernels::rms_norm(launch_, out.data(), x.data(), weight.as<float>(), eps, x.dim(0), x.dim(1),
                    options_.dtype);
}

void CudaBackend::layer_norm(Tensor out, Tensor x, Tensor weight, Tensor bias, float eps) {
  LLMRUN_CHECK(x.rank() == 2);
  check_tensor(x, options_.dtype, {x.dim(0), x.dim(1)});
  check_tensor(out, options_.dtype, {x.dim(0), x.dim(1)});
  check_tensor(weight, DType::kF32, {x.dim(1)});
  if (!bias.empty()) check_tensor(bias, DType::kF32, {x.dim(1)});
  kernels::layer_norm(launch_, out.data(), x.data(), weight.as<float>(),
                      bias.empty() ? nullptr : bias.as<float>(), eps, x.dim(0), x.dim(1),
                      options_.dtype);
}

void CudaBackend::norm_heads(Tensor qkv, std::int32_t first_head, std::int32_t num_heads,
                             Tensor weight, float eps) {
  LLMRUN_CHECK(qkv.rank() == 2 && qkv.dtype() == options_.dtype && weight.rank() == 1);
  check_tensor(weight, DType::kF32, {weight.dim(0)});
  LLMRUN_CHECK(first_head >= 0 && (first_head + num_heads) * weight.dim(0) <= qkv.dim(1));
  kernels::norm_heads(launch_, {.rows = qkv.data(),
                                .num_tokens = qkv.dim(0),
                                .row_size = qkv.dim(1),
                                .first_head = first_head,
                                .num_heads = num_heads,
                                .head_dim = weight.dim(0),
                                .weight = weight.as<float>(),
                                .eps = eps,
                                .dtype = options_.dtype});
}

void CudaBackend::route(Tensor inout, std::int32_t top_k) {
  LLMRUN_CHECK(inout.rank() == 2 && inout.dtype() == DType::kF32);
  LLMRUN_CHECK(top_k >= 1 && top_k <= inout.dim(1) && inout.dim(1) <= 1024);
  kernels::route_to_experts(launch_, inout.as<float>(), inout.dim(0), inout.dim(1), top_k);
}

// Every expert multiplies every token, and the rows that did not choose it become 0: nothing
// depends on device data, so that graphs can record it. Decode reads each expert's weights anyway
// as soon as a few tokens are there; a long prompt pays num_experts / top_k times the arithmetic.
void CudaBackend::add_experts(Tensor inout, Tensor x, Tensor routing,
                              std::span<const Expert> experts, Activation activation,
                              Tensor scratch) {
  const auto num_experts = static_cast<std::int64_t>(experts.size());
  check_tensor(routing, DType::kF32, {x.dim(0), num_experts});
  for (std::int64_t e = 0; e < num_experts; ++e) {
    const Expert& expert = experts[static_cast<std::size_t>(e)];
    gate_up(scratch, x, *expert.gate_up, activation);
    kernels::scale_rows(launch_, scratch.data(), routing.as<float>() + e, num_experts, x.dim(0),
                        scratch.dim(1), options_.dtype);
    linear_add(inout, scratch, *expert.down);
  }
}

void CudaBackend::rope_and_store_kv(Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                                    Tensor cos_sin, std::int32_t num_query_heads) {
  const std::int64_t num_kv_heads = kv.key.dim(1);
  const std::int64_t head_dim = kv.key.dim(3);
  check_tensor(qkv, options_.dtype,
               {batch.num_tokens, (num_query_heads + 2 * num_kv_heads) * head_dim});
  const bool rotates = !cos_sin.empty();
  if (rotates) {
    LLMRUN_CHECK(cos_sin.rank() == 2 && cos_sin.dtype() == DType::kF32 &&
                 cos_sin.dim(1) <= head_dim && cos_sin.dim(1) % 4 == 0);
  }
  kernels::rope_and_store_kv(launch_, {.qkv = qkv.data(),
                                       .key_cache = kv.key.data(),
                                       .value_cache = kv.value.data(),
                                       .cos_sin = rotates ? cos_sin.as<float>() : nullptr,
                                       .positions = batch.positions.as<std::int32_t>(),
                                       .slot_mapping = batch.slot_mapping.as<std::int64_t>(),
                                       .num_tokens = batch.num_tokens,
                                       .num_query_heads = num_query_heads,
                                       .num_kv_heads = num_kv_heads,
                                       .head_dim = head_dim,
                                       .rotary_dim = rotates ? cos_sin.dim(1) : 0,
                                       .block_size = kv.key.dim(2),
                                       .dtype = options_.dtype,
                                       .kv_dtype = kv.key.dtype()});
}

void CudaBackend::attention(Tensor out, Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                            const AttentionParams& params) {
  step().attention.run(out, qkv, kv, batch, params, step().staging.plan());
}

void CudaBackend::gather_rows(Tensor out, Tensor x, Tensor indices) {
  LLMRUN_CHECK(x.rank() == 2 && indices.rank() == 1);
  check_tensor(indices, DType::kI32, {indices.dim(0)});
  check_tensor(x, options_.dtype, {x.dim(0), x.dim(1)});
  check_tensor(out, options_.dtype, {indices.dim(0), x.dim(1)});
  kernels::gather_rows(launch_, out.data(), x.data(), indices.as<std::int32_t>(), indices.dim(0),
                       x.dim(1), options_.dtype);
}

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const CudaBackendOptions& options) {
  const std::string problem = cuda_unavailable_reason();
  if (!problem.empty()) throw Error(ErrorKind::kUsage, problem);
  return std::make_unique<CudaBackend>(options);
}

}  // namespace llmrun
