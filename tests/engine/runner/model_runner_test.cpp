#include "engine/runner/model_runner.h"

#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include <doctest/doctest.h>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/core/error.h"
#include "tests/support/late_backend.h"

namespace llmrun {
namespace {

constexpr std::int32_t kVocabSize = 40;
constexpr std::int32_t kBlockSize = 4;
constexpr TokenId kNanToken = 41;  // is never chosen

// After token t at position p the likeliest token is (3 t + 5 p) % kVocabSize, then the ones that
// follow it. After kNanToken nothing is likely.
TokenId next_token(TokenId token, std::int64_t position) {
  return static_cast<TokenId>((3 * token + 5 * position) % kVocabSize);
}

// A model that remembers what it was given.
class EchoModel final : public CausalLm {
 public:
  struct Step {
    std::vector<TokenId> token_ids;
    std::vector<std::int32_t> positions;
    std::vector<std::int64_t> slot_mapping;
    std::vector<std::int32_t> query_start_loc;
    std::vector<std::int32_t> seq_lens;
    std::vector<std::int32_t> block_tables;
    std::vector<std::int32_t> logits_indices;
  };

  EchoModel() {
    config_.hidden_size = 2;
    config_.num_layers = 1;
    config_.num_query_heads = 1;
    config_.num_kv_heads = 1;
    config_.head_dim = 2;
    config_.vocab_size = kVocabSize + 3;  // rows that are no tokens
    config_.max_positions = 1000;
  }

  const ModelConfig& config() const override { return config_; }
  std::int64_t max_positions() const override { return config_.max_positions; }
  std::size_t weight_bytes() const override { return 0; }
  std::size_t workspace_bytes(DType, std::int64_t, std::int64_t) const override { return 0; }
  void allocate_workspace(Backend& backend, std::int64_t, std::int64_t max_logits_rows) override {
    hidden_ = backend.allocate_tensor(DType::kF32, {max_logits_rows, 2});
  }
  void forward(Backend&, const ForwardBatch& batch, std::span<const KvCacheView>) override {
    Step step{.token_ids = copy<TokenId>(batch.token_ids),
              .positions = copy<std::int32_t>(batch.positions),
              .slot_mapping = copy<std::int64_t>(batch.slot_mapping),
              .query_start_loc = copy<std::int32_t>(batch.query_start_loc),
              .seq_lens = copy<std::int32_t>(batch.seq_lens),
              .block_tables = copy<std::int32_t>(batch.block_tables),
              .logits_indices = copy<std::int32_t>(batch.logits_indices)};
    for (std::size_t row = 0; row < step.logits_indices.size(); ++row) {
      const auto token = static_cast<std::size_t>(step.logits_indices[row]);
      hidden_.tensor.as<float>()[2 * row] = static_cast<float>(step.token_ids[token]);
      hidden_.tensor.as<float>()[2 * row + 1] = static_cast<float>(step.positions[token]);
    }
    steps.push_back(std::move(step));
  }
  Tensor hidden_states(std::int64_t num_rows) const override {
    return hidden_.tensor.rows(num_rows);
  }
  void compute_logits(Backend&, Tensor logits, Tensor hidden) override {
    for (std::int64_t row = 0; row < hidden.dim(0); ++row) {
      const auto token = static_cast<TokenId>(hidden.as<float>()[2 * row]);
      const auto position = static_cast<std::int64_t>(hidden.as<float>()[2 * row + 1]);
      float* out = logits.as<float>() + row * logits.dim(1);
      std::fill_n(out, logits.dim(1), 100.0F);  // the padding columns win, if they are looked at
      for (TokenId rank = 0; rank < kVocabSize; ++rank) {
        out[(next_token(token, position) + rank) % kVocabSize] = -0.5F * static_cast<float>(rank);
      }
      if (token == kNanToken) out[0] = std::numeric_limits<float>::quiet_NaN();
    }
  }

