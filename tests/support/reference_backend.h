// ReferenceBackend: every operation of Backend as the shortest loop that is plainly right. Slow on
// purpose; the independent oracle that real backends, models and the engine are tested against.
//
// Weights are rounded to the dtype they are asked to be stored in, then kept as float32.
// Activations are float32, sums are double. KV caches may be float32, bfloat16 or float16. Sampling
// is greedy; allowed and banned tokens, biases and log-probabilities are honoured, other parameters
// refused.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/core/float16.h"

namespace llmrun::testing {

// Element i of a floating-point tensor, as float.
inline float load_element(const Tensor& tensor, std::int64_t i) {
  switch (tensor.dtype()) {
    case DType::kF32: return tensor.as<float>()[i];
    case DType::kBf16: return bf16_to_float(tensor.as<std::uint16_t>()[i]);
    case DType::kF16: return f16_to_float(tensor.as<std::uint16_t>()[i]);
    default: LLMRUN_CHECK(!"a floating-point tensor"); return 0;
  }
}

inline void store_element(const Tensor& tensor, std::int64_t i, float value) {
  switch (tensor.dtype()) {
    case DType::kF32: tensor.as<float>()[i] = value; break;
    case DType::kBf16: tensor.as<std::uint16_t>()[i] = float_to_bf16(value); break;
    case DType::kF16: tensor.as<std::uint16_t>()[i] = float_to_f16(value); break;
    default: LLMRUN_CHECK(!"a floating-point tensor");
  }
}

inline float round_to(DType dtype, float value) {
  if (dtype == DType::kBf16) return bf16_to_float(float_to_bf16(value));
  if (dtype == DType::kF16) return f16_to_float(float_to_f16(value));
  return value;
}

class ReferenceBackend : public Backend {
 public:
  std::string name() const override { return "reference"; }
  std::string description() const override { return "plain loops"; }
  DType activation_dtype() const override { return DType::kF32; }
  std::size_t free_bytes() const override { return std::size_t{1} << 34; }
  std::size_t total_bytes() const override { return std::size_t{1} << 34; }

  std::unique_ptr<DeviceBuffer> allocate(std::size_t num_bytes) override {
    return std::make_unique<Buffer>(num_bytes);
  }
  void copy_to_device(Tensor device, const void* host) override {
    if (device.num_bytes() > 0) std::memcpy(device.data(), host, device.num_bytes());
  }
  void copy_to_host(void* host, Tensor device) override {
    if (device.num_bytes() > 0) std::memcpy(host, device.data(), device.num_bytes());
  }

  std::unique_ptr<LinearWeight> make_linear(const LinearSource& source, DType dtype) override {
    LLMRUN_CHECK(!source.parts.empty());
    LLMRUN_CHECK(source.biases.empty() || source.biases.size() == source.parts.size());
    std::int64_t num_rows = 0;
    for (const Tensor& part : source.parts) num_rows += part.dim(0);
    auto weight = std::make_unique<Weight>(num_rows, source.parts[0].dim(1));
    for (std::size_t p = 0; p < source.parts.size(); ++p) {
      const Tensor& part = source.parts[p];
      LLMRUN_CHECK(part.rank() == 2 && part.dim(1) == weight->num_columns());
      for (std::int64_t i = 0; i < part.num_elements(); ++i) {
        weight->values.push_back(round_to(dtype, load_element(part, i)));
      }
      if (source.biases.empty()) continue;
      LLMRUN_CHECK(source.biases[p].num_elements() == part.dim(0));
      for (std::int64_t i = 0; i < part.dim(0); ++i) {
        weight->bias.push_back(load_element(source.biases[p], i));
      }
    }
    return weight;
  }
  // Rows 0 .. I - 1 are the gate, rows I .. 2 I - 1 are up.
  std::unique_ptr<LinearWeight> make_gate_up(const LinearSource& source, DType dtype) override {
    LLMRUN_CHECK(source.parts.size() == 2 && source.parts[0].dim(0) == source.parts[1].dim(0));
    return make_linear(source, dtype);
  }
  std::unique_ptr<LinearWeight> make_random_linear(std::int64_t num_rows, std::int64_t num_columns,
                                                   bool has_bias, DType dtype, float stddev,
                                                   std::uint64_t seed) override {
    std::mt19937_64 generator(seed);
    std::normal_distribution<float> normal(0.0F, stddev);
    auto weight = std::make_unique<Weight>(num_rows, num_columns);
    weight->values.resize(static_cast<std::size_t>(num_rows * num_columns));
    for (float& value : weight->values) value = round_to(dtype, normal(generator));
    weight->bias.resize(has_bias ? static_cast<std::size_t>(num_rows) : 0);
    for (float& value : weight->bias) value = normal(generator);
    return weight;
  }
  std::unique_ptr<LinearWeight> make_random_gate_up(std::int64_t intermediate_size,
                                                    std::int64_t hidden_size, DType dtype,
                                                    float stddev, std::uint64_t seed) override {
    return make_random_linear(2 * intermediate_size, hidden_size, false, dtype, stddev, seed);
  }
  DeviceTensor make_vector(Tensor host) override {
    DeviceTensor result = allocate_tensor(DType::kF32, {host.dim(0)});
    for (std::int64_t i = 0; i < host.dim(0); ++i) {
      store_element(result.tensor, i, load_element(host, i));
    }
    return result;
  }

