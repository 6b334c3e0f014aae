// Conformance: every operation of the CUDA backend, in every dtype, against the plain loops of
// ReferenceBackend. Skipped, and said so, without a device.
#include "engine/backend/cuda/cuda_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include <doctest/doctest.h>

#include "engine/core/float16.h"
#include "tests/support/gpu.h"
#include "tests/support/random_values.h"
#include "tests/support/reference_backend.h"

namespace llmrun {
namespace {

using testing::load_element;
using testing::random_values;
using testing::ReferenceBackend;
using testing::store_element;

constexpr std::int32_t kBlockSize = 16;
constexpr std::int32_t kMaxTokens = 600;

// Host values in the backend's activation dtype, and back.
DeviceTensor upload(Backend& backend, std::initializer_list<std::int64_t> shape,
                    const std::vector<float>& values) {
  DeviceTensor device = backend.allocate_tensor(backend.activation_dtype(), shape);
  REQUIRE(device.tensor.num_elements() == std::ssize(values));
  std::vector<std::byte> bytes(device.tensor.num_bytes());
  const Tensor host(bytes.data(), device.tensor.dtype(), {std::ssize(values)});
  for (std::size_t i = 0; i < values.size(); ++i) {
    store_element(host, static_cast<std::int64_t>(i), values[i]);
  }
  backend.copy_to_device(device.tensor, bytes.data());
  return device;
}

DeviceTensor upload_random(Backend& backend, std::initializer_list<std::int64_t> shape,
                           std::uint64_t seed) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return upload(backend, shape, random_values(count, seed));
}

std::vector<float> download(Backend& backend, const Tensor& tensor) {
  std::vector<std::byte> bytes(tensor.num_bytes());
  backend.copy_to_host(bytes.data(), tensor);
  const Tensor host(bytes.data(), tensor.dtype(), {tensor.num_elements()});
  std::vector<float> values;
  for (std::int64_t i = 0; i < tensor.num_elements(); ++i) values.push_back(load_element(host, i));
  return values;
}

DeviceTensor upload_ids(Backend& backend, const std::vector<std::int32_t>& ids) {
  DeviceTensor device = backend.allocate_tensor(DType::kI32, {std::ssize(ids)});
  backend.copy_to_device(device.tensor, ids.data());
  return device;
}

Tensor host_tensor(std::vector<float>& values, std::initializer_list<std::int64_t> shape) {
  return {values.data(), DType::kF32, shape};
}

struct Heads {
  std::int32_t num_query_heads = 4;
  std::int32_t num_kv_heads = 2;
  std::int32_t head_dim = 64;
};

void prepare(Backend& backend, const Heads& heads = {}, std::int32_t block_size = kBlockSize) {
  backend.prepare({.max_num_tokens = kMaxTokens,
                   .max_num_sequences = kMaxTokens,
                   .max_num_slots = 16,
                   .max_num_blocks = 2000 / block_size + 1,
                   .max_logits_rows = 64,
                   .num_query_heads = heads.num_query_heads,
                   .vocab_size = 512,
                   .intermediate_size = 4096,
                   .kv_cache = {.num_layers = 1,
                                .num_blocks = 100,
                                .block_size = block_size,
                                .num_kv_heads = heads.num_kv_heads,
                                .head_dim = heads.head_dim,
                                .dtype = backend.activation_dtype()}});
}

// Compares what `body` returns on a GPU, in each dtype, with the reference. Differences are
// relative to the largest value.
template <typename Body>
void compare(const Body& body) {
  ReferenceBackend reference;
  const std::vector<float> expected = body(reference);
  float largest = 0;
  for (const float value : expected) largest = std::max(largest, std::abs(value));
  for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF16}) {
    CAPTURE(to_string(dtype));
    const double tolerance = dtype == DType::kF32 ? 2e-5 : dtype == DType::kBf16 ? 1.6e-2 : 2e-3;
    for (const bool plain : {false, true}) {
      const auto backend = make_cuda_backend({.dtype = dtype, .plain_attention = plain});
      const std::vector<float> found = body(*backend);
      REQUIRE(found.size() == expected.size());
      double worst = 0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        const double difference = std::abs(double{found[i]} - expected[i]) / largest;
        worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
      }
      CHECK(worst < tolerance);
    }
  }
}

