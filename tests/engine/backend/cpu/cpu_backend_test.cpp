// Conformance: every operation of the CPU backend, with every instruction set of this machine,
// against the plain loops of ReferenceBackend.
#include "engine/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include <doctest/doctest.h>

#include "engine/core/float16.h"
#include "tests/support/random_values.h"
#include "tests/support/reference_backend.h"

namespace llmrun {
namespace {

using testing::random_values;
using testing::ReferenceBackend;

// A float32 tensor on a backend, with random contents.
DeviceTensor upload_random(Backend& backend, std::initializer_list<std::int64_t> shape,
                           std::uint64_t seed) {
  DeviceTensor result = backend.allocate_tensor(DType::kF32, shape);
  backend.copy_to_device(result.tensor, random_values(result.tensor.num_elements(), seed).data());
  return result;
}

std::vector<float> download(Backend& backend, const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.num_elements()));
  backend.copy_to_host(values.data(), tensor);
  return values;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(double{a[i]} - b[i]);
    largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
  }
  return largest;
}

Tensor host_tensor(std::vector<float>& values, std::initializer_list<std::int64_t> shape) {
  return Tensor(values.data(), DType::kF32, shape);
}

// Runs `body` on the CPU backend with each instruction set, and on the reference, and compares what
// it returns. AMX rounds more in some operations.
template <typename Body>
void compare(double tolerance, double amx_tolerance, const Body& body) {
  ReferenceBackend reference;
  const std::vector<float> expected = body(reference);
  for (const CpuIsa isa : supported_cpu_isas()) {
    for (const std::int32_t num_threads : {1, 3}) {
      const auto backend = make_cpu_backend({.num_threads = num_threads, .isa = isa});
      CAPTURE(to_string(isa));
      CAPTURE(num_threads);
      CHECK(largest_difference(body(*backend), expected) <
            (isa == CpuIsa::kAmx ? amx_tolerance : tolerance));
    }
  }
}

template <typename Body>
void compare(double tolerance, const Body& body) {
  compare(tolerance, tolerance, body);
}

// Ragged step over a shuffled paged cache: sequence s has context_lens[s] tokens before the step
// and query_lens[s] in it.
struct Step {
  std::vector<std::int32_t> context_lens;
  std::vector<std::int32_t> query_lens;
  std::int32_t block_size = 16;
  std::int32_t num_blocks = 0;

  StepInputs inputs() {
    StepInputs in;
    std::size_t num_used = 0;
    for (std::size_t s = 0; s < query_lens.size(); ++s) {
      const std::int32_t total = context_lens[s] + query_lens[s];
      const std::int32_t count = (total + block_size - 1) / block_size;
      in.max_num_blocks = std::max(in.max_num_blocks, count);
      num_used += static_cast<std::size_t>(count);
    }
    std::vector<std::int32_t> blocks(num_used + 2);  // more than needed: some stay unused
    std::iota(blocks.begin(), blocks.end(), 1);      // block 0 is reserved
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(5));
    num_blocks = static_cast<std::int32_t>(blocks.size()) + 1;
    in.query_start_loc.push_back(0);
    std::size_t next_block = 0;
    for (std::size_t s = 0; s < query_lens.size(); ++s) {
      const std::int32_t total = context_lens[s] + query_lens[s];
      std::vector<std::int32_t> table(static_cast<std::size_t>(in.max_num_blocks), 0);
      for (std::int32_t b = 0; b * block_size < total; ++b) {
        table[static_cast<std::size_t>(b)] = blocks.at(next_block++);
      }
      for (std::int32_t p = context_lens[s]; p < total; ++p) {
        in.token_ids.push_back(p);
        in.positions.push_back(p);
        in.slot_mapping.push_back(std::int64_t{table[static_cast<std::size_t>(p / block_size)]} *
                                      block_size +
                                  p % block_size);
      }
      in.query_start_loc.push_back(in.num_tokens());
      in.seq_lens.push_back(total);
      in.block_tables.insert(in.block_tables.end(), table.begin(), table.end());
    }
    in.logits_indices = {in.num_tokens() - 1};
    return in;
  }
};

