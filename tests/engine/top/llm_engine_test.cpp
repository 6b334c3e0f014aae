// What one engine promises about requests: limits, errors, aborts, samples, prefixes, numbers.
#include "engine/llm_engine.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "engine/core/file.h"
#include "engine/core/json.h"
#include "tests/engine/top/mixed_requests.h"
#include "tests/support/model_driver.h"

namespace llmrun {
namespace {

using testing::describe;
using testing::make_mixed_requests;
using testing::make_prompt;
using testing::ModelDriver;
using testing::TestEngine;
using testing::TestEngineOptions;

EngineRequest make_request(std::vector<TokenId> prompt, std::int32_t max_tokens,
                           double temperature = 1.0) {
  EngineRequest request{.prompt_token_ids = std::move(prompt), .params = {}};
  request.params.max_tokens = max_tokens;
  request.params.temperature = temperature;
  request.params.ignore_eos = true;
  return request;
}

std::vector<TokenId> run_ids(TestEngine& engine, const EngineRequest& request) {
  return engine.run(request).outputs.at(0).token_ids;
}

// --- against Hugging Face transformers: scripts/make_model_goldens.py ---

TEST_CASE("greedy tokens and prompt log-probabilities are those of transformers") {
  const std::filesystem::path models = LLMRUN_SOURCE_DIR "/tests/data/models";
  for (const char* name : {"llama_gqa", "qwen2_tied", "mistral_window", "llama3_rope"}) {
    CAPTURE(name);
    const auto path = models / name / "golden.json";
    const nlohmann::json golden =
        parse_json(read_file(path, 1 << 20, ErrorKind::kInput), path.string());
    std::vector<EngineRequest> requests;
    for (const nlohmann::json& entry : golden.at("prompts")) {
      const auto num_tokens = static_cast<std::int32_t>(entry.at("greedy_ids").size());
      requests.push_back(
          make_request(entry.at("prompt").get<std::vector<TokenId>>(), num_tokens, 0));
      requests.back().params.prompt_logprobs = 1;
    }
    for (const std::int32_t budget : {9, 64}) {
      TestEngine engine({.folder = models / name,
                         .block_size = 8,
                         .max_num_batched_tokens = budget,
                         .max_model_len = 400,
                         .steps_ahead = 1});
      const std::vector<RequestOutput> outputs = engine.run(requests);
      for (std::size_t r = 0; r < outputs.size(); ++r) {
        const nlohmann::json& entry = golden.at("prompts").at(r);
        CHECK(outputs[r].outputs.at(0).token_ids ==
              entry.at("greedy_ids").get<std::vector<TokenId>>());
        const auto& rated = outputs[r].prompt_logprobs;
        REQUIRE(rated.size() == requests[r].prompt_token_ids.size());
        for (std::size_t i = 1; i < rated.size(); ++i) {
          CHECK(rated[i].token_id == requests[r].prompt_token_ids[i]);
          CHECK(std::abs(rated[i].logprob - entry.at("next_logprobs").at(i - 1).get<double>()) <
                1e-4);
          CHECK(rated[i].top.at(0).token_id == entry.at("top_ids").at(i - 1).get<TokenId>());
        }
      }
    }
  }
}

// --- log-probabilities ---

TEST_CASE("a prompt's log-probabilities are those its tokens had when they were generated") {
  EngineRequest request = make_request(make_prompt(1, 20), 30);
  request.params.logprobs = 3;
  TestEngine engine({});
  const CompletionOutput generated = engine.run(request).outputs.at(0);

  EngineRequest rating = make_request(request.prompt_token_ids, 1);
  rating.prompt_token_ids.insert(rating.prompt_token_ids.end(), generated.token_ids.begin(),
                                 generated.token_ids.end());
  rating.params.prompt_logprobs = 3;
  for (const std::int32_t budget : {1, 8, 13, 64}) {
    CAPTURE(budget);
    for (const std::int32_t max_logits_rows : {1, 5, 64}) {
      TestEngine other({.max_num_seqs = 1,
                        .max_num_batched_tokens = budget,
                        .max_logits_rows = max_logits_rows});
      const RequestOutput output = other.run(rating);
      REQUIRE(output.prompt_logprobs.size() == 50);
      CHECK(output.prompt_logprobs[0].top.empty());
      for (std::size_t i = 0; i < 30; ++i) {
        CHECK(describe(output.prompt_logprobs[20 + i]) == describe(generated.logprobs[i]));
      }
      // The same with the prompt in the prefix cache.
      CHECK(describe(other.run(rating)) == describe(output));
    }
  }
}

TEST_CASE("cumulative log-probability is the sum, and ranks count what is likelier") {
  EngineRequest request = make_request(make_prompt(2, 9), 25);
  request.params.logprobs = 100;
  TestEngine engine({});
  const CompletionOutput output = engine.run(request).outputs.at(0);
  double sum = 0;
  for (std::size_t i = 0; i < output.token_ids.size(); ++i) {
    const TokenLogprobs& rated = output.logprobs.at(i);
    sum += rated.logprob;
    CHECK(rated.token_id == output.token_ids[i]);
    REQUIRE(rated.top.size() == 100);
    for (std::size_t k = 0; k < 100; ++k) {
      CHECK(rated.top[k].rank == static_cast<std::int32_t>(k) + 1);
      if (k > 0) CHECK(rated.top[k].logprob <= rated.top[k - 1].logprob);
      if (rated.top[k].token_id == rated.token_id) CHECK(rated.rank == rated.top[k].rank);
    }
  }
  CHECK(output.cumulative_logprob == doctest::Approx(sum).epsilon(1e-12));
}

TEST_CASE("-1 gives the log-probabilities of the whole vocabulary") {
  TestEngine engine({.max_logprobs = kAllLogprobs});
  EngineRequest request = make_request(make_prompt(3, 6), 4);
  request.params.logprobs = kAllLogprobs;
  request.params.prompt_logprobs = kAllLogprobs;
  const RequestOutput output = engine.run(request);
  REQUIRE(output.outputs.size() == 1);
  std::vector<TokenLogprobs> rated(output.prompt_logprobs.begin() + 1,
                                   output.prompt_logprobs.end());
  const std::vector<TokenLogprobs>& of_output = output.outputs[0].logprobs;
  rated.insert(rated.end(), of_output.begin(), of_output.end());
  REQUIRE(rated.size() == 5 + output.outputs[0].token_ids.size());
  for (const TokenLogprobs& token : rated) {
    REQUIRE(token.top.size() == 263);
    double sum = 0;
    std::vector<bool> seen(263);
    for (const TokenLogprobs::Entry& entry : token.top) {
      sum += std::exp(static_cast<double>(entry.logprob));
      seen.at(static_cast<std::size_t>(entry.token_id)) = true;
      if (entry.token_id == token.token_id) CHECK(entry.rank == token.rank);
    }
    CHECK(std::count(seen.begin(), seen.end(), true) == 263);
    CHECK(std::abs(sum - 1) < 1e-5);
  }
}

// --- prefixes ---

TEST_CASE("prefix hits at every offset of a block, and of the whole prompt") {
  constexpr std::size_t kBlock = 8;
  for (std::size_t common = 1; common <= 3 * kBlock; ++common) {
    CAPTURE(common);
    for (const std::size_t more : {std::size_t{0}, std::size_t{1}, kBlock}) {
      EngineRequest first = make_request(make_prompt(1, common), 5);
      EngineRequest second = first;
      const std::vector<TokenId> tail = make_prompt(9, more);
      second.prompt_token_ids.insert(second.prompt_token_ids.end(), tail.begin(), tail.end());
      second.params.logprobs = 2;
      TestEngine cached({.block_size = kBlock});
      TestEngine uncached({.block_size = kBlock, .prefix_caching = false});
      cached.run(first);
      const RequestOutput hit = cached.run(second);
      const std::size_t longest =
          std::min(common + first.params.max_tokens.value() - 1, common + more - 1);
      if (more == 0) CHECK(hit.num_cached_tokens == longest / kBlock * kBlock);
      CHECK(hit.num_cached_tokens >= (std::min(common, longest)) / kBlock * kBlock);
      CHECK(describe(hit) == describe(uncached.run(second)));
    }
  }
}

TEST_CASE("a conversation finds what it generated itself") {
  TestEngine cached({.block_size = 4});
  TestEngine uncached({.block_size = 4, .prefix_caching = false});
  std::vector<TokenId> prompt = make_prompt(3, 10);
  for (int turn = 0; turn < 5; ++turn) {
    const EngineRequest request = make_request(prompt, 13);
    const RequestOutput output = cached.run(request);
    CHECK(describe(output) == describe(uncached.run(request)));
    if (turn > 0) CHECK(output.num_cached_tokens >= std::ssize(prompt) - 8);
    const std::vector<TokenId>& answer = output.outputs[0].token_ids;
    prompt.insert(prompt.end(), answer.begin(), answer.end());
    prompt.push_back(static_cast<TokenId>(turn));
  }
}

TEST_CASE("prefixes are not shared between different salts") {
  TestEngine engine({});
  EngineRequest request = make_request(make_prompt(1, 60), 2);
  request.cache_salt = 1;
  engine.run(request);
  CHECK(engine.run(request).num_cached_tokens == 48);
  request.cache_salt = 2;
  CHECK(engine.run(request).num_cached_tokens == 0);
}

// --- samples ---

TEST_CASE("n samples are n requests with the seeds that follow") {
  EngineRequest request = make_request(make_prompt(1, 35), 20);
  request.params.seed = 18446744073709551614U;  // wraps
  request.params.n = 4;
  request.params.logprobs = 1;
  request.params.presence_penalty = 0.5;
  for (const std::int32_t steps_ahead : {0, 1}) {
    TestEngine engine({.steps_ahead = steps_ahead});
    const RequestOutput together = engine.run(request);
    REQUIRE(together.outputs.size() == 4);
    std::set<std::vector<TokenId>> distinct;
    for (std::uint64_t i = 0; i < 4; ++i) {
      EngineRequest single = request;
      single.params.n = 1;
      single.params.seed = *request.params.seed + i;
      CompletionOutput alone = engine.run(single).outputs.at(0);
      alone.index = static_cast<std::int32_t>(i);
      RequestOutput a;
      RequestOutput b;
      a.outputs = {alone};
      b.outputs = {together.outputs[i]};
      CHECK(describe(a) == describe(b));
      distinct.insert(alone.token_ids);
    }
    CHECK(distinct.size() == 4);
  }
}

TEST_CASE("best_of returns the n likeliest, best first") {
  EngineRequest request = make_request(make_prompt(1, 20), 15);
  request.params.seed = 3;
  request.params.logprobs = 0;
  request.params.n = 6;
  TestEngine engine({});
  std::vector<CompletionOutput> all = engine.run(request).outputs;
  std::sort(all.begin(), all.end(), [](const CompletionOutput& a, const CompletionOutput& b) {
    return a.cumulative_logprob > b.cumulative_logprob;
  });
  request.params.n = 2;
  request.params.best_of = 6;
  for (const bool logprobs : {true, false}) {
    if (!logprobs) request.params.logprobs.reset();
    const RequestOutput best = engine.run(request);
    REQUIRE(best.outputs.size() == 2);
    CHECK(best.num_output_tokens == 6 * 15);
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(best.outputs[i].token_ids == all[i].token_ids);
      CHECK(best.outputs[i].index == static_cast<std::int32_t>(i));
      CHECK(best.outputs[i].logprobs.size() == (logprobs ? 15 : 0));
    }
  }
}

TEST_CASE("without a seed, tokens follow from the run's seed and the request's key") {
  EngineRequest request = make_request(make_prompt(1, 20), 15);
  const auto run = [&](std::uint64_t seed, std::uint64_t key) {
    TestEngine engine({.seed = seed});
    request.key = key;
    return run_ids(engine, request);
  };
  CHECK(run(1, 1) == run(1, 1));
  CHECK(run(1, 1) != run(1, 2));
  CHECK(run(1, 1) != run(2, 1));
  CHECK(run(0, 0) != run(0, 1));
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
    request.params.seed = seed;
    CHECK(run(1, 1) == run(2, 2));
  }
  request.params.seed = 0;
  const auto zero = run(1, 1);
  request.params.seed = 1;
  CHECK(zero != run(1, 1));
}