DType weight_dtype(const Backend& backend) {
  return backend.activation_dtype();
}

TEST_CASE("linear: bias, residual, from one row to many") {
  if (!testing::can_test_cuda()) return;
  for (const bool has_bias : {false, true}) {
    for (const std::int64_t rows : {1, 2, 7, 16, 33, 64, 65, 130, 513}) {
      for (const std::int64_t columns : {64, 72, 1000}) {
        CAPTURE(rows);
        CAPTURE(columns);
        compare([&](Backend& backend) {
          std::vector<float> q = random_values(40 * columns, 1);
          std::vector<float> k = random_values(16 * columns, 2);
          std::vector<float> q_bias = random_values(40, 3), k_bias = random_values(16, 4);
          LinearSource source;
          source.parts = {host_tensor(q, {40, columns}), host_tensor(k, {16, columns})};
          if (has_bias) source.biases = {host_tensor(q_bias, {40}), host_tensor(k_bias, {16})};
          const auto weight = backend.make_linear(source, weight_dtype(backend));
          prepare(backend);
          const DeviceTensor x = upload_random(backend, {rows, columns}, 5);
          const DeviceTensor out = upload_random(backend, {rows, 56}, 6);
          backend.linear_add(out.tensor, x.tensor, *weight);
          std::vector<float> result = download(backend, out.tensor);
          backend.linear(out.tensor, x.tensor, *weight);
          const std::vector<float> product = download(backend, out.tensor);
          result.insert(result.end(), product.begin(), product.end());
          return result;
        });
      }
    }
  }
}

TEST_CASE("logits: float32 out of any dtype") {
  if (!testing::can_test_cuda()) return;
  for (const std::int64_t rows : {1, 33, 200}) {
    compare([&](Backend& backend) {
      std::vector<float> head = random_values(504 * 128, 1);
      const auto weight = backend.make_linear(
          {.parts = {host_tensor(head, {504, 128})}, .biases = {}}, weight_dtype(backend));
      prepare(backend);
      const DeviceTensor x = upload_random(backend, {rows, 128}, 5);
      const DeviceTensor out = backend.allocate_tensor(DType::kF32, {rows, 504});
      backend.linear(out.tensor, x.tensor, *weight);
      return download(backend, out.tensor);
    });
  }
}

TEST_CASE("gate_up") {
  if (!testing::can_test_cuda()) return;
  for (const std::int64_t size : {8, 40, 256}) {
    for (const std::int64_t rows : {1, 5, 40, 90, 600}) {
      CAPTURE(size);
      CAPTURE(rows);
      compare([&](Backend& backend) {
        std::vector<float> gate = random_values(size * 72, 1), up = random_values(size * 72, 2);
        const auto weight = backend.make_gate_up(
            {.parts = {host_tensor(gate, {size, 72}), host_tensor(up, {size, 72})}, .biases = {}},
            weight_dtype(backend));
        prepare(backend);
        const DeviceTensor x = upload_random(backend, {rows, 72}, 5);
        const DeviceTensor out = upload_random(backend, {rows, size}, 6);
        backend.gate_up(out.tensor, x.tensor, *weight, Activation::kSilu);
        return download(backend, out.tensor);
      });
    }
  }
}

TEST_CASE("embedding, rms_norm and gather_rows, at sizes that are no whole vectors too") {
  if (!testing::can_test_cuda()) return;
  for (const std::int64_t size : {37, 64, 896, 3584, 8200, 20000}) {
    CAPTURE(size);
    compare([&](Backend& backend) {
      std::vector<float> table = random_values(50 * size, 1);
      const auto weight = backend.make_linear(
          {.parts = {host_tensor(table, {50, size})}, .biases = {}}, weight_dtype(backend));
      const DeviceTensor ids = upload_ids(backend, {49, 0, 17, 17, 16, 15});
      const DeviceTensor hidden = upload_random(backend, {6, size}, 3);
      backend.embedding(hidden.tensor, *weight, ids.tensor);
      std::vector<float> norm = random_values(size, 2);
      const DeviceTensor norm_weight = backend.make_vector(host_tensor(norm, {size}));
      backend.rms_norm(hidden.tensor, hidden.tensor, norm_weight.tensor, 1e-6F);
      const DeviceTensor rows = upload_random(backend, {2, size}, 4);
      backend.gather_rows(rows.tensor, hidden.tensor, upload_ids(backend, {5, 1}).tensor);
      return download(backend, rows.tensor);
    });
  }
}

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kRelu, Activation::kGelu,
                                       Activation::kGeluTanh};