DeviceTensor make_cache(Backend& backend, const Step& step, std::int64_t num_kv_heads,
                        std::int64_t head_dim, DType dtype, std::uint64_t seed) {
  DeviceTensor cache =
      backend.allocate_tensor(dtype, {step.num_blocks, num_kv_heads, step.block_size, head_dim});
  const std::vector<float> values = random_values(cache.tensor.num_elements(), seed);
  if (dtype == DType::kF32) {
    backend.copy_to_device(cache.tensor, values.data());
  } else {
    std::vector<std::uint16_t> halves;
    for (const float value : values) halves.push_back(float_to_bf16(value));
    backend.copy_to_device(cache.tensor, halves.data());
  }
  return cache;
}

struct Heads {
  std::int64_t num_query_heads, num_kv_heads, head_dim;
};

// rope_and_store_kv, then attention; returns the rotated qkv and the attention's output.
std::vector<float> run_attention_layer(Backend& backend, Step step, const Heads& heads,
                                       DType kv_dtype, std::int64_t rotary_dim,
                                       AttentionParams params) {
  const StepInputs inputs = step.inputs();
  const ForwardBatch batch = backend.upload(inputs);
  const std::int64_t row = (heads.num_query_heads + 2 * heads.num_kv_heads) * heads.head_dim;
  DeviceTensor qkv = upload_random(backend, {batch.num_tokens, row}, 31);
  DeviceTensor key = make_cache(backend, step, heads.num_kv_heads, heads.head_dim, kv_dtype, 32);
  DeviceTensor value = make_cache(backend, step, heads.num_kv_heads, heads.head_dim, kv_dtype, 33);
  DeviceTensor cos_sin;
  if (rotary_dim > 0) cos_sin = upload_random(backend, {2000, rotary_dim}, 34);
  DeviceTensor out = backend.allocate_tensor(
      DType::kF32, {batch.num_tokens, heads.num_query_heads * heads.head_dim});
  const KvCacheView view{key.tensor, value.tensor};
  params.scale = 1.0F / std::sqrt(static_cast<float>(heads.head_dim));
  backend.execute(batch, [&] {
    backend.rope_and_store_kv(qkv.tensor, view, batch, cos_sin.tensor,
                              static_cast<std::int32_t>(heads.num_query_heads));
    backend.attention(out.tensor, qkv.tensor, view, batch, params);
  });
  std::vector<float> result = download(backend, qkv.tensor);
  const std::vector<float> attended = download(backend, out.tensor);
  result.insert(result.end(), attended.begin(), attended.end());
  return result;
}

}  // namespace

TEST_CASE("linear, with and without bias, in both weight types") {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const bool has_bias : {false, true}) {
      for (const std::int64_t rows : {1, 2, 7, 8, 33}) {
        const auto body = [&](Backend& backend) {
          std::vector<float> q = random_values(20 * 70, 1), k = random_values(9 * 70, 2);
          std::vector<float> q_bias = random_values(20, 3), k_bias = random_values(9, 4);
          LinearSource source;
          source.parts = {host_tensor(q, {20, 70}), host_tensor(k, {9, 70})};
          if (has_bias) source.biases = {host_tensor(q_bias, {20}), host_tensor(k_bias, {9})};
          const auto weight = backend.make_linear(source, dtype);
          CHECK(weight->num_rows() == 29);
          CHECK(weight->num_columns() == 70);
          CHECK(weight->num_bytes() >= 29 * 70 * dtype_bytes(dtype));
          DeviceTensor x = upload_random(backend, {rows, 70}, 5);
          DeviceTensor out = upload_random(backend, {rows, 29}, 6);
          backend.linear(out.tensor, x.tensor, *weight);
          std::vector<float> result = download(backend, out.tensor);
          backend.linear_add(out.tensor, x.tensor, *weight);
          const std::vector<float> sum = download(backend, out.tensor);
          result.insert(result.end(), sum.begin(), sum.end());
          return result;
        };
        compare(1e-4, body);
      }
    }
  }
}