  std::vector<Step> steps;

 private:
  template <typename T>
  static std::vector<T> copy(const Tensor& tensor) {
    return {tensor.as<T>(), tensor.as<T>() + tensor.num_elements()};
  }

  ModelConfig config_;
  DeviceTensor hidden_;
};

// A runner, its model, and steps planned by hand.
struct Fixture {
  explicit Fixture(std::int32_t max_logits_rows = 64, bool late = false)
      : backend(late ? std::make_unique<testing::LateBackend>(make_cpu_backend({.num_threads = 1}))
                     : make_cpu_backend({.num_threads = 1})),
        runner(*backend, model,
               {.num_blocks = 20,
                .block_size = kBlockSize,
                .max_num_seqs = 5,
                .max_num_batched_tokens = 32,
                .max_logits_rows = max_logits_rows,
                .vocab_size = kVocabSize,
                .kv_cache_dtype = DType::kF32}) {}

  // Adds the next `num_new_tokens` of a sequence to a step.
  static void plan(ScheduledBatch& batch, Sequence& sequence, std::int64_t num_new_tokens) {
    batch.sequences.push_back({.sequence = &sequence,
                               .first_position = sequence.num_computed_tokens(),
                               .num_new_tokens = static_cast<std::int32_t>(num_new_tokens),
                               .samples = num_new_tokens == sequence.num_uncomputed_tokens()});
    batch.num_tokens += static_cast<std::int32_t>(num_new_tokens);
    sequence.plan(num_new_tokens);
  }
  void submit(const ScheduledBatch& batch, SamplingPlan plan) {
    runner.submit(batch, std::vector<SamplingPlan>(batch.sequences.size(), plan));
  }
  void submit(const ScheduledBatch& batch) { submit(batch, greedy()); }
  static SamplingPlan greedy(std::int32_t num_prompt_logprobs = -1) {
    SamplingPlan plan;
    plan.row.temperature = 0;
    plan.num_prompt_logprobs = num_prompt_logprobs;
    return plan;
  }
  // One sequence decodes alone: plan, run, resolve.
  TokenId decode(Sequence& sequence, const SamplingPlan& sampling) {
    ScheduledBatch batch;
    plan(batch, sequence, sequence.num_uncomputed_tokens());
    submit(batch, sampling);
    const TokenId token = runner.collect().at(0).sampled.token_id;
    sequence.resolve_pending(token);
    return token;
  }