TEST_CASE("gate_up with a bias and every activation") {
  if (!testing::can_test_cuda()) return;
  for (const Activation activation : kActivations) {
    for (const std::int64_t rows : {1, 40, 90}) {
      CAPTURE(rows);
      compare([&](Backend& backend) {
        std::vector<float> gate = random_values(40 * 72, 1), up = random_values(40 * 72, 2);
        std::vector<float> gate_bias = random_values(40, 3), up_bias = random_values(40, 4);
        const auto weight = backend.make_gate_up(
            {.parts = {host_tensor(gate, {40, 72}), host_tensor(up, {40, 72})},
             .biases = {host_tensor(gate_bias, {40}), host_tensor(up_bias, {40})}},
            weight_dtype(backend));
        prepare(backend);
        const DeviceTensor x = upload_random(backend, {rows, 72}, 5);
        const DeviceTensor out = upload_random(backend, {rows, 40}, 6);
        backend.gate_up(out.tensor, x.tensor, *weight, activation);
        return download(backend, out.tensor);
      });
    }
  }
}

TEST_CASE("activate, add, scale and soft_cap") {
  if (!testing::can_test_cuda()) return;
  for (const std::int64_t size : {1, 37, 6000}) {
    for (const Activation activation : kActivations) {
      CAPTURE(size);
      compare([&](Backend& backend) {
        const DeviceTensor x = upload_random(backend, {3, size}, 5);
        const DeviceTensor added = upload_random(backend, {3, size}, 6);
        backend.scale(x.tensor, 2.5F);
        backend.activate(x.tensor, activation);
        backend.add(x.tensor, added.tensor);
        return download(backend, x.tensor);
      });
    }
  }
  compare([&](Backend& backend) {
    const std::vector<float> values = random_values(2 * 500, 7);
    const DeviceTensor logits = backend.allocate_tensor(DType::kF32, {2, 500});
    backend.copy_to_device(logits.tensor, values.data());
    backend.soft_cap(logits.tensor, 1.5F);
    return download(backend, logits.tensor);
  });
}

TEST_CASE("layer_norm, embedding_add and norm_heads") {
  if (!testing::can_test_cuda()) return;
  for (const std::int64_t size : {7, 48, 1003, 9000}) {
    CAPTURE(size);
    compare([&](Backend& backend) {
      std::vector<float> table = random_values(9 * size, 1);
      const auto positions = backend.make_linear(
          {.parts = {host_tensor(table, {9, size})}, .biases = {}}, weight_dtype(backend));
      const DeviceTensor x = upload_random(backend, {4, size}, 2);
      backend.embedding_add(x.tensor, *positions, upload_ids(backend, {8, 0, 3, 3}).tensor);
      std::vector<float> result = download(backend, x.tensor);
      std::vector<float> weight = random_values(size, 3), bias = random_values(size, 4);
      const DeviceTensor norm_weight = backend.make_vector(host_tensor(weight, {size}));
      const DeviceTensor norm_bias = backend.make_vector(host_tensor(bias, {size}));
      const DeviceTensor out = upload_random(backend, {4, size}, 6);
      backend.layer_norm(out.tensor, x.tensor, norm_weight.tensor, {}, 1e-5F);
      backend.layer_norm(x.tensor, x.tensor, norm_weight.tensor, norm_bias.tensor, 1e-5F);
      for (const DeviceTensor* tensor : {&out, &x}) {
        const std::vector<float> normed = download(backend, tensor->tensor);
        result.insert(result.end(), normed.begin(), normed.end());
      }
      return result;
    });
  }
  for (const std::int64_t head_dim : {20, 64, 128}) {
    compare([&](Backend& backend) {
      const DeviceTensor qkv = upload_random(backend, {5, 7 * head_dim}, 2);
      std::vector<float> weight = random_values(head_dim, 3);
      const DeviceTensor norm_weight = backend.make_vector(host_tensor(weight, {head_dim}));
      backend.norm_heads(qkv.tensor, 1, 4, norm_weight.tensor, 1e-6F);
      return download(backend, qkv.tensor);
    });
  }
}