TEST_CASE("linear converts weights of every floating-point type") {
  std::vector<float> values = random_values(6 * 10, 1);
  std::vector<std::uint16_t> half, bf16;
  for (const float value : values) {
    half.push_back(float_to_f16(value));
    bf16.push_back(float_to_bf16(value));
  }
  for (const Tensor& source :
       {Tensor(half.data(), DType::kF16, {6, 10}), Tensor(bf16.data(), DType::kBf16, {6, 10})}) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      compare(1e-5, [&](Backend& backend) {
        const auto weight = backend.make_linear({.parts = {source}, .biases = {}}, dtype);
        DeviceTensor x = upload_random(backend, {3, 10}, 5);
        DeviceTensor out = backend.allocate_tensor(DType::kF32, {3, 6});
        backend.linear(out.tensor, x.tensor, *weight);
        return download(backend, out.tensor);
      });
    }
  }
}

TEST_CASE("gate_up, also when the MLP size is no multiple of a panel") {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const std::int64_t size : {1, 16, 40}) {
      for (const std::int64_t rows : {1, 5, 40}) {
        compare(2e-3, [&](Backend& backend) {
          std::vector<float> gate = random_values(size * 33, 1), up = random_values(size * 33, 2);
          const auto weight = backend.make_gate_up(
              {.parts = {host_tensor(gate, {size, 33}), host_tensor(up, {size, 33})}, .biases = {}},
              dtype);
          CHECK(weight->num_rows() == 2 * size);
          DeviceTensor x = upload_random(backend, {rows, 33}, 5);
          DeviceTensor out = upload_random(backend, {rows, size}, 6);
          backend.gate_up(out.tensor, x.tensor, *weight, Activation::kSilu);
          return download(backend, out.tensor);
        });
      }
    }
  }
}

TEST_CASE("embedding, rms_norm and gather_rows") {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    compare(1e-5, [&](Backend& backend) {
      std::vector<float> table = random_values(50 * 37, 1);
      const auto weight =
          backend.make_linear({.parts = {host_tensor(table, {50, 37})}, .biases = {}}, dtype);
      const std::vector<std::int32_t> ids = {49, 0, 17, 17, 16, 15};
      DeviceTensor id_tensor = backend.allocate_tensor(DType::kI32, {6});
      backend.copy_to_device(id_tensor.tensor, ids.data());
      DeviceTensor hidden = backend.allocate_tensor(DType::kF32, {6, 37});
      backend.embedding(hidden.tensor, *weight, id_tensor.tensor);
      std::vector<float> norm = random_values(37, 2);
      const DeviceTensor norm_weight = backend.make_vector(host_tensor(norm, {37}));
      backend.rms_norm(hidden.tensor, hidden.tensor, norm_weight.tensor, 1e-6F);
      const std::vector<std::int32_t> indices = {5, 1};
      DeviceTensor index_tensor = backend.allocate_tensor(DType::kI32, {2});
      backend.copy_to_device(index_tensor.tensor, indices.data());
      DeviceTensor rows = backend.allocate_tensor(DType::kF32, {2, 37});
      backend.gather_rows(rows.tensor, hidden.tensor, index_tensor.tensor);
      return download(backend, rows.tensor);
    });
  }
}

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kRelu, Activation::kGelu,
                                       Activation::kGeluTanh};

