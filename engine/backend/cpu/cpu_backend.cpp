#include "engine/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <utility>

#include <fmt/format.h>

#include "engine/backend/cpu/cpu_attention.h"
#include "engine/backend/cpu/cpu_elementwise.h"
#include "engine/backend/cpu/cpu_experts.h"
#include "engine/backend/cpu/cpu_linear.h"
#include "engine/backend/cpu/cpu_memory.h"
#include "engine/backend/cpu/cpu_peaks.h"
#include "engine/backend/cpu/cpu_sampling.h"
#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/float16.h"
#include "engine/core/thread_pool.h"
#include "kernels/cpu/cpu_kernels.h"

namespace llmrun {
namespace {

using kernels::LinearEpilogue;

void check_kv(const KvCacheView& kv) {
  LLMRUN_CHECK(kv.key.rank() == 4 && kv.value.rank() == 4);
  LLMRUN_CHECK(kv.key.dtype() == DType::kF32 || kv.key.dtype() == DType::kBf16);
  LLMRUN_CHECK(kv.value.dtype() == kv.key.dtype());
  for (int dim = 0; dim < 4; ++dim) LLMRUN_CHECK(kv.key.dim(dim) == kv.value.dim(dim));
}

// What a tensor between an operation and a product may hold: bf16, else float32.
DType product_dtype(const Tensor& tensor) {
  return tensor.dtype() == DType::kBf16 ? DType::kBf16 : DType::kF32;
}

const CpuLinearWeight& as_cpu_weight(const LinearWeight& weight) {
  const auto* cpu_weight = dynamic_cast<const CpuLinearWeight*>(&weight);
  LLMRUN_CHECK(cpu_weight != nullptr);
  return *cpu_weight;
}

CpuIsa choose_isa(const CpuBackendOptions& options) {
  if (!options.isa.has_value()) return best_cpu_isa();
  const std::vector<CpuIsa>& supported = supported_cpu_isas();
  if (std::find(supported.begin(), supported.end(), *options.isa) == supported.end()) {
    throw Error(ErrorKind::kUsage,
                fmt::format("this processor or system does not support {}; the best here is {}",
                            to_string(*options.isa), to_string(best_cpu_isa())));
  }
  return *options.isa;
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuBackendOptions& options)
      : pool_({.num_threads = options.num_threads, .pin = options.pin_threads}),
        kernels_(kernels::cpu_kernels(choose_isa(options))),
        linear_(pool_, kernels_, options.deterministic),
        elementwise_(pool_, kernels_.elementwise),
        experts_(linear_, kernels_.elementwise),
        attention_(pool_, kernels_, options.deterministic),
        sampler_(pool_, kernels_.isa) {}

  std::string name() const override { return "cpu"; }
  std::string description() const override {
    return fmt::format("{}, {}, {}", read_cpu_info().model_name, to_string(kernels_.isa),
                       counted(pool_.num_threads(), "thread"));
  }
  DType activation_dtype() const override { return DType::kF32; }
  DType linear_input_dtype(const LinearWeight& weight) const override {
    return linear_.input_dtype(as_cpu_weight(weight));
  }
  std::size_t free_bytes() const override {
    return static_cast<std::size_t>(read_cpu_info().available_memory_bytes);
  }
  std::size_t total_bytes() const override {
    return static_cast<std::size_t>(read_cpu_info().total_memory_bytes);
  }

  std::uint64_t progress() const override { return num_products_.load(std::memory_order_relaxed); }
  DeviceLimits measure_limits(DType dtype) override {
    const CpuPeaks peaks = measure_cpu_peaks(pool_, kernels_.isa);
    const bool is_bf16 = dtype == DType::kBf16;
    return {.read_bytes_per_second = peaks.read_bytes_per_s,
            .multiply_flops_per_second = is_bf16 ? peaks.bf16_flops_per_s : peaks.f32_flops_per_s,
            .multiply_dtype = to_string(is_bf16 ? DType::kBf16 : DType::kF32)};
  }

  std::unique_ptr<DeviceBuffer> allocate(std::size_t num_bytes) override {
    auto buffer = std::make_unique<HostBuffer>(num_bytes);
    // The system clears a huge page when it is first written. One is enough for the first prompt's
    // keys or values in most models, and it does not have to wait for that.
    constexpr std::size_t kFirstPages = std::size_t{2} << 20;
    if (num_bytes > 0) std::memset(buffer->data(), 0, std::min(num_bytes, kFirstPages));
    return buffer;
  }
  void copy_to_device(Tensor device, const void* host) override {
    if (device.num_bytes() > 0) std::memcpy(device.data(), host, device.num_bytes());
  }
  void copy_to_host(void* host, Tensor device) override {
    if (device.num_bytes() > 0) std::memcpy(host, device.data(), device.num_bytes());
  }