TEST_CASE("experts: routing, of equals the first, and each token by those it chose") {
  if (!testing::can_test_cuda()) return;
  for (const std::int64_t rows : {1, 9, 100}) {
    for (const std::int32_t top_k : {1, 2, 5}) {
      CAPTURE(rows);
      CAPTURE(top_k);
      compare([&](Backend& backend) {
        constexpr std::int64_t kHidden = 24, kSize = 40;
        std::vector<Expert> experts;
        for (std::uint64_t e = 0; e < 5; ++e) {
          std::vector<float> gate = random_values(kSize * kHidden, 10 + e);
          std::vector<float> up = random_values(kSize * kHidden, 20 + e);
          std::vector<float> down = random_values(kHidden * kSize, 30 + e);
          experts.push_back(
              {backend.make_gate_up({.parts = {host_tensor(gate, {kSize, kHidden}),
                                               host_tensor(up, {kSize, kHidden})},
                                     .biases = {}},
                                    weight_dtype(backend)),
               backend.make_linear({.parts = {host_tensor(down, {kHidden, kSize})}, .biases = {}},
                                   weight_dtype(backend))});
        }
        prepare(backend);
        std::vector<float> logits = random_values(rows * 5, 1);
        for (std::size_t i = 0; i < 5; ++i) logits[i] = 1.0F;
        const DeviceTensor routing = backend.allocate_tensor(DType::kF32, {rows, 5});
        backend.copy_to_device(routing.tensor, logits.data());
        backend.route(routing.tensor, top_k);
        const DeviceTensor x = upload_random(backend, {rows, kHidden}, 2);
        const DeviceTensor inout = upload_random(backend, {rows, kHidden}, 3);
        const DeviceTensor scratch = upload_random(backend, {rows, kSize}, 4);
        backend.add_experts(inout.tensor, x.tensor, routing.tensor, experts, Activation::kSilu,
                            scratch.tensor);
        return download(backend, inout.tensor);
      });
      compare([&](Backend& backend) {
        const std::vector<float> logits = random_values(rows * 60, 1);
        const DeviceTensor routing = backend.allocate_tensor(DType::kF32, {rows, 60});
        backend.copy_to_device(routing.tensor, logits.data());
        backend.route(routing.tensor, top_k);
        return download(backend, routing.tensor);
      });
    }
  }
}

// Sequences with `context_lens` tokens before the step and `query_lens` in it, over shuffled
// blocks.
StepInputs ragged_step(const std::vector<std::int32_t>& context_lens,
                       const std::vector<std::int32_t>& query_lens, std::int32_t block_size) {
  StepInputs inputs;
  std::vector<std::int32_t> blocks(98);
  std::iota(blocks.begin(), blocks.end(), 1);
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(5));
  inputs.query_start_loc = {0};
  for (std::size_t s = 0; s < query_lens.size(); ++s) {
    inputs.max_num_blocks = std::max(
        inputs.max_num_blocks, (context_lens[s] + query_lens[s] + block_size - 1) / block_size);
  }
  for (std::size_t s = 0; s < query_lens.size(); ++s) {
    const std::int32_t total = context_lens[s] + query_lens[s];
    std::vector<std::int32_t> table(static_cast<std::size_t>(inputs.max_num_blocks), 0);
    for (std::int32_t b = 0; b * block_size < total; ++b) {
      table[static_cast<std::size_t>(b)] = blocks.back();
      blocks.pop_back();
    }
    for (std::int32_t p = context_lens[s]; p < total; ++p) {
      inputs.token_ids.push_back(p);
      inputs.positions.push_back(p);
      inputs.slot_mapping.push_back(std::int64_t{table[static_cast<std::size_t>(p / block_size)]} *
                                        block_size +
                                    p % block_size);
    }
    inputs.query_start_loc.push_back(inputs.num_tokens());
    inputs.seq_lens.push_back(total);
    inputs.block_tables.insert(inputs.block_tables.end(), table.begin(), table.end());
  }
  inputs.logits_indices = {0};
  return inputs;
}