TEST_CASE("gate_up with a bias and every activation") {
  for (const Activation activation : kActivations) {
    compare(2e-3, [&](Backend& backend) {
      std::vector<float> gate = random_values(40 * 33, 1), up = random_values(40 * 33, 2);
      std::vector<float> gate_bias = random_values(40, 3), up_bias = random_values(40, 4);
      const auto weight = backend.make_gate_up(
          {.parts = {host_tensor(gate, {40, 33}), host_tensor(up, {40, 33})},
           .biases = {host_tensor(gate_bias, {40}), host_tensor(up_bias, {40})}},
          DType::kF32);
      DeviceTensor x = upload_random(backend, {3, 33}, 5);
      DeviceTensor out = upload_random(backend, {3, 40}, 6);
      backend.gate_up(out.tensor, x.tensor, *weight, activation);
      return download(backend, out.tensor);
    });
  }
}

TEST_CASE("activate, add, scale, soft_cap, at sizes that are no whole vectors too") {
  for (const std::int64_t size : {1, 5, 37, 6000}) {
    for (const Activation activation : kActivations) {
      compare(1e-5, [&](Backend& backend) {
        DeviceTensor x = upload_random(backend, {3, size}, 5);
        const DeviceTensor added = upload_random(backend, {3, size}, 6);
        backend.scale(x.tensor, 2.5F);
        backend.activate(x.tensor, activation);
        backend.add(x.tensor, added.tensor);
        std::vector<float> result = download(backend, x.tensor);
        backend.soft_cap(x.tensor, 1.5F);
        const std::vector<float> capped = download(backend, x.tensor);
        result.insert(result.end(), capped.begin(), capped.end());
        return result;
      });
    }
  }
}

TEST_CASE("layer_norm, embedding_add and norm_heads") {
  for (const std::int64_t size : {7, 48, 1003}) {
    compare(1e-5, [&](Backend& backend) {
      std::vector<float> table = random_values(9 * size, 1);
      const auto positions = backend.make_linear(
          {.parts = {host_tensor(table, {9, size})}, .biases = {}}, DType::kF32);
      const std::vector<std::int32_t> rows = {8, 0, 3, 3};
      DeviceTensor row_tensor = backend.allocate_tensor(DType::kI32, {4});
      backend.copy_to_device(row_tensor.tensor, rows.data());
      DeviceTensor x = upload_random(backend, {4, size}, 2);
      backend.scale(x.tensor, 3.0F);
      backend.embedding_add(x.tensor, *positions, row_tensor.tensor);
      std::vector<float> weight = random_values(size, 3), bias = random_values(size, 4);
      const DeviceTensor norm_weight = backend.make_vector(host_tensor(weight, {size}));
      const DeviceTensor norm_bias = backend.make_vector(host_tensor(bias, {size}));
      DeviceTensor out = backend.allocate_tensor(DType::kF32, {4, size});
      backend.layer_norm(out.tensor, x.tensor, norm_weight.tensor, {}, 1e-5F);
      backend.layer_norm(x.tensor, x.tensor, norm_weight.tensor, norm_bias.tensor, 1e-5F);
      std::vector<float> result = download(backend, out.tensor);
      const std::vector<float> with_bias = download(backend, x.tensor);
      result.insert(result.end(), with_bias.begin(), with_bias.end());
      return result;
    });
  }
  compare(1e-5, [&](Backend& backend) {
    DeviceTensor qkv = upload_random(backend, {5, 7 * 20}, 2);
    std::vector<float> weight = random_values(20, 3);
    const DeviceTensor norm_weight = backend.make_vector(host_tensor(weight, {20}));
    backend.norm_heads(qkv.tensor, 1, 4, norm_weight.tensor, 1e-6F);
    return download(backend, qkv.tensor);
  });
}