  EchoModel model;
  std::unique_ptr<Backend> backend;
  ModelRunner runner;
};

Sequence make_sequence(SequenceId id, std::vector<TokenId> prompt, BlockTable blocks,
                       std::int32_t slot) {
  Sequence sequence({.id = id, .prompt_token_ids = std::move(prompt), .max_output_tokens = 100});
  sequence.block_table = std::move(blocks);
  sequence.slot = slot;
  return sequence;
}

TEST_CASE("a ragged step: where each token comes from and where it goes") {
  Fixture f;
  Sequence a = make_sequence(1, {10, 11, 12, 13, 14, 15}, {7, 3}, 0);
  Sequence b = make_sequence(2, {20, 21}, {9}, 4);
  ScheduledBatch batch;
  Fixture::plan(batch, a, 5);  // a chunk
  Fixture::plan(batch, b, 2);
  f.submit(batch);
  CHECK(f.runner.num_steps_in_flight() == 1);
  auto outputs = f.runner.collect();
  REQUIRE(outputs.size() == 2);
  CHECK(outputs[0].sampled.token_id == -1);
  CHECK(outputs[1].sampled.token_id == next_token(21, 1));
  b.resolve_pending(outputs[1].sampled.token_id);
  const EchoModel::Step& first = f.model.steps.at(0);
  CHECK(first.token_ids == std::vector<TokenId>{10, 11, 12, 13, 14, 20, 21});
  CHECK(first.positions == std::vector<std::int32_t>{0, 1, 2, 3, 4, 0, 1});
  CHECK(first.slot_mapping == std::vector<std::int64_t>{28, 29, 30, 31, 12, 36, 37});
  CHECK(first.query_start_loc == std::vector<std::int32_t>{0, 5, 7});
  CHECK(first.seq_lens == std::vector<std::int32_t>{5, 2});
  CHECK(first.block_tables == std::vector<std::int32_t>{7, 3, 9, kReservedBlock});
  CHECK(first.logits_indices == std::vector<std::int32_t>{6});

  ScheduledBatch second_batch;
  Fixture::plan(second_batch, b, 1);
  Fixture::plan(second_batch, a, 1);
  f.submit(second_batch);
  outputs = f.runner.collect();
  CHECK(outputs[0].sampled.token_id == next_token(b.token_ids()[2], 2));
  CHECK(outputs[1].sampled.token_id == next_token(15, 5));
  const EchoModel::Step& second = f.model.steps.at(1);
  CHECK(second.token_ids == std::vector<TokenId>{next_token(21, 1), 15});
  CHECK(second.slot_mapping == std::vector<std::int64_t>{38, 13});
  CHECK(second.seq_lens == std::vector<std::int32_t>{3, 6});
  CHECK(second.block_tables == std::vector<std::int32_t>{9, kReservedBlock, 7, 3});
  CHECK(second.logits_indices == std::vector<std::int32_t>{0, 1});
}

TEST_CASE("a step in flight feeds the next through its slot, whatever the order of the rows") {
  for (const bool late : {false, true}) {
    Fixture f(64, late);
    Sequence a = make_sequence(1, {10}, {1, 2}, 3);
    Sequence b = make_sequence(2, {20}, {3, 4}, 0);
    Sequence c = make_sequence(3, {30}, {5, 6}, 1);
    ScheduledBatch first;
    for (Sequence* s : {&a, &b, &c}) Fixture::plan(first, *s, 1);
    f.submit(first);
    ScheduledBatch second;
    for (Sequence* s : {&c, &a, &b}) Fixture::plan(second, *s, 1);
    f.submit(second);
    CHECK(f.runner.num_steps_in_flight() == 2);
    const TokenId after_a = next_token(10, 0);
    const TokenId after_b = next_token(20, 0);
    const TokenId after_c = next_token(30, 0);
    CHECK(f.model.steps.at(1).token_ids == std::vector<TokenId>{after_c, after_a, after_b});
    CHECK(f.model.steps.at(1).positions == std::vector<std::int32_t>{1, 1, 1});
    auto outputs = f.runner.collect();
    CHECK(outputs.at(0).sampled.token_id == after_a);
    CHECK(outputs.at(1).sampled.token_id == after_b);
    CHECK(outputs.at(2).sampled.token_id == after_c);
    outputs = f.runner.collect();
    CHECK(outputs.at(0).sampled.token_id == next_token(after_c, 1));
    CHECK(outputs.at(1).sampled.token_id == next_token(after_a, 1));
    CHECK(outputs.at(2).sampled.token_id == next_token(after_b, 1));
    CHECK(f.runner.num_steps_in_flight() == 0);
  }
}

TEST_CASE("prompt log-probabilities: every position once, whatever the chunks and slices") {
  const std::vector<TokenId> prompt = {5, 6, 7, 8, 9, 1, 2};
  for (const std::int32_t max_logits_rows : {1, 2, 3, 64}) {
    CAPTURE(max_logits_rows);
    for (const std::int64_t chunk : {1, 3, 7}) {
      CAPTURE(chunk);
      Fixture f(max_logits_rows);
      Sequence rated = make_sequence(1, prompt, {1, 2}, 0);
      Sequence plain = make_sequence(2, {4}, {3, 4}, 1);
      std::vector<std::int64_t> seen;
      TokenId expected_plain = next_token(4, 0);
      while (rated.num_pending_tokens() == 0) {
        ScheduledBatch batch;
        Fixture::plan(batch, plain, 1);
        Fixture::plan(batch, rated, std::min(chunk, rated.num_uncomputed_tokens()));
        const std::vector<SamplingPlan> plans = {Fixture::greedy(), Fixture::greedy(2)};
        f.runner.submit(batch, plans);
        const auto outputs = f.runner.collect();
        CHECK(outputs[0].sampled.token_id == expected_plain);
        CHECK(outputs[0].prompt_logprobs.empty());
        expected_plain = next_token(expected_plain, plain.num_tokens() - 1);
        plain.resolve_pending(outputs[0].sampled.token_id);
        for (const auto& entry : outputs[1].prompt_logprobs) {
          seen.push_back(entry.position);
          const auto at = static_cast<std::size_t>(entry.position);
          const TokenId best = next_token(prompt[at - 1], entry.position - 1);
          REQUIRE(entry.logprobs.size() == 3);
          CHECK(entry.logprobs[0].token_id == prompt[at]);
          CHECK(entry.logprobs[0].rank == (prompt[at] - best + kVocabSize) % kVocabSize + 1);
          CHECK(entry.logprobs[1].token_id == best);
          CHECK(entry.logprobs[2].token_id == (best + 1) % kVocabSize);
        }
        if (rated.num_pending_tokens() > 0) {
          CHECK(outputs[1].sampled.token_id == next_token(2, 6));
        }
      }
      CHECK(seen == std::vector<std::int64_t>{1, 2, 3, 4, 5, 6});
    }
  }
}

TEST_CASE("padding reads and writes the reserved block only") {
  Fixture f;
  Sequence a = make_sequence(1, {10, 11, 12, 13, 14}, {7, 3}, 0);
  ScheduledBatch batch;
  Fixture::plan(batch, a, 5);
  batch.num_padding_tokens = 3;
  f.submit(batch);
  CHECK(f.runner.collect().at(0).sampled.token_id == next_token(14, 4));
  const EchoModel::Step& step = f.model.steps.at(0);
  CHECK(step.token_ids.size() == 8);
  CHECK(step.query_start_loc == std::vector<std::int32_t>{0, 5, 6, 7, 8});
  CHECK(step.seq_lens == std::vector<std::int32_t>{5, 1, 1, 1});
  CHECK(step.logits_indices == std::vector<std::int32_t>{4});
  for (std::size_t i = 5; i < 8; ++i) {
    CHECK(step.slot_mapping[i] / kBlockSize == kReservedBlock);
    CHECK(step.positions[i] == 0);
  }
  for (std::size_t i = 2; i < 8; ++i) CHECK(step.block_tables[i] == kReservedBlock);

  ScheduledBatch only_padding;  // all rows of a static batch have ended but one that waits
  only_padding.num_padding_tokens = 2;
  f.submit(only_padding);
  CHECK(f.runner.collect().empty());
}

TEST_CASE("penalties follow the sequence, not the slot") {
  Fixture f;
  // Of two tokens that are always ahead, the one chosen less often is next.
  const std::vector<std::pair<TokenId, float>> ahead = {{5, 40.0F}, {6, 40.0F}, {7, 39.0F}};
  SamplingPlan penalised = Fixture::greedy();
  penalised.row.frequency_penalty = 2.0F;
  penalised.row.logit_bias = ahead;
  const auto decode_alone = [&](std::vector<TokenId> prompt, int count) {
    Fixture alone;
    Sequence s = make_sequence(1, std::move(prompt), {1, 2, 3}, 0);
    std::vector<TokenId> ids;
    for (int i = 0; i < count; ++i) ids.push_back(alone.decode(s, penalised));
    return ids;
  };
  const std::vector<TokenId> prompt_a = {8, 16};
  const std::vector<TokenId> prompt_b = {24};
  const std::vector<TokenId> expected_a = decode_alone(prompt_a, 8);
  const std::vector<TokenId> expected_b = decode_alone(prompt_b, 8);

  // Both in slot 2, one after the other, then the first again (preempted) in slot 2 and in slot 1.
  Sequence a = make_sequence(1, prompt_a, {1, 2, 3}, 2);
  Sequence b = make_sequence(2, prompt_b, {4, 5, 6}, 2);
  std::vector<TokenId> ids_a;
  std::vector<TokenId> ids_b;
  for (int i = 0; i < 3; ++i) ids_a.push_back(f.decode(a, penalised));
  for (int i = 0; i < 8; ++i) ids_b.push_back(f.decode(b, penalised));
  for (int i = 0; i < 2; ++i) ids_a.push_back(f.decode(a, penalised));
  a.slot = 1;
  for (int i = 0; i < 3; ++i) ids_a.push_back(f.decode(a, penalised));
  CHECK(ids_a == expected_a);
  CHECK(ids_b == expected_b);

  Sequence unpenalised = make_sequence(3, prompt_a, {1, 2, 3}, 0);
  std::vector<TokenId> other;
  penalised.row.frequency_penalty = 0;
  for (int i = 0; i < 8; ++i) other.push_back(f.decode(unpenalised, penalised));
  CHECK(other != expected_a);  // the penalty matters in this test
}

TEST_CASE("rows that are no numbers are told apart from their neighbours") {
  Fixture f(2);
  Sequence good = make_sequence(1, {1, 2, 3}, {1}, 0);
  Sequence bad = make_sequence(2, {4, kNanToken}, {2}, 1);
  Sequence bad_inside = make_sequence(3, {kNanToken, 5, 6}, {3}, 2);
  ScheduledBatch batch;
  for (Sequence* s : {&good, &bad, &bad_inside}) Fixture::plan(batch, *s, s->num_tokens());
  const std::vector<SamplingPlan> plans = {Fixture::greedy(0), Fixture::greedy(),
                                           Fixture::greedy(0)};
  f.runner.submit(batch, plans);
  const auto outputs = f.runner.collect();
  CHECK(outputs.at(0).is_finite);
  CHECK(outputs.at(0).sampled.token_id == next_token(3, 2));
  CHECK(!outputs.at(1).is_finite);
  CHECK(!outputs.at(2).is_finite);
}

TEST_CASE("a token that a broken device made up ends the run, before anything is indexed by it") {
  for (const TokenId token : {kVocabSize, -1, 1 << 30, kVocabSize - 1}) {
    CAPTURE(token);
    Fixture f(64, true);
    static_cast<testing::LateBackend&>(*f.backend).false_token = token;
    Sequence sequence = make_sequence(1, {10, 11}, {7}, 0);
    ScheduledBatch batch;
    Fixture::plan(batch, sequence, 2);
    f.submit(batch);
    if (token == kVocabSize - 1) {
      CHECK(f.runner.collect().at(0).sampled.token_id == token);
      continue;
    }
    try {
      f.runner.collect();
      FAIL("not refused");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kDevice);
    }
  }
}

TEST_CASE("what only a bug can ask for is refused") {
  Fixture f;
  const auto check_refused = [&](Sequence sequence, std::int32_t num_padding_tokens = 0) {
    ScheduledBatch batch;
    Fixture::plan(batch, sequence, sequence.num_tokens());
    batch.num_padding_tokens = num_padding_tokens;
    CHECK_THROWS_AS(f.submit(batch), Error);
  };
  check_refused(make_sequence(1, {1}, {1}, -1));
  check_refused(make_sequence(1, {1}, {1}, 5));
  check_refused(make_sequence(1, {1}, {kReservedBlock}, 0));
  check_refused(make_sequence(1, {1}, {1}, 0), 32);
  CHECK_THROWS_AS(f.runner.collect(), Error);
}

}  // namespace
}  // namespace llmrun