// --- beams ---

// Beam search as its definition reads: the whole sequence is computed again for every token.
std::vector<std::vector<TokenId>> search_plainly(const std::vector<TokenId>& prompt,
                                                 std::size_t width, std::size_t num_tokens,
                                                 const std::vector<TokenId>& end_ids,
                                                 double length_penalty) {
  const auto backend = make_cpu_backend({.num_threads = 1});
  const auto model = load_model(find_model(TestEngineOptions{}.folder.string(), {}), *backend,
                                {.dtype = "float32"})
                         .model;
  ModelDriver driver(*backend, *model, {});
  struct Beam {
    std::vector<TokenId> ids;
    double sum = 0;
    bool ended = false;
  };
  std::vector<Beam> running = {{}};
  std::vector<Beam> ended;
  for (std::size_t step = 0; step < num_tokens; ++step) {
    std::vector<Beam> next;
    for (const Beam& beam : running) {
      ModelDriver::Sequence sequence{.tokens = prompt};
      sequence.tokens.insert(sequence.tokens.end(), beam.ids.begin(), beam.ids.end());
      const auto length = static_cast<std::int64_t>(sequence.tokens.size());
      const auto rows = driver.step({{{&sequence, length, ModelDriver::Rows::kLast}}});
      driver.release(sequence);
      for (TokenId id = 0; id < static_cast<TokenId>(rows[0].size()); ++id) {
        Beam longer = beam;
        longer.ids.push_back(id);
        longer.sum += testing::logprob_of(rows[0], id);
        longer.ended = std::count(end_ids.begin(), end_ids.end(), id) > 0;
        next.push_back(std::move(longer));
      }
    }
    std::sort(next.begin(), next.end(), [](const Beam& a, const Beam& b) { return a.sum > b.sum; });
    running.clear();
    // As many candidates as would be seen with 2 * width from each beam and few end tokens.
    for (const Beam& beam : next) {
      if (running.size() == width) break;
      (beam.ended ? ended : running).push_back(beam);
    }
  }
  ended.insert(ended.end(), running.begin(), running.end());
  const auto score = [&](const Beam& beam) {
    const double length =
        static_cast<double>(prompt.size() + beam.ids.size()) - (beam.ended ? 1.0 : 0.0);
    return beam.sum / std::pow(length, length_penalty);
  };
  std::stable_sort(ended.begin(), ended.end(),
                   [&](const Beam& a, const Beam& b) { return score(a) > score(b); });
  std::vector<std::vector<TokenId>> best;
  for (std::size_t i = 0; i < width; ++i) best.push_back(ended[i].ids);
  return best;
}

