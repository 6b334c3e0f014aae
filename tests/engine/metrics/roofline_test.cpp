#include "engine/metrics/roofline.h"

#include <doctest/doctest.h>

namespace llmrun {
namespace {

constexpr TransformerShape kTiny{.num_layers = 2,
                                 .hidden_size = 8,
                                 .intermediate_size = 16,
                                 .num_query_heads = 4,
                                 .num_kv_heads = 2,
                                 .head_dim = 2,
                                 .vocab_size = 10};
constexpr TransformerShape kQwen2{.num_layers = 28,
                                  .hidden_size = 3584,
                                  .intermediate_size = 18944,
                                  .num_query_heads = 28,
                                  .num_kv_heads = 4,
                                  .head_dim = 128,
                                  .vocab_size = 152064,
                                  .has_qkv_bias = true};
constexpr DeviceRates kH200{.bytes_per_s = 4.3e12, .flops_per_s = 790e12};

}  // namespace

TEST_CASE("bytes and operations of a step, by hand") {
  // A layer: 8*8 + 2*8*4 + 8*8 + 3*8*16 = 576 weights, 16 of norms; the head 80, its norm 8.
  const Roofline roofline(kTiny, {.bytes_per_s = 100, .flops_per_s = 1000});
  CHECK(roofline.kv_bytes_per_token() == 2 * 2 * 4 * 2);
  CHECK(roofline.weight_bytes_per_step() == 2 * (2 * 576 + 2 * 16 + 8 + 80));

  StepRecord step;
  step.num_decode_sequences = 3;
  step.num_decode_context_tokens = 30;
  step.num_sampled_rows = 3;
  const StepWork decode = roofline.work(step);
  CHECK(decode.bytes == 2 * (2 * 576 + 2 * 16 + 8 + 80) + 32 * (30 + 3));
  CHECK(decode.flops == 2 * 1152 * 3 + 2 * 80 * 3 + 4 * 2 * 8 * 30);
  CHECK(decode.limit_s ==
        doctest::Approx(2384.0 / 100 + 160.0 / 100 + 32.0 * 33 / 100));  // memory-bound

  // A chunk of 4 tokens after 6: contexts 7 + 8 + 9 + 10, nothing sampled.
  StepRecord chunk;
  chunk.num_prefill_tokens = 4;
  chunk.num_prefill_context_tokens = 34;
  chunk.num_prefill_past_tokens = 6;
  const StepWork prefill = roofline.work(chunk);
  CHECK(prefill.bytes == 2 * (2 * 576 + 2 * 16 + 8) + 32 * (4 + 6));
  CHECK(prefill.flops == 2 * 1152 * 4 + 4 * 2 * 8 * 34);
}

TEST_CASE("without rates there is no limit") {
  StepRecord step;
  step.num_decode_sequences = 1;
  CHECK(Roofline(kTiny, {}).work(step).limit_s == 0.0);
}

// The figures of the project's roofline calculator for one H200.
TEST_CASE("ideal times of whole workloads") {
  const Roofline roofline(kQwen2, kH200);
  const Roofline::IdealSchedule schedule{
      .max_num_seqs = 2048, .max_num_batched_tokens = 16384, .kv_capacity_tokens = 2000000};
  const std::vector<std::pair<std::int64_t, std::int64_t>> few(25, {64, 128});
  CHECK(roofline.ideal_seconds(few, schedule) == doctest::Approx(0.450).epsilon(0.002));
  const std::vector<std::pair<std::int64_t, std::int64_t>> many(1000, {161, 338});
  CHECK(roofline.ideal_seconds(many, schedule) == doctest::Approx(10.196).epsilon(0.0002));
  CHECK(roofline.ideal_seconds(
            many, {.max_num_seqs = 1, .max_num_batched_tokens = 64, .kv_capacity_tokens = 100}) ==
        0.0);
}

}  // namespace llmrun