  ForwardBatch upload(const StepInputs& inputs) override {
    steps_.push_back(inputs);  // kept for good: a test is short, and nothing dangles
    StepInputs& step = steps_.back();
    for (TokenId& id : step.token_ids) {
      if (is_feedback_token(id)) id = feedback_tokens_.at(feedback_slot(id));
    }
    ForwardBatch batch;
    batch.num_tokens = step.num_tokens();
    batch.num_sequences = step.num_sequences();
    batch.num_logits_rows = static_cast<std::int32_t>(step.logits_indices.size());
    for (std::size_t s = 0; s < step.seq_lens.size(); ++s) {
      const std::int32_t query_len = step.query_start_loc[s + 1] - step.query_start_loc[s];
      batch.max_query_len = std::max(batch.max_query_len, query_len);
      batch.max_seq_len = std::max(batch.max_seq_len, step.seq_lens[s]);
    }
    const std::int64_t t = batch.num_tokens;
    const std::int64_t s = batch.num_sequences;
    batch.token_ids = Tensor(step.token_ids.data(), DType::kI32, {t});
    batch.positions = Tensor(step.positions.data(), DType::kI32, {t});
    batch.slot_mapping = Tensor(step.slot_mapping.data(), DType::kI64, {t});
    batch.query_start_loc = Tensor(step.query_start_loc.data(), DType::kI32, {s + 1});
    batch.seq_lens = Tensor(step.seq_lens.data(), DType::kI32, {s});
    batch.block_tables = Tensor(step.block_tables.data(), DType::kI32, {s, step.max_num_blocks});
    batch.logits_indices = Tensor(step.logits_indices.data(), DType::kI32, {batch.num_logits_rows});
    return batch;
  }

  std::uint64_t sample(Tensor logits, std::span<const SamplingRow> rows,
                       std::int64_t vocab_size) override {
    LLMRUN_CHECK(logits.dim(0) == static_cast<std::int64_t>(rows.size()));
    std::vector<SampledToken> sampled;
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const float* row = logits.as<float>() + static_cast<std::int64_t>(r) * logits.dim(1);
      sampled.push_back(sample_row({row, static_cast<std::size_t>(vocab_size)}, rows[r]));
    }
    tickets_[++last_ticket_] = std::move(sampled);
    return last_ticket_;
  }
  std::vector<SampledToken> collect(std::uint64_t ticket) override {
    std::vector<SampledToken> sampled = std::move(tickets_.at(ticket));
    tickets_.erase(ticket);
    return sampled;
  }
  void reset_penalty_state(std::int32_t, std::span<const TokenId>, std::span<const TokenId>,
                           std::int64_t) override {}