TEST_CASE("beam search is the plain one") {
  for (const double length_penalty : {0.0, 1.0, 2.0}) {
    for (const bool ignore_eos : {false, true}) {
      CAPTURE(length_penalty);
      CAPTURE(ignore_eos);
      EngineRequest request = make_request(make_prompt(4, 17), 8, 0);
      request.params.n = 3;
      request.params.use_beam_search = true;
      request.params.length_penalty = length_penalty;
      request.params.ignore_eos = ignore_eos;
      const auto expected = search_plainly(
          request.prompt_token_ids, 3, 8,
          ignore_eos ? std::vector<TokenId>{} : std::vector<TokenId>{2, 33, 77, 150, 200},
          length_penalty);
      TestEngine engine({.block_size = 4, .steps_ahead = 1});
      const RequestOutput output = engine.run(request);
      REQUIRE(output.outputs.size() == 3);
      for (std::size_t i = 0; i < 3; ++i) {
        CHECK(output.outputs[i].token_ids == expected[i]);
        CHECK(output.outputs[i].index == static_cast<std::int32_t>(i));
      }
      CHECK(engine.find_leak() == std::nullopt);
    }
  }
}

// The likeliest of a sequence's next tokens, computed anew: descending, lower ids first.
std::vector<std::pair<TokenId, double>> rank_plainly(ModelDriver& driver,
                                                     const std::vector<TokenId>& token_ids) {
  ModelDriver::Sequence sequence{.tokens = token_ids};
  const auto length = static_cast<std::int64_t>(token_ids.size());
  const auto rows = driver.step({{{&sequence, length, ModelDriver::Rows::kLast}}});
  driver.release(sequence);
  std::vector<std::pair<TokenId, double>> ranked;
  for (TokenId id = 0; id < static_cast<TokenId>(rows[0].size()); ++id) {
    ranked.emplace_back(id, testing::logprob_of(rows[0], id));
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return ranked;
}

TEST_CASE("tokens of beams have the likeliest of their position, and the beams stay the same") {
  const auto backend = make_cpu_backend({.num_threads = 1});
  const auto model = load_model(find_model(TestEngineOptions{}.folder.string(), {}), *backend,
                                {.dtype = "float32"})
                         .model;
  ModelDriver driver(*backend, *model, {});
  EngineRequest request = make_request(make_prompt(4, 17), 8, 0);
  request.params.n = 3;
  request.params.use_beam_search = true;
  TestEngine engine({.block_size = 4, .steps_ahead = 1, .max_logprobs = kAllLogprobs});
  const RequestOutput without = engine.run(request);
  REQUIRE(without.outputs.size() == 3);
  for (const std::int32_t asked : {0, 2, 6, 40, kAllLogprobs}) {  // 2 * n are 6
    CAPTURE(asked);
    request.params.logprobs = asked;
    const RequestOutput output = engine.run(request);
    REQUIRE(output.outputs.size() == 3);
    const std::size_t count = asked == kAllLogprobs ? 263 : static_cast<std::size_t>(asked);
    for (std::size_t beam = 0; beam < 3; ++beam) {
      const CompletionOutput& found = output.outputs[beam];
      CHECK(found.token_ids == without.outputs[beam].token_ids);
      REQUIRE(found.logprobs.size() == found.token_ids.size());
      std::vector<TokenId> sequence = request.prompt_token_ids;
      for (std::size_t i = 0; i < found.token_ids.size(); ++i) {
        const auto ranked = rank_plainly(driver, sequence);
        const TokenLogprobs& rated = found.logprobs[i];
        CHECK(rated.token_id == found.token_ids[i]);
        CHECK(ranked[static_cast<std::size_t>(rated.rank) - 1].first == rated.token_id);
        REQUIRE(rated.top.size() == count);
        for (std::size_t k = 0; k < count; ++k) {
          CHECK(rated.top[k].token_id == ranked[k].first);
          CHECK(rated.top[k].rank == static_cast<std::int32_t>(k) + 1);
          CHECK(std::abs(static_cast<double>(rated.top[k].logprob) - ranked[k].second) < 1e-4);
        }
        sequence.push_back(found.token_ids[i]);
      }
    }
  }
  CHECK(engine.find_leak() == std::nullopt);
}

// --- counters and clocks ---

TEST_CASE("times follow each other, and counters add up") {
  for (const std::int32_t steps_ahead : {0, 1}) {
    TestEngine engine({.max_num_seqs = 4, .steps_ahead = steps_ahead});
    const std::vector<EngineRequest> requests = make_mixed_requests(28);
    std::int64_t num_prompt_tokens = 0;
    std::int64_t num_output_tokens = 0;
    const std::vector<RequestOutput> outputs = engine.run(requests);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const RequestTimings& timings = outputs[i].timings;
      CHECK(timings.arrived <= timings.first_scheduled);
      CHECK(timings.first_scheduled < timings.first_token);
      CHECK(timings.first_token <= timings.finished);
      CHECK(timings.finished <= engine->now());
      num_prompt_tokens += std::ssize(requests[i].prompt_token_ids);
      num_output_tokens += outputs[i].num_output_tokens;
      if (requests[i].params.use_beam_search) continue;
      std::int64_t num_returned = 0;
      for (const CompletionOutput& output : outputs[i].outputs) {
        num_returned += std::ssize(output.token_ids);
      }
      if (requests[i].params.best_of) {
        CHECK(outputs[i].num_output_tokens > num_returned);
      } else {
        CHECK(outputs[i].num_output_tokens == num_returned);
      }
    }
    const EngineStats stats = engine->stats();
    CHECK(stats.num_requests_finished == 28);
    CHECK(stats.num_requests_failed == 0);
    CHECK(stats.num_prompt_tokens == num_prompt_tokens);
    CHECK(stats.num_output_tokens >= num_output_tokens);  // beams that were given up count too
    CHECK(stats.num_sequences_running == 0);
    CHECK(stats.num_sequences_waiting == 0);
    CHECK(stats.kv_blocks_used == 0);
    CHECK(stats.kv_blocks_peak > 0);
    CHECK(stats.kv_blocks_peak <= stats.kv_blocks_total);
    CHECK(stats.num_padding_tokens == 0);
    CHECK((stats.num_wasted_tokens > 0) == (steps_ahead == 1));
  }
}