TEST_CASE("rope, KV store and attention through the backend") {
  if (!testing::can_test_cuda()) return;
  struct Case {
    Heads heads;
    std::int32_t block_size;
    std::int64_t rotary_dim;
    AttentionParams params;
  };
  const std::vector<Case> cases = {
      {{.num_query_heads = 14, .num_kv_heads = 2, .head_dim = 64}, 16, 64, {}},
      {{.num_query_heads = 7, .num_kv_heads = 1, .head_dim = 128}, 64, 128, {}},
      {{.num_query_heads = 3, .num_kv_heads = 3, .head_dim = 40}, 16, 24, {.logit_softcap = 3.0F}},
      {{.num_query_heads = 4, .num_kv_heads = 1, .head_dim = 96}, 32, 0, {.sliding_window = 9}},
      {{.num_query_heads = 4, .num_kv_heads = 4, .head_dim = 80}, 200, 32, {}}};
  for (const Case& one : cases) {
    for (const auto& query_lens :
         {std::vector<std::int32_t>{20, 1, 7, 1}, std::vector<std::int32_t>{1, 1, 1, 1}}) {
      CAPTURE(one.heads.head_dim);
      CAPTURE(query_lens[0]);
      compare([&](Backend& backend) {
        const Heads& heads = one.heads;
        prepare(backend, heads, one.block_size);
        const StepInputs inputs = ragged_step({0, 40, 3, 100}, query_lens, one.block_size);
        const ForwardBatch batch = backend.upload(inputs);
        const std::int64_t row =
            (heads.num_query_heads + 2 * heads.num_kv_heads) * std::int64_t{heads.head_dim};
        const DeviceTensor qkv = upload_random(backend, {batch.num_tokens, row}, 31);
        const std::initializer_list<std::int64_t> cache_shape = {100, heads.num_kv_heads,
                                                                 one.block_size, heads.head_dim};
        const DeviceTensor key = upload_random(backend, cache_shape, 32);
        const DeviceTensor value = upload_random(backend, cache_shape, 33);
        DeviceTensor cos_sin;
        if (one.rotary_dim > 0) {
          const std::vector<float> angles = random_values(200 * one.rotary_dim, 34);
          cos_sin = backend.allocate_tensor(DType::kF32, {200, one.rotary_dim});
          backend.copy_to_device(cos_sin.tensor, angles.data());
        }
        const DeviceTensor out = upload_random(
            backend, {batch.num_tokens, std::int64_t{heads.num_query_heads} * heads.head_dim}, 35);
        AttentionParams params = one.params;
        params.scale = 1.0F / std::sqrt(static_cast<float>(heads.head_dim));
        const KvCacheView view{key.tensor, value.tensor};
        backend.rope_and_store_kv(qkv.tensor, view, batch, cos_sin.tensor, heads.num_query_heads);
        backend.attention(out.tensor, qkv.tensor, view, batch, params);
        return download(backend, out.tensor);
      });
    }
  }
}

TEST_CASE("random weights are normal, of the asked deviation, and depend on the seed") {
  if (!testing::can_test_cuda()) return;
  const auto backend = make_cuda_backend({.dtype = DType::kF32});
  const auto values_of = [&](std::uint64_t seed) {
    const auto weight = backend->make_random_linear(300, 200, false, DType::kF32, 0.5F, seed);
    prepare(*backend);
    // The identity times W^T is W.
    std::vector<float> identity(200 * 200, 0.0F);
    for (std::size_t i = 0; i < 200; ++i) identity[i * 201] = 1.0F;
    const DeviceTensor x = upload(*backend, {200, 200}, identity);
    const DeviceTensor out = upload_random(*backend, {200, 300}, 1);
    backend->linear(out.tensor, x.tensor, *weight);
    return download(*backend, out.tensor);
  };
  const std::vector<float> values = values_of(7);
  double sum = 0;
  double squares = 0;
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  const auto count = static_cast<double>(values.size());
  CHECK(std::abs(sum / count) < 0.01);
  CHECK(std::abs(std::sqrt(squares / count) - 0.5) < 0.01);
  CHECK(values == values_of(7));
  CHECK(values != values_of(8));
}

TEST_CASE("limits and sensors give plausible figures") {
  if (!testing::can_test_cuda()) return;
  const auto backend = make_cuda_backend({});
  const DeviceLimits limits = backend->measure_limits(DType::kBf16);
  CHECK(limits.read_bytes_per_second > 1e11);
  CHECK(limits.multiply_flops_per_second > 1e13);
  CHECK(limits.multiply_dtype == "bfloat16");
}

}  // namespace
}  // namespace llmrun