  std::unique_ptr<LinearWeight> make_linear(const LinearSource& source, DType dtype) override {
    return linear_.pack(source, dtype);
  }
  std::unique_ptr<LinearWeight> make_gate_up(const LinearSource& source, DType dtype) override {
    return linear_.pack_gate_up(source, dtype);
  }
  std::unique_ptr<LinearWeight> make_random_linear(std::int64_t num_rows, std::int64_t num_columns,
                                                   bool has_bias, DType dtype, float stddev,
                                                   std::uint64_t seed) override {
    return linear_.make_random(num_rows, num_columns, dtype, false, has_bias, stddev, seed);
  }
  std::unique_ptr<LinearWeight> make_random_gate_up(std::int64_t intermediate_size,
                                                    std::int64_t hidden_size, DType dtype,
                                                    float stddev, std::uint64_t seed) override {
    return linear_.make_random(2 * intermediate_size, hidden_size, dtype, true, false, stddev,
                               seed);
  }
  DeviceTensor make_vector(Tensor host) override;

  ForwardBatch upload(const StepInputs& inputs) override;
  std::uint64_t sample(Tensor logits, std::span<const SamplingRow> rows,
                       std::int64_t vocab_size) override;
  std::vector<SampledToken> collect(std::uint64_t ticket) override;
  void reset_penalty_state(std::int32_t slot, std::span<const TokenId> prompt_tokens,
                           std::span<const TokenId> output_tokens, std::int64_t) override {
    sampler_.reset_penalty_state(slot, prompt_tokens, output_tokens);
  }

  void embedding(Tensor out, const LinearWeight& table, Tensor ids) override;
  void linear(Tensor out, Tensor x, const LinearWeight& weight) override {
    run_linear(out, x, weight, LinearEpilogue::kStore);
  }
  void linear_add(Tensor inout, Tensor x, const LinearWeight& weight) override {
    run_linear(inout, x, weight, LinearEpilogue::kAdd);
  }
  void embedding_add(Tensor inout, const LinearWeight& table, Tensor rows) override;
  void gate_up(Tensor out, Tensor x, const LinearWeight& weight, Activation activation) override {
    run_linear(out, x, weight, LinearEpilogue::kGateMul, activation);
  }
  void activate(Tensor inout, Activation activation) override {
    elementwise_.activate(inout, activation);
  }
  void add(Tensor inout, Tensor x) override { elementwise_.add(inout, x); }
  void scale(Tensor inout, float factor) override { elementwise_.scale(inout, factor); }
  void soft_cap(Tensor inout, float cap) override { elementwise_.soft_cap(inout, cap); }
  void rms_norm(Tensor out, Tensor x, Tensor weight, float eps) override {
    elementwise_.rms_norm(out, x, weight, eps);
  }
  void layer_norm(Tensor out, Tensor x, Tensor weight, Tensor bias, float eps) override {
    elementwise_.layer_norm(out, x, weight, bias, eps);
  }
  void norm_heads(Tensor qkv, std::int32_t first_head, std::int32_t num_heads, Tensor weight,
                  float eps) override {
    elementwise_.norm_heads(qkv, first_head, num_heads, weight, eps);
  }
  void route(Tensor inout, std::int32_t top_k) override { route_to_experts(inout, top_k); }
  void add_experts(Tensor inout, Tensor x, Tensor routing, std::span<const Expert> experts,
                   Activation activation, Tensor scratch) override {
    experts_.add(inout, x, routing, experts, activation, scratch);
  }
  void rope_and_store_kv(Tensor qkv, KvCacheView kv, const ForwardBatch& batch, Tensor cos_sin,
                         std::int32_t num_query_heads) override;
  void attention(Tensor out, Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                 const AttentionParams& params) override;
  void gather_rows(Tensor out, Tensor x, Tensor indices) override;

 private:
  struct Ticket {
    std::uint64_t id = 0;
    std::vector<SampledToken> tokens;
  };