// --- how sequences end, and what may be chosen ---

TEST_CASE("allowed, biased and banned tokens") {
  TestEngine engine({.steps_ahead = 1});
  EngineRequest request = make_request(make_prompt(1, 12), 40);
  request.params.allowed_token_ids = {5, 9, 12};
  for (const TokenId id : run_ids(engine, request)) CHECK((id == 5 || id == 9 || id == 12));
  request.params.logit_bias = {{9, 100.0F}};
  CHECK(run_ids(engine, request) == std::vector<TokenId>(40, 9));
  request.params.logit_bias = {{9, 100.0F}, {5, 90.0F}};
  request.params.bad_words = {"jjj"};  // token 9 three times
  request.params.temperature = 0;
  const std::vector<TokenId> ids = run_ids(engine, request);
  CHECK(std::vector<TokenId>(ids.begin(), ids.begin() + 7) ==
        std::vector<TokenId>{9, 9, 5, 9, 9, 5, 9});
}

TEST_CASE("min_tokens keeps every end away, ignore_eos only the end of sequence") {
  TestEngine engine({.steps_ahead = 1});
  EngineRequest request = make_request(make_prompt(1, 12), 20, 0);
  request.params.ignore_eos = false;
  request.params.logit_bias = {{77, 100.0F}};  // an end of sequence
  RequestOutput output = engine.run(request);
  CHECK(output.outputs[0].token_ids == std::vector<TokenId>{77});
  CHECK(output.outputs[0].finish_reason == FinishReason::kStop);
  CHECK(output.outputs[0].stop_token_id == std::nullopt);
  CHECK(output.outputs[0].text.empty());

  request.params.min_tokens = 5;
  output = engine.run(request);
  CHECK(output.outputs[0].token_ids.size() == 6);
  CHECK(std::count(output.outputs[0].token_ids.begin(), output.outputs[0].token_ids.end(), 77) ==
        1);

  request.params.min_tokens = 0;
  request.params.ignore_eos = true;
  output = engine.run(request);
  CHECK(output.outputs[0].token_ids == std::vector<TokenId>(20, 77));
  CHECK(output.outputs[0].finish_reason == FinishReason::kLength);

  request.params.stop_token_ids = {77};
  output = engine.run(request);
  CHECK(output.outputs[0].token_ids == std::vector<TokenId>{77});
  CHECK(output.outputs[0].stop_token_id == 77);
}