TEST_CASE("experts: routing, and each token only by those it chose") {
  for (const std::int32_t top_k : {1, 2, 5}) {
    compare(1e-4, [&](Backend& backend) {
      constexpr std::int64_t kHidden = 24, kSize = 40;
      std::vector<Expert> experts;
      for (std::uint64_t e = 0; e < 5; ++e) {
        std::vector<float> gate = random_values(kSize * kHidden, 10 + e);
        std::vector<float> up = random_values(kSize * kHidden, 20 + e);
        std::vector<float> down = random_values(kHidden * kSize, 30 + e);
        for (float& value : down) value *= 0.05F;
        experts.push_back(
            {backend.make_gate_up(
                 {.parts = {host_tensor(gate, {kSize, kHidden}), host_tensor(up, {kSize, kHidden})},
                  .biases = {}},
                 DType::kF32),
             backend.make_linear({.parts = {host_tensor(down, {kHidden, kSize})}, .biases = {}},
                                 DType::kF32)});
      }
      DeviceTensor routing = upload_random(backend, {9, 5}, 1);
      backend.route(routing.tensor, top_k);
      std::vector<float> result = download(backend, routing.tensor);
      const DeviceTensor x = upload_random(backend, {9, kHidden}, 2);
      DeviceTensor inout = upload_random(backend, {9, kHidden}, 3);
      DeviceTensor scratch = backend.allocate_tensor(DType::kF32, {9, kSize});
      backend.add_experts(inout.tensor, x.tensor, routing.tensor, experts, Activation::kSilu,
                          scratch.tensor);
      const std::vector<float> added = download(backend, inout.tensor);
      result.insert(result.end(), added.begin(), added.end());
      return result;
    });
  }
}

TEST_CASE("routing: of equal experts the first") {
  compare(1e-6, [](Backend& backend) {
    const std::vector<float> logits = {1, 1, 1, 1, -5, 2, 2, 2};
    DeviceTensor routing = backend.allocate_tensor(DType::kF32, {2, 4});
    backend.copy_to_device(routing.tensor, logits.data());
    backend.route(routing.tensor, 2);
    std::vector<float> weights = download(backend, routing.tensor);
    CHECK(weights == std::vector<float>{0.5F, 0.5F, 0, 0, 0, 0.5F, 0.5F, 0});
    return weights;
  });
}

TEST_CASE("rope, KV store and attention over ragged batches") {
  const Step mixed = {.context_lens = {0, 40, 3, 100}, .query_lens = {20, 1, 7, 1}};
  const Step decode = {.context_lens = {0, 15, 16, 17}, .query_lens = {1, 1, 1, 1}};
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    const double amx_tolerance = dtype == DType::kBf16 ? 0.02 : 1e-4;
    for (Step step : {mixed, decode}) {
      for (const std::int32_t block_size : {1, 16, 512}) {
        step.block_size = block_size;
        compare(1e-4, amx_tolerance, [&](Backend& backend) {
          return run_attention_layer(backend, step, {14, 2, 16}, dtype, 16, {});
        });
      }
      compare(1e-4, amx_tolerance, [&](Backend& backend) {
        return run_attention_layer(backend, step, {3, 3, 40}, dtype, 24, {.logit_softcap = 3.0F});
      });
      compare(1e-4, amx_tolerance, [&](Backend& backend) {
        return run_attention_layer(backend, step, {4, 1, 8}, dtype, 0, {.sliding_window = 9});
      });
    }
  }
}

TEST_CASE("long contexts are divided and merged to the same result") {
  const Step step = {.context_lens = {1500, 600}, .query_lens = {1, 1}};
  compare(1e-4, [&](Backend& backend) {
    return run_attention_layer(backend, step, {4, 2, 32}, DType::kF32, 32, {});
  });
}

TEST_CASE("ALiBi slopes are those of the query heads") {
  const Step step = {.context_lens = {30, 0}, .query_lens = {2, 5}};
  compare(1e-4, [&](Backend& backend) {
    const DeviceTensor slopes = upload_random(backend, {6}, 8);
    AttentionParams params;
    params.alibi_slopes = slopes.tensor;
    return run_attention_layer(backend, step, {6, 2, 16}, DType::kF32, 0, params);
  });
}