  void run_linear(const Tensor& out, const Tensor& x, const LinearWeight& weight,
                  LinearEpilogue epilogue, Activation activation = Activation::kSilu);
  void rotate(float* heads, std::int64_t num_heads, std::int64_t head_dim, const Tensor& cos_sin,
              std::int32_t position) const;
  void store_heads(const Tensor& cache, const float* heads, std::int64_t slot) const;

  ThreadPool pool_;
  const kernels::CpuKernels& kernels_;
  CpuLinear linear_;
  CpuElementwise elementwise_;
  CpuExperts experts_;
  CpuAttention attention_;
  CpuSampler sampler_;
  // Inputs of the last two steps: a caller may upload a step before it collects the one before.
  std::array<StepInputs, 2> steps_;
  std::size_t next_step_ = 0;
  std::deque<Ticket> tickets_;
  std::uint64_t last_ticket_ = 0;
  std::atomic<std::uint64_t> num_products_ = 0;
};

DeviceTensor CpuBackend::make_vector(Tensor host) {
  LLMRUN_CHECK(host.rank() == 1);
  DeviceTensor result = allocate_tensor(DType::kF32, {host.dim(0)});
  float* out = result.tensor.as<float>();
  for (std::int64_t i = 0; i < host.dim(0); ++i) {
    switch (host.dtype()) {
      case DType::kF32: out[i] = host.as<float>()[i]; break;
      case DType::kF16: out[i] = f16_to_float(host.as<std::uint16_t>()[i]); break;
      case DType::kBf16: out[i] = bf16_to_float(host.as<std::uint16_t>()[i]); break;
      default: throw Error(ErrorKind::kInternal, "make_vector: not a floating-point vector");
    }
  }
  return result;
}

ForwardBatch CpuBackend::upload(const StepInputs& inputs) {
  StepInputs& step = steps_[next_step_];
  next_step_ = (next_step_ + 1) % steps_.size();
  step = inputs;
  for (TokenId& id : step.token_ids) {
    if (is_feedback_token(id)) id = sampler_.feedback_token(feedback_slot(id));
  }
  const std::int64_t num_tokens = step.num_tokens();
  const std::int64_t num_sequences = step.num_sequences();
  LLMRUN_CHECK(static_cast<std::int64_t>(step.positions.size()) == num_tokens);
  LLMRUN_CHECK(static_cast<std::int64_t>(step.slot_mapping.size()) == num_tokens);
  LLMRUN_CHECK(static_cast<std::int64_t>(step.query_start_loc.size()) == num_sequences + 1);
  LLMRUN_CHECK(static_cast<std::int64_t>(step.block_tables.size()) ==
               num_sequences * step.max_num_blocks);

  ForwardBatch batch;
  batch.token_ids = Tensor(step.token_ids.data(), DType::kI32, {num_tokens});
  batch.positions = Tensor(step.positions.data(), DType::kI32, {num_tokens});
  batch.slot_mapping = Tensor(step.slot_mapping.data(), DType::kI64, {num_tokens});
  batch.query_start_loc = Tensor(step.query_start_loc.data(), DType::kI32, {num_sequences + 1});
  batch.seq_lens = Tensor(step.seq_lens.data(), DType::kI32, {num_sequences});
  batch.block_tables =
      Tensor(step.block_tables.data(), DType::kI32, {num_sequences, step.max_num_blocks});
  batch.num_logits_rows = static_cast<std::int32_t>(step.logits_indices.size());
  batch.logits_indices = Tensor(step.logits_indices.data(), DType::kI32, {batch.num_logits_rows});
  batch.num_tokens = step.num_tokens();
  batch.num_sequences = step.num_sequences();
  for (std::size_t s = 0; s < step.seq_lens.size(); ++s) {
    const std::int32_t query_len = step.query_start_loc[s + 1] - step.query_start_loc[s];
    LLMRUN_CHECK(query_len >= 0 && step.seq_lens[s] >= query_len);
    batch.max_query_len = std::max(batch.max_query_len, query_len);
    batch.max_seq_len = std::max(batch.max_seq_len, step.seq_lens[s]);
  }
  LLMRUN_CHECK(step.query_start_loc.front() == 0 && step.query_start_loc.back() == num_tokens);
  return batch;
}

std::uint64_t CpuBackend::sample(Tensor logits, std::span<const SamplingRow> rows,
                                 std::int64_t vocab_size) {
  LLMRUN_CHECK(logits.rank() == 2 && vocab_size > 0 && vocab_size <= logits.dim(1));
  check_tensor(logits, DType::kF32, {static_cast<std::int64_t>(rows.size()), logits.dim(1)});
  tickets_.push_back(
      {++last_ticket_, sampler_.sample(logits.as<float>(), logits.dim(1), vocab_size, rows)});
  return last_ticket_;
}

std::vector<SampledToken> CpuBackend::collect(std::uint64_t ticket) {
  LLMRUN_CHECK(!tickets_.empty() && tickets_.front().id == ticket);
  std::vector<SampledToken> tokens = std::move(tickets_.front().tokens);
  tickets_.pop_front();
  return tokens;
}

void CpuBackend::embedding(Tensor out, const LinearWeight& table, Tensor ids) {
  const CpuLinearWeight& weight = as_cpu_weight(table);
  LLMRUN_CHECK(ids.rank() == 1);
  check_tensor(ids, DType::kI32, {ids.dim(0)});
  check_tensor(out, DType::kF32, {ids.dim(0), weight.num_columns()});
  pool_.parallel_for(ids.dim(0), [&](std::int64_t t, std::int32_t) {
    linear_.read_row(out.as<float>() + t * weight.num_columns(), weight, ids.as<std::int32_t>()[t]);
  });
}

void CpuBackend::embedding_add(Tensor inout, const LinearWeight& table, Tensor rows) {
  const CpuLinearWeight& weight = as_cpu_weight(table);
  const std::int64_t size = weight.num_columns();
  LLMRUN_CHECK(rows.rank() == 1);
  check_tensor(rows, DType::kI32, {rows.dim(0)});
  check_tensor(inout, DType::kF32, {rows.dim(0), size});
  pool_.parallel_for(rows.dim(0), [&](std::int64_t t, std::int32_t) {
    std::vector<float> row(static_cast<std::size_t>(size));
    linear_.read_row(row.data(), weight, rows.as<std::int32_t>()[t]);
    kernels_.elementwise.add(inout.as<float>() + t * size, row.data(), 1.0F, size);
  });
}

void CpuBackend::run_linear(const Tensor& out, const Tensor& x, const LinearWeight& weight,
                            LinearEpilogue epilogue, Activation activation) {
  num_products_.fetch_add(1, std::memory_order_relaxed);
  const CpuLinearWeight& cpu_weight = as_cpu_weight(weight);
  const bool is_gate_up = epilogue == LinearEpilogue::kGateMul;
  LLMRUN_CHECK(cpu_weight.is_gate_up() == is_gate_up);
  LLMRUN_CHECK(x.rank() == 2);
  check_tensor(x, product_dtype(x), {x.dim(0), weight.num_columns()});
  check_tensor(out, is_gate_up ? product_dtype(out) : DType::kF32,
               {x.dim(0), weight.num_rows() / (is_gate_up ? 2 : 1)});
  linear_.run(out, x, cpu_weight, epilogue, activation);
}

void CpuBackend::rope_and_store_kv(Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                                   Tensor cos_sin, std::int32_t num_query_heads) {
  check_kv(kv);
  const std::int64_t num_kv_heads = kv.key.dim(1);
  const std::int64_t head_dim = kv.key.dim(3);
  const std::int64_t row_size = (num_query_heads + 2 * num_kv_heads) * head_dim;
  check_tensor(qkv, DType::kF32, {batch.num_tokens, row_size});
  if (!cos_sin.empty()) {
    LLMRUN_CHECK(cos_sin.rank() == 2 && cos_sin.dim(1) <= head_dim && cos_sin.dim(1) % 2 == 0);
    check_tensor(cos_sin, DType::kF32, {cos_sin.dim(0), cos_sin.dim(1)});
  }
  const std::int64_t grain = std::max<std::int64_t>(kElementsPerTask / row_size, 1);
  pool_.parallel_ranges(batch.num_tokens, grain,
                        [&](std::int64_t begin, std::int64_t end, std::int32_t) {
                          for (std::int64_t t = begin; t < end; ++t) {
                            float* q = qkv.as<float>() + t * row_size;
                            float* key = q + num_query_heads * head_dim;
                            const float* value = key + num_kv_heads * head_dim;
                            if (!cos_sin.empty()) {
                              rotate(q, num_query_heads + num_kv_heads, head_dim, cos_sin,
                                     batch.positions.as<std::int32_t>()[t]);
                            }
                            const std::int64_t slot = batch.slot_mapping.as<std::int64_t>()[t];
                            store_heads(kv.key, key, slot);
                            store_heads(kv.value, value, slot);
                          }
                        });
}

void CpuBackend::rotate(float* heads, std::int64_t num_heads, std::int64_t head_dim,
                        const Tensor& cos_sin, std::int32_t position) const {
  LLMRUN_CHECK(position >= 0 && position < cos_sin.dim(0));
  const std::int64_t rotary_dim = cos_sin.dim(1);
  const float* cos = cos_sin.as<float>() + position * rotary_dim;
  kernels_.elementwise.rope(heads, num_heads, head_dim, rotary_dim, cos, cos + rotary_dim / 2);
}

// heads [Hkv, D] of one token to its slot of the cache.
void CpuBackend::store_heads(const Tensor& cache, const float* heads, std::int64_t slot) const {
  const std::int64_t num_kv_heads = cache.dim(1);
  const std::int64_t block_size = cache.dim(2);
  const std::int64_t head_dim = cache.dim(3);
  LLMRUN_CHECK(slot >= 0 && slot < cache.dim(0) * block_size);
  for (std::int64_t head = 0; head < num_kv_heads; ++head) {
    const std::int64_t offset =
        ((slot / block_size * num_kv_heads + head) * block_size + slot % block_size) * head_dim;
    const float* from = heads + head * head_dim;
    if (cache.dtype() == DType::kBf16) {
      kernels_.elementwise.float_to_bf16(cache.as<std::uint16_t>() + offset, from, head_dim);
    } else {
      std::copy_n(from, head_dim, cache.as<float>() + offset);
    }
  }
}

void CpuBackend::attention(Tensor out, Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                           const AttentionParams& params) {
  check_kv(kv);
  LLMRUN_CHECK(out.rank() == 2);
  const std::int64_t num_kv_heads = kv.key.dim(1);
  const std::int64_t head_dim = kv.key.dim(3);
  const std::int64_t num_query_heads = out.dim(1) / head_dim;
  LLMRUN_CHECK(num_query_heads > 0 && num_query_heads % num_kv_heads == 0);
  check_tensor(out, product_dtype(out), {batch.num_tokens, num_query_heads * head_dim});
  check_tensor(qkv, DType::kF32,
               {batch.num_tokens, (num_query_heads + 2 * num_kv_heads) * head_dim});
  LLMRUN_CHECK(batch.block_tables.dim(1) * kv.key.dim(2) >= batch.max_seq_len);

  kernels::AttentionArgs args;
  args.q = qkv.as<float>();
  args.q_stride = qkv.dim(1);
  if (out.dtype() == DType::kBf16) {
    args.out_bf16 = out.as<std::uint16_t>();
  } else {
    args.out = out.as<float>();
  }
  args.out_stride = out.dim(1);
  args.key = kv.key.data();
  args.value = kv.value.data();
  args.is_bf16 = kv.key.dtype() == DType::kBf16;
  args.block_size = kv.key.dim(2);
  args.num_kv_heads = num_kv_heads;
  args.group_size = num_query_heads / num_kv_heads;
  args.head_dim = head_dim;
  args.scale = params.scale;
  args.logit_softcap = params.logit_softcap;
  args.sliding_window = params.sliding_window;
  if (!params.alibi_slopes.empty()) {
    check_tensor(params.alibi_slopes, DType::kF32, {num_query_heads});
    args.alibi_slopes = params.alibi_slopes.as<float>();
  }
  attention_.run(args, batch);
}

void CpuBackend::gather_rows(Tensor out, Tensor x, Tensor indices) {
  LLMRUN_CHECK(x.rank() == 2 && indices.rank() == 1);
  const DType dtype = product_dtype(x);
  check_tensor(x, dtype, {x.dim(0), x.dim(1)});
  check_tensor(indices, DType::kI32, {indices.dim(0)});
  check_tensor(out, dtype, {indices.dim(0), x.dim(1)});
  const std::size_t row_bytes = static_cast<std::size_t>(x.dim(1)) * dtype_bytes(dtype);
  for (std::int64_t r = 0; r < indices.dim(0); ++r) {
    const std::int64_t row = indices.as<std::int32_t>()[r];
    LLMRUN_CHECK(row >= 0 && row < x.dim(0));
    std::memcpy(out.rows(r, 1).data(), x.rows(row, 1).data(), row_bytes);
  }
}

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace llmrun