  void embedding(Tensor out, const LinearWeight& table, Tensor ids) override {
    const Weight& weight = as_weight(table);
    check_shape(out, {ids.dim(0), weight.num_columns()});
    for (std::int64_t t = 0; t < ids.dim(0); ++t) {
      const std::int64_t id = ids.as<std::int32_t>()[t];
      LLMRUN_CHECK(id >= 0 && id < weight.num_rows());
      for (std::int64_t h = 0; h < weight.num_columns(); ++h) {
        out.as<float>()[t * weight.num_columns() + h] = weight.at(id, h);
      }
    }
  }
  void linear(Tensor out, Tensor x, const LinearWeight& weight) override {
    check_shape(out, {x.dim(0), weight.num_rows()});
    check_shape(x, {x.dim(0), weight.num_columns()});
    for (std::int64_t t = 0; t < x.dim(0); ++t) {
      for (std::int64_t n = 0; n < weight.num_rows(); ++n) {
        out.as<float>()[t * weight.num_rows() + n] = static_cast<float>(dot(x, t, weight, n));
      }
    }
  }
  void linear_add(Tensor inout, Tensor x, const LinearWeight& weight) override {
    check_shape(inout, {x.dim(0), weight.num_rows()});
    check_shape(x, {x.dim(0), weight.num_columns()});
    for (std::int64_t t = 0; t < x.dim(0); ++t) {
      for (std::int64_t n = 0; n < weight.num_rows(); ++n) {
        float& value = inout.as<float>()[t * weight.num_rows() + n];
        value = static_cast<float>(value + dot(x, t, weight, n));
      }
    }
  }
  void embedding_add(Tensor inout, const LinearWeight& table, Tensor rows) override {
    DeviceTensor added = allocate_tensor(DType::kF32, {inout.dim(0), inout.dim(1)});
    embedding(added.tensor, table, rows);
    add(inout, added.tensor);
  }
  void gate_up(Tensor out, Tensor x, const LinearWeight& weight, Activation activation) override {
    const std::int64_t intermediate_size = weight.num_rows() / 2;
    check_shape(out, {x.dim(0), intermediate_size});
    check_shape(x, {x.dim(0), weight.num_columns()});
    for (std::int64_t t = 0; t < x.dim(0); ++t) {
      for (std::int64_t i = 0; i < intermediate_size; ++i) {
        const double gate = dot(x, t, weight, i);
        const double up = dot(x, t, weight, intermediate_size + i);
        out.as<float>()[t * intermediate_size + i] =
            static_cast<float>(activated(gate, activation) * up);
      }
    }
  }
  void activate(Tensor inout, Activation activation) override {
    for_each_element(inout, [&](float x) { return activated(x, activation); });
  }
  void add(Tensor inout, Tensor x) override {
    check_shape(x, {inout.dim(0), inout.dim(1)});
    for (std::int64_t i = 0; i < x.num_elements(); ++i) inout.as<float>()[i] += x.as<float>()[i];
  }
  void scale(Tensor inout, float factor) override {
    for_each_element(inout, [&](float x) { return double{x} * factor; });
  }
  void soft_cap(Tensor inout, float cap) override {
    for_each_element(inout, [&](float x) { return cap * std::tanh(double{x} / cap); });
  }
  void rms_norm(Tensor out, Tensor x, Tensor weight, float eps) override {
    const std::int64_t size = weight.dim(0);
    check_shape(x, {x.dim(0), size});
    check_shape(out, {x.dim(0), size});
    for (std::int64_t t = 0; t < x.dim(0); ++t) {
      const float* row = x.as<float>() + t * size;
      double sum = 0;
      for (std::int64_t h = 0; h < size; ++h) sum += double{row[h]} * row[h];
      const double scale = 1.0 / std::sqrt(sum / static_cast<double>(size) + double{eps});
      for (std::int64_t h = 0; h < size; ++h) {
        out.as<float>()[t * size + h] = static_cast<float>(row[h] * scale * weight.as<float>()[h]);
      }
    }
  }