TEST_CASE("a stop string ends the sample at its token and cuts the text before it") {
  EngineRequest request = make_request(make_prompt(1, 12), 40);
  request.params.seed = 11;
  TestEngine engine({.steps_ahead = 1});
  const CompletionOutput whole = engine.run(request).outputs[0];
  for (std::size_t begin = 3; begin < 40; begin += 7) {
    request.params.stop = {whole.text.substr(begin, 5)};
    const std::size_t place = whole.text.find(request.params.stop[0]);
    const CompletionOutput stopped = engine.run(request).outputs[0];
    CHECK(stopped.text == whole.text.substr(0, place));
    CHECK(stopped.stop_string == request.params.stop[0]);
    CHECK(std::equal(stopped.token_ids.begin(), stopped.token_ids.end(), whole.token_ids.begin()));
    std::string text;
    const auto tokenizer = testing::make_letter_tokenizer(263);
    for (const TokenId id : stopped.token_ids) text += tokenizer->token_bytes(id);
    CHECK(text.find(request.params.stop[0]) != text.npos);
    CHECK(text.size() <= place + 5 + 1);
  }
}

TEST_CASE("without max_tokens, until the context ends") {
  TestEngine engine({.max_model_len = 60});
  EngineRequest request = make_request(make_prompt(1, 50), 1);
  request.params.max_tokens.reset();
  CHECK(run_ids(engine, request).size() == 10);
  request.params.max_tokens = 1000;
  CHECK(run_ids(engine, request).size() == 10);
}

}  // namespace
}  // namespace llmrun