TEST_CASE("results are the same bits for any number of threads") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    for (const DType dtype : {DType::kF32, DType::kBf16}) {
      std::vector<std::vector<float>> results;
      for (const std::int32_t num_threads : {1, 2, 5}) {
        const auto backend = make_cpu_backend({.num_threads = num_threads, .isa = isa});
        const auto weight = backend->make_random_linear(300, 200, true, dtype, 0.5F, 9);
        DeviceTensor x = upload_random(*backend, {150, 200}, 5);
        DeviceTensor out = backend->allocate_tensor(DType::kF32, {150, 300});
        backend->linear(out.tensor, x.tensor, *weight);
        results.push_back(download(*backend, out.tensor));
        const std::vector<float> attended = run_attention_layer(
            *backend, {.context_lens = {1030}, .query_lens = {1}}, {4, 2, 32}, dtype, 32, {});
        results.back().insert(results.back().end(), attended.begin(), attended.end());
      }
      CHECK(results[1] == results[0]);
      CHECK(results[2] == results[0]);
    }
  }
}

TEST_CASE("deterministic: a row has the same bits in any batch, on every instruction set") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    const auto backend = make_cpu_backend({.num_threads = 2, .isa = isa, .deterministic = true});
    const auto weight = backend->make_random_gate_up(100, 300, DType::kBf16, 0.1F, 9);
    DeviceTensor x = upload_random(*backend, {40, 300}, 5);
    DeviceTensor all = backend->allocate_tensor(DType::kF32, {40, 100});
    backend->gate_up(all.tensor, x.tensor, *weight, Activation::kSilu);
    for (const std::int64_t row : {0, 17, 39}) {
      DeviceTensor one = backend->allocate_tensor(DType::kF32, {1, 100});
      backend->gate_up(one.tensor, x.tensor.rows(row, 1), *weight, Activation::kSilu);
      CHECK(download(*backend, one.tensor) == download(*backend, all.tensor.rows(row, 1)));
    }
  }
}

TEST_CASE("random weights: a normal distribution without zeros, the same in every layout") {
  const auto backend = make_cpu_backend({.num_threads = 2});
  constexpr std::int64_t kRows = 90, kColumns = 130;
  const auto values_of = [&](const LinearWeight& weight) {
    DeviceTensor ids = backend->allocate_tensor(DType::kI32, {kRows});
    std::iota(ids.tensor.as<std::int32_t>(), ids.tensor.as<std::int32_t>() + kRows, 0);
    DeviceTensor out = backend->allocate_tensor(DType::kF32, {kRows, kColumns});
    backend->embedding(out.tensor, weight, ids.tensor);
    return download(*backend, out.tensor);
  };
  const auto wide =
      values_of(*backend->make_random_linear(kRows, kColumns, false, DType::kF32, 0.02F, 1));
  const auto narrow =
      values_of(*backend->make_random_linear(kRows, kColumns, false, DType::kBf16, 0.02F, 1));
  const auto other =
      values_of(*backend->make_random_linear(kRows, kColumns, false, DType::kF32, 0.02F, 2));
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < wide.size(); ++i) {
    CHECK(wide[i] != 0.0F);
    CHECK(narrow[i] == bf16_to_float(float_to_bf16(wide[i])));
    sum += wide[i];
    squares += double{wide[i]} * wide[i];
  }
  const auto count = static_cast<double>(wide.size());
  CHECK(std::abs(sum / count) < 0.001);
  CHECK(std::sqrt(squares / count) == doctest::Approx(0.02).epsilon(0.03));
  CHECK(wide != other);
}