  void layer_norm(Tensor out, Tensor x, Tensor weight, Tensor bias, float eps) override {
    const std::int64_t size = weight.dim(0);
    check_shape(x, {x.dim(0), size});
    check_shape(out, {x.dim(0), size});
    if (!bias.empty()) check_shape(bias, {size});
    for (std::int64_t t = 0; t < x.dim(0); ++t) {
      const float* row = x.as<float>() + t * size;
      double mean = 0;
      for (std::int64_t h = 0; h < size; ++h) mean += double{row[h]} / static_cast<double>(size);
      double variance = 0;
      for (std::int64_t h = 0; h < size; ++h) {
        variance += (row[h] - mean) * (row[h] - mean) / static_cast<double>(size);
      }
      for (std::int64_t h = 0; h < size; ++h) {
        const double normed = (row[h] - mean) / std::sqrt(variance + double{eps});
        out.as<float>()[t * size + h] = static_cast<float>(
            normed * weight.as<float>()[h] + (bias.empty() ? 0.0F : bias.as<float>()[h]));
      }
    }
  }
  void norm_heads(Tensor qkv, std::int32_t first_head, std::int32_t num_heads, Tensor weight,
                  float eps) override {
    const std::int64_t head_dim = weight.dim(0);
    for (std::int64_t t = 0; t < qkv.dim(0); ++t) {
      float* first = qkv.as<float>() + t * qkv.dim(1) + first_head * head_dim;
      LLMRUN_CHECK((first_head + num_heads) * head_dim <= qkv.dim(1));
      const Tensor heads(first, DType::kF32, {num_heads, head_dim});
      rms_norm(heads, heads, weight, eps);
    }
  }
  void route(Tensor inout, std::int32_t top_k) override {
    const std::int64_t num_experts = inout.dim(1);
    LLMRUN_CHECK(top_k >= 1 && top_k <= num_experts);
    for (std::int64_t t = 0; t < inout.dim(0); ++t) {
      float* row = inout.as<float>() + t * num_experts;
      std::vector<std::int64_t> order(static_cast<std::size_t>(num_experts));
      for (std::size_t e = 0; e < order.size(); ++e) order[e] = static_cast<std::int64_t>(e);
      std::stable_sort(order.begin(), order.end(),
                       [&](std::int64_t a, std::int64_t b) { return row[a] > row[b]; });
      order.resize(static_cast<std::size_t>(top_k));
      double sum = 0;
      for (const std::int64_t e : order) sum += std::exp(double{row[e]} - row[order[0]]);
      std::vector<float> weights(static_cast<std::size_t>(num_experts), 0.0F);
      for (const std::int64_t e : order) {
        weights[static_cast<std::size_t>(e)] =
            static_cast<float>(std::exp(double{row[e]} - row[order[0]]) / sum);
      }
      std::copy(weights.begin(), weights.end(), row);
    }
  }
  void add_experts(Tensor inout, Tensor x, Tensor routing, std::span<const Expert> experts,
                   Activation activation, Tensor scratch) override {
    const auto num_experts = static_cast<std::int64_t>(experts.size());
    check_shape(routing, {x.dim(0), num_experts});
    for (std::int64_t t = 0; t < x.dim(0); ++t) {
      for (std::int64_t e = 0; e < num_experts; ++e) {
        const float factor = routing.as<float>()[t * num_experts + e];
        if (factor == 0.0F) continue;
        const Expert& expert = experts[static_cast<std::size_t>(e)];
        gate_up(scratch.rows(t, 1), x.rows(t, 1), *expert.gate_up, activation);
        scale(scratch.rows(t, 1), factor);
        linear_add(inout.rows(t, 1), scratch.rows(t, 1), *expert.down);
      }
    }
  }

  void rope_and_store_kv(Tensor qkv, KvCacheView kv, const ForwardBatch& batch, Tensor cos_sin,
                         std::int32_t num_query_heads) override {
    const std::int64_t num_kv_heads = kv.key.dim(1);
    const std::int64_t block_size = kv.key.dim(2);
    const std::int64_t head_dim = kv.key.dim(3);
    const std::int64_t num_heads = num_query_heads + 2 * num_kv_heads;
    check_shape(qkv, {batch.num_tokens, num_heads * head_dim});
    for (std::int64_t t = 0; t < batch.num_tokens; ++t) {
      float* row = qkv.as<float>() + t * num_heads * head_dim;
      const std::int64_t position = batch.positions.as<std::int32_t>()[t];
      if (!cos_sin.empty()) {
        for (std::int64_t head = 0; head < num_query_heads + num_kv_heads; ++head) {
          rotate(row + head * head_dim, cos_sin, position);
        }
      }
      const std::int64_t slot = batch.slot_mapping.as<std::int64_t>()[t];
      const std::int64_t block = slot / block_size;
      LLMRUN_CHECK(slot >= 0 && block < kv.key.dim(0));
      for (std::int64_t head = 0; head < num_kv_heads; ++head) {
        const std::int64_t target =
            ((block * num_kv_heads + head) * block_size + slot % block_size) * head_dim;
        const float* key = row + (num_query_heads + head) * head_dim;
        const float* value = key + num_kv_heads * head_dim;
        for (std::int64_t d = 0; d < head_dim; ++d) {
          store_element(kv.key, target + d, key[d]);
          store_element(kv.value, target + d, value[d]);
        }
      }
    }
  }
  void attention(Tensor out, Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                 const AttentionParams& params) override {
    const std::int64_t head_dim = kv.key.dim(3);
    const std::int64_t num_query_heads = out.dim(1) / head_dim;
    check_shape(out, {batch.num_tokens, num_query_heads * head_dim});
    check_shape(qkv, {batch.num_tokens, (num_query_heads + 2 * kv.key.dim(1)) * head_dim});
    LLMRUN_CHECK(num_query_heads % kv.key.dim(1) == 0);
    for (std::int64_t s = 0; s < batch.num_sequences; ++s) {
      const std::int32_t* loc = batch.query_start_loc.as<std::int32_t>();
      const std::int64_t query_len = loc[s + 1] - loc[s];
      for (std::int64_t i = 0; i < query_len; ++i) {
        const std::int64_t position = batch.seq_lens.as<std::int32_t>()[s] - query_len + i;
        for (std::int64_t head = 0; head < num_query_heads; ++head) {
          attend({.out = out, .qkv = qkv, .kv = kv, .batch = batch, .params = params},
                 {.sequence = s, .token = loc[s] + i, .position = position, .head = head});
        }
      }
    }
  }
  void gather_rows(Tensor out, Tensor x, Tensor indices) override {
    check_shape(out, {indices.dim(0), x.dim(1)});
    for (std::int64_t r = 0; r < indices.dim(0); ++r) {
      const std::int64_t row = indices.as<std::int32_t>()[r];
      LLMRUN_CHECK(row >= 0 && row < x.dim(0));
      std::copy_n(x.as<float>() + row * x.dim(1), x.dim(1), out.as<float>() + r * x.dim(1));
    }
  }

 private:
  class Buffer final : public DeviceBuffer {
   public:
    // NaN everywhere, so that a read of what nobody wrote shows.
    explicit Buffer(std::size_t num_bytes) : num_bytes_(num_bytes), words_(num_bytes / 64 + 1) {
      std::memset(words_.data(), 0xff, words_.size() * sizeof(Word));
    }
    void* data() override { return words_.data(); }
    std::size_t num_bytes() const override { return num_bytes_; }

   private:
    struct alignas(64) Word {
      std::byte bytes[64];
    };
    std::size_t num_bytes_;
    std::vector<Word> words_;
  };

  struct Weight final : LinearWeight {
    Weight(std::int64_t num_rows, std::int64_t num_columns) : LinearWeight(num_rows, num_columns) {}
    std::size_t num_bytes() const override { return (values.size() + bias.size()) * sizeof(float); }
    float at(std::int64_t row, std::int64_t column) const {
      return values[static_cast<std::size_t>(row * num_columns() + column)];
    }
    std::vector<float> values;  // [N, K]
    std::vector<float> bias;    // [N] or empty
  };