TEST_CASE("sampled tokens come back in order and feed the next step") {
  const auto backend = make_cpu_backend({.num_threads = 2});
  DeviceTensor logits = backend->allocate_tensor(DType::kF32, {2, 40});
  std::fill_n(logits.tensor.as<float>(), 80, 0.0F);
  logits.tensor.as<float>()[7] = 5.0F;
  logits.tensor.as<float>()[40 + 23] = 5.0F;
  const SamplingRow rows[] = {{.slot = 3, .temperature = 0.0F}, {.slot = 0, .temperature = 0.0F}};
  const std::uint64_t first = backend->sample(logits.tensor, rows, 40);
  const std::uint64_t second =
      backend->sample(logits.tensor.rows(1, 1), std::span(rows).first(1), 40);
  StepInputs inputs;
  inputs.token_ids = {feedback_token(0), feedback_token(3), 11};
  inputs.positions = {0, 0, 0};
  inputs.slot_mapping = {1, 2, 3};
  inputs.query_start_loc = {0, 1, 2, 3};
  inputs.seq_lens = {1, 1, 1};
  inputs.block_tables = {0, 0, 0};
  inputs.max_num_blocks = 1;
  inputs.logits_indices = {2};
  const ForwardBatch batch = backend->upload(inputs);
  CHECK(batch.token_ids.as<std::int32_t>()[0] == 23);
  CHECK(batch.token_ids.as<std::int32_t>()[1] == 23);  // slot 3 was sampled again
  CHECK(batch.token_ids.as<std::int32_t>()[2] == 11);
  CHECK(batch.num_tokens == 3);
  CHECK(batch.num_sequences == 3);
  CHECK(batch.num_logits_rows == 1);
  CHECK(batch.max_query_len == 1);
  CHECK(batch.max_seq_len == 1);
  const std::vector<SampledToken> tokens = backend->collect(first);
  REQUIRE(tokens.size() == 2);
  CHECK(tokens[0].token_id == 7);
  CHECK(tokens[1].token_id == 23);
  CHECK(backend->collect(second).at(0).token_id == 23);
  CHECK_THROWS_AS(backend->collect(second), Error);
}

TEST_CASE("shapes and types that do not fit are internal errors") {
  const auto backend = make_cpu_backend({.num_threads = 1});
  const auto weight = backend->make_random_linear(8, 16, false, DType::kF32, 1.0F, 1);
  const auto gate_up = backend->make_random_gate_up(8, 16, DType::kF32, 1.0F, 1);
  DeviceTensor x = upload_random(*backend, {2, 16}, 1);
  DeviceTensor out = upload_random(*backend, {2, 8}, 1);
  DeviceTensor wrong = upload_random(*backend, {3, 9}, 1);
  DeviceTensor ids = backend->allocate_tensor(DType::kI32, {2});
  const auto is_internal = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.kind() == ErrorKind::kInternal;
    }
    return false;
  };
  CHECK(is_internal([&] { backend->linear(wrong.tensor, x.tensor, *weight); }));
  CHECK(is_internal([&] { backend->linear(out.tensor, wrong.tensor, *weight); }));
  CHECK(is_internal([&] { backend->linear(out.tensor, x.tensor, *gate_up); }));
  CHECK(is_internal([&] { backend->gate_up(out.tensor, x.tensor, *weight, Activation::kSilu); }));
  CHECK(is_internal([&] { backend->linear_add(ids.tensor, x.tensor, *weight); }));
  CHECK(is_internal([&] { backend->rms_norm(out.tensor, x.tensor, x.tensor, 1e-5F); }));
  ids.tensor.as<std::int32_t>()[0] = 0;
  ids.tensor.as<std::int32_t>()[1] = 8;  // one past the vocabulary
  CHECK(is_internal([&] { backend->embedding(x.tensor, *weight, ids.tensor); }));
  ids.tensor.as<std::int32_t>()[1] = -1;
  CHECK(is_internal([&] { backend->embedding(x.tensor, *weight, ids.tensor); }));
  CHECK(is_internal([&] { backend->gather_rows(x.tensor, x.tensor, ids.tensor); }));
  StepInputs inputs;
  inputs.token_ids = {1};
  CHECK(is_internal([&] { backend->upload(inputs); }));
}

TEST_CASE("an instruction set that is not there is a usage error") {
  if (best_cpu_isa() == CpuIsa::kAmx) return;
  CHECK_THROWS_WITH_AS(make_cpu_backend({.isa = CpuIsa::kAmx}),
                       doctest::Contains("does not support amx"), Error);
}

}  // namespace llmrun