  struct AttentionCall {
    Tensor out, qkv;
    KvCacheView kv;
    const ForwardBatch& batch;
    const AttentionParams& params;
  };
  struct Query {
    std::int64_t sequence, token, position, head;
  };

  static const Weight& as_weight(const LinearWeight& weight) {
    const auto* mine = dynamic_cast<const Weight*>(&weight);
    LLMRUN_CHECK(mine != nullptr);
    return *mine;
  }
  static void check_shape(const Tensor& tensor, std::initializer_list<std::int64_t> shape) {
    LLMRUN_CHECK(tensor.rank() == static_cast<int>(shape.size()));
    int i = 0;
    for (const std::int64_t extent : shape) LLMRUN_CHECK(tensor.dim(i++) == extent);
  }
  static double activated(double x, Activation activation) {
    switch (activation) {
      case Activation::kSilu: return x / (1.0 + std::exp(-x));
      case Activation::kRelu: return std::max(x, 0.0);
      case Activation::kGelu: return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
      case Activation::kGeluTanh:
        return 0.5 * x *
               (1.0 + std::tanh(std::sqrt(2.0 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    }
    return 0;
  }
  template <typename F>
  static void for_each_element(const Tensor& tensor, const F& f) {
    LLMRUN_CHECK(tensor.dtype() == DType::kF32);
    for (std::int64_t i = 0; i < tensor.num_elements(); ++i) {
      tensor.as<float>()[i] = static_cast<float>(f(tensor.as<float>()[i]));
    }
  }
  // x[t] . weight[n] + bias[n]
  static double dot(const Tensor& x, std::int64_t t, const LinearWeight& linear_weight,
                    std::int64_t n) {
    const Weight& weight = as_weight(linear_weight);
    double sum = weight.bias.empty() ? 0.0 : double{weight.bias[static_cast<std::size_t>(n)]};
    for (std::int64_t k = 0; k < weight.num_columns(); ++k) {
      sum += double{x.as<float>()[t * weight.num_columns() + k]} * weight.at(n, k);
    }
    return sum;
  }
  static void rotate(float* head, const Tensor& cos_sin, std::int64_t position) {
    const std::int64_t half = cos_sin.dim(1) / 2;
    LLMRUN_CHECK(position >= 0 && position < cos_sin.dim(0));
    const float* row = cos_sin.as<float>() + position * cos_sin.dim(1);
    for (std::int64_t i = 0; i < half; ++i) {
      const float first = head[i];
      const float second = head[i + half];
      head[i] = first * row[i] - second * row[half + i];
      head[i + half] = second * row[i] + first * row[half + i];
    }
  }
  // Offset of (position, kv head) of a sequence in a cache tensor.
  static std::int64_t cache_offset(const AttentionCall& call, std::int64_t sequence,
                                   std::int64_t position, std::int64_t kv_head) {
    const Tensor& cache = call.kv.key;
    const std::int64_t block_size = cache.dim(2);
    const std::int64_t block =
        call.batch.block_tables
            .as<std::int32_t>()[sequence * call.batch.block_tables.dim(1) + position / block_size];
    return ((block * cache.dim(1) + kv_head) * block_size + position % block_size) * cache.dim(3);
  }
  static void attend(const AttentionCall& call, const Query& query) {
    const std::int64_t head_dim = call.kv.key.dim(3);
    const std::int64_t num_query_heads = call.out.dim(1) / head_dim;
    const std::int64_t kv_head = query.head / (num_query_heads / call.kv.key.dim(1));
    const float* q = call.qkv.as<float>() + query.token * call.qkv.dim(1) + query.head * head_dim;
    const std::int64_t window = call.params.sliding_window;
    const std::int64_t begin =
        window > 0 ? std::max<std::int64_t>(0, query.position - window + 1) : 0;
    std::vector<double> scores;
    for (std::int64_t p = begin; p <= query.position; ++p) {
      const std::int64_t offset = cache_offset(call, query.sequence, p, kv_head);
      double score = 0;
      for (std::int64_t d = 0; d < head_dim; ++d) {
        score += double{q[d]} * load_element(call.kv.key, offset + d);
      }
      score *= call.params.scale;
      const double softcap = call.params.logit_softcap;
      if (softcap > 0) score = softcap * std::tanh(score / softcap);
      if (!call.params.alibi_slopes.empty()) {
        score += call.params.alibi_slopes.as<float>()[query.head] *
                 static_cast<double>(p - query.position);
      }
      scores.push_back(score);
    }
    const double greatest = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - greatest);
    float* out = call.out.as<float>() + query.token * call.out.dim(1) + query.head * head_dim;
    for (std::int64_t d = 0; d < head_dim; ++d) {
      double value = 0;
      for (std::int64_t p = begin; p <= query.position; ++p) {
        const std::int64_t offset = cache_offset(call, query.sequence, p, kv_head);
        value +=
            scores[static_cast<std::size_t>(p - begin)] * load_element(call.kv.value, offset + d);
      }
      out[d] = static_cast<float>(value / sum);
    }
  }

  SampledToken sample_row(std::span<const float> logits, const SamplingRow& row) {
    LLMRUN_CHECK(row.target_token >= 0 || row.temperature == 0.0F);
    LLMRUN_CHECK(!row.has_penalties());
    SampledToken result;
    double greatest = -std::numeric_limits<double>::infinity();
    for (const float logit : logits) {
      if (std::isnan(logit) || logit == std::numeric_limits<float>::infinity()) {
        result.is_finite = false;
      }
      greatest = std::max(greatest, double{logit});
    }
    if (!result.is_finite) return result;
    result.token_id = row.target_token >= 0 ? row.target_token : choose(logits, row);
    result.is_finite = result.token_id >= 0;
    if (!result.is_finite) return result;
    if (row.target_token < 0) feedback_tokens_[row.slot] = result.token_id;
    if (row.num_logprobs < 0) return result;

    double sum = 0;
    for (const float logit : logits) sum += std::exp(logit - greatest);
    std::vector<TokenId> order(logits.size());  // by rank
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<TokenId>(i);
    std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
      return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
    });
    const auto entry = [&](std::size_t rank) {
      const TokenId id = order[rank];
      const double logprob = logits[static_cast<std::size_t>(id)] - greatest - std::log(sum);
      return TokenLogprob{id, static_cast<float>(logprob), static_cast<std::int32_t>(rank) + 1};
    };
    const auto chosen = std::find(order.begin(), order.end(), result.token_id);
    result.logprobs.push_back(entry(static_cast<std::size_t>(chosen - order.begin())));
    for (std::size_t k = 0; k < static_cast<std::size_t>(row.num_logprobs) && k < order.size();
         ++k) {
      result.logprobs.push_back(entry(k));
    }
    return result;
  }
  // The greatest logit that is allowed, ties to the lowest id; -1 when there is none.
  static TokenId choose(std::span<const float> logits, const SamplingRow& row) {
    const auto contains = [](std::span<const TokenId> ids, TokenId id) {
      return std::find(ids.begin(), ids.end(), id) != ids.end();
    };
    TokenId best = -1;
    float best_logit = -std::numeric_limits<float>::infinity();
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      if (!row.allowed_token_ids.empty() && !contains(row.allowed_token_ids, id)) continue;
      if (contains(row.banned_token_ids, id)) continue;
      float logit = logits[i];
      for (const auto& [biased_id, bias] : row.logit_bias) {
        if (biased_id == id) logit += bias;
      }
      if (logit > best_logit) {
        best = id;
        best_logit = logit;
      }
    }
    return best;
  }

  std::deque<StepInputs> steps_;
  std::map<std::int32_t, TokenId> feedback_tokens_;  // by slot
  std::map<std::uint64_t, std::vector<SampledToken>> tickets_;
  std::uint64_t last_ticket_ = 0;
};

}  // namespace llmrun::testing
