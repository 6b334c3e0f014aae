#include "engine/output_processor.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "engine/core/utf8.h"
#include "tests/engine/top/fake_tokenizer.h"

namespace llmrun {
namespace {

// 0 eos (special), 1 second eos (special), 2 "Hello", 3 " world", 4 "!", 5 "S", 6 "TO", 7 "P now",
// 8 a special token that is no eos, 9 and 10 the two halves of "é", 11 a lone continuation byte.
const FakeTokenizer& tokenizer() {
  static const FakeTokenizer instance({{"<eos>", true},
                                       {"<eot>", true},
                                       {"Hello"},
                                       {" world"},
                                       {"!"},
                                       {"S"},
                                       {"TO"},
                                       {"P now"},
                                       {"<tool>", true},
                                       {"\xC3"},
                                       {"\xA9"},
                                       {"\xBF"}});
  return instance;
}

const std::vector<TokenId> kEos = {0, 1};

SampledToken sampled(TokenId id) {
  return {.token_id = id, .is_finite = true, .logprobs = {}};
}

// Feeds tokens until the sample ends; checks that what is certain of the text only grows.
CompletionOutput run(const SamplingParams& params, const std::vector<TokenId>& tokens,
                     std::int64_t max_output_tokens = 100, const Tokenizer* with = &tokenizer()) {
  OutputProcessor processor(with, params, kEos, 3, max_output_tokens);
  std::string before;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const FinishReason reason = processor.append(sampled(tokens[i]));
    CHECK(processor.text().starts_with(before));
    CHECK(is_valid_utf8(processor.text()));
    before = processor.text();
    if (reason == FinishReason::kNone) continue;
    CHECK(i + 1 == tokens.size());  // the test means to end here
    const CompletionOutput output = processor.take();
    CHECK(output.finish_reason == reason);
    CHECK(output.text == before);
    CHECK(output.index == 3);
    CHECK(output.token_ids == tokens);
    return output;
  }
  return processor.finish(FinishReason::kAbort);
}

TEST_CASE("an end-of-sequence token ends the sample: counted, not in the text") {
  const CompletionOutput output = run({}, {2, 3, 0});
  CHECK(output.text == "Hello world");
  CHECK(output.token_ids == std::vector<TokenId>{2, 3, 0});
  CHECK(output.finish_reason == FinishReason::kStop);
  CHECK(output.stop_string == "");
  CHECK_FALSE(output.stop_token_id.has_value());
  CHECK(run({}, {1}).text == "");
}

TEST_CASE("ignore_eos makes it a token like others") {
  SamplingParams params;
  params.ignore_eos = true;
  const CompletionOutput output = run(params, {2, 0, 3, 1, 4}, 5);
  CHECK(output.text == "Hello world!");
  CHECK(output.finish_reason == FinishReason::kLength);
  params.skip_special_tokens = false;
  CHECK(run(params, {2, 0, 3}, 3).text == "Hello<eos> world");
  params.stop_token_ids = {0};  // asked for by name: it stops all the same
  CHECK(run(params, {2, 0}).stop_token_id == 0);
}

TEST_CASE("max_tokens ends a sample with its whole text") {
  const CompletionOutput output = run({}, {2, 3}, 2);
  CHECK(output.text == "Hello world");
  CHECK(output.finish_reason == FinishReason::kLength);
}

TEST_CASE("an ending at the last token is a stop, not a length") {
  CHECK(run({}, {2, 0}, 2).finish_reason == FinishReason::kStop);
  SamplingParams params;
  params.stop = {"ld"};
  CHECK(run(params, {2, 3}, 2).finish_reason == FinishReason::kStop);
}

TEST_CASE("stop tokens are in token_ids, and in the text only when asked for") {
  SamplingParams params;
  params.stop_token_ids = {4, 8};
  CompletionOutput output = run(params, {2, 4});
  CHECK(output.text == "Hello");
  CHECK(output.finish_reason == FinishReason::kStop);
  CHECK(output.stop_token_id == 4);
  CHECK(run(params, {2, 8}).stop_token_id == 8);
  CHECK(run(params, {2, 8}).text == "Hello");
  params.include_stop_str_in_output = true;
  CHECK(run(params, {2, 4}).text == "Hello!");
  CHECK(run(params, {2, 8}).text == "Hello");  // special, and special tokens are skipped
  CHECK(run(params, {2, 0}).text == "Hello");
  params.skip_special_tokens = false;
  CHECK(run(params, {2, 8}).text == "Hello<tool>");
  CHECK(run(params, {2, 0}).text == "Hello<eos>");
  params.stop_token_ids = {0};  // eos comes first, as in vLLM
  CHECK_FALSE(run(params, {2, 0}).stop_token_id.has_value());
}

TEST_CASE("a stop string cuts the text, not the tokens") {
  SamplingParams params;
  params.stop = {"STOP"};
  CompletionOutput output = run(params, {2, 5, 6, 7});
  CHECK(output.text == "Hello");
  CHECK(output.stop_string == "STOP");
  CHECK(output.finish_reason == FinishReason::kStop);
  CHECK_FALSE(output.stop_token_id.has_value());
  CHECK(output.token_ids.size() == 4);
  params.include_stop_str_in_output = true;
  CHECK(run(params, {2, 5, 6, 7}).text == "HelloSTOP");
  params.stop = {"wor"};  // inside one token
  params.include_stop_str_in_output = false;
  CHECK(run(params, {2, 3}).text == "Hello ");
}

TEST_CASE("what was held back for a stop string comes out at the end") {
  SamplingParams params;
  params.stop = {"STOP"};
  CHECK(run(params, {2, 5, 6}, 3).text == "HelloSTO");
  CHECK(run(params, {2, 5, 6, 0}).text == "HelloSTO");
  CHECK(run(params, {2, 5, 6}).text == "HelloSTO");  // aborted
  CHECK(run(params, {2, 5, 6}).finish_reason == FinishReason::kAbort);
}

TEST_CASE("nothing stops a sample before min_tokens") {
  SamplingParams params;
  params.min_tokens = 3;
  params.stop_token_ids = {4};
  params.stop = {"Hello"};
  // The sampler never gives an eos or stop token before; if it did, it would be text.
  CHECK(run(params, {2, 0, 4, 4}).text == "Hello!");
  CHECK(run(params, {2, 2, 2, 2}).text == "HelloHelloHello");
  CHECK(run(params, {2, 3, 4, 0}).finish_reason == FinishReason::kStop);
  CHECK(run(params, {2, 3}, 2).finish_reason == FinishReason::kLength);  // the context ends
}

TEST_CASE("characters that tokens cut are joined, and replaced when they never end") {
  CHECK(run({}, {2, 9, 10, 0}).text == "Hello\xC3\xA9");
  CHECK(run({}, {2, 9, 0}).text == "Hello\xEF\xBF\xBD");
  CHECK(run({}, {2, 9}, 2).text == "Hello\xEF\xBF\xBD");
  CHECK(run({}, {11, 2, 0}).text == "\xEF\xBF\xBDHello");
  SamplingParams params;
  params.stop = {"\xC3\xA9"};
  CHECK(run(params, {2, 9, 10}).text == "Hello");
}

TEST_CASE("a stop string made of byte tokens ends the sample at once") {
  const FakeTokenizer llama({{"</s>", true},
                             {"<pad>", true},
                             {" a"},
                             {"b"},
                             {"\n", false, true},
                             {"\xE2", false, true},
                             {"\x82", false, true},
                             {"\xAC", false, true}},
                            {.byte_fallback = true, .leading_space = LeadingSpace::kDropOne});
  SamplingParams params;
  params.stop = {"\n"};
  CHECK(run(params, {2, 4}, 100, &llama).text == " a");
  params.stop = {"\n\n", "\xE2\x82\xAC"};
  CHECK(run(params, {2, 4, 4}, 100, &llama).text == " a");
  CHECK(run(params, {2, 4, 5, 6, 7}, 100, &llama).text == " a\n");
  CHECK(run(params, {2, 4, 3, 4, 2, 0}, 100, &llama).text == " a\nb\n a");
  params.include_stop_str_in_output = true;
  CHECK(run(params, {2, 4, 4}, 100, &llama).text == " a\n\n");
  params.min_tokens = 3;
  CHECK(run(params, {4, 4, 4, 4}, 100, &llama).finish_reason == FinishReason::kStop);
  // A run that is no text is not searched, and one U+FFFD stands for each of its bytes.
  CHECK(run({}, {2, 5, 6, 0}, 100, &llama).text == " a\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_CASE("without a tokenizer, or without detokenize, there are only tokens") {
  SamplingParams params;
  params.stop_token_ids = {4};
  CHECK(run(params, {2, 3, 4}, 100, nullptr).text == "");
  CHECK(run(params, {2, 3, 4}, 100, nullptr).stop_token_id == 4);
  params.detokenize = false;
  const CompletionOutput output = run(params, {2, 3, 0});
  CHECK(output.text == "");
  CHECK(output.token_ids.size() == 3);
}

TEST_CASE("log-probabilities are kept for each token, and added up") {
  SamplingParams params;
  params.logprobs = 1;
  OutputProcessor processor(&tokenizer(), params, kEos, 0, 100);
  processor.append({.token_id = 2, .is_finite = true, .logprobs = {{2, -0.5F, 2}, {3, -0.25F, 1}}});
  processor.append({.token_id = 0, .is_finite = true, .logprobs = {{0, -1.5F, 1}, {0, -1.5F, 1}}});
  const CompletionOutput output = processor.take();
  CHECK(output.has_cumulative_logprob);
  CHECK(output.cumulative_logprob == -2.0);
  REQUIRE(output.logprobs.size() == 2);
  CHECK(output.logprobs[0].token_id == 2);
  CHECK(output.logprobs[0].logprob == -0.5F);
  CHECK(output.logprobs[0].rank == 2);
  REQUIRE(output.logprobs[0].top.size() == 1);
  CHECK(output.logprobs[0].top[0].token_id == 3);
  CHECK(output.logprobs[0].top[0].logprob == -0.25F);
  CHECK(output.logprobs[0].top[0].rank == 1);

  // best_of needs the sum but nobody asked for the list.
  const SamplingParams plain;
  OutputProcessor ranked(&tokenizer(), plain, kEos, 0, 1);
  ranked.append({.token_id = 2, .is_finite = true, .logprobs = {{2, -0.5F, 2}}});
  const CompletionOutput sum = ranked.take();
  CHECK(sum.has_cumulative_logprob);
  CHECK(sum.cumulative_logprob == -0.5);
  CHECK(sum.logprobs.empty());
  CHECK_FALSE(run({}, {0}).has_cumulative_logprob);
}

TEST_CASE("the end is the end") {
  const SamplingParams params;  // outlives the processor
  OutputProcessor processor(&tokenizer(), params, kEos, 0, 100);
  CHECK_THROWS_AS(processor.take(), Error);
  CHECK(processor.append(sampled(0)) == FinishReason::kStop);
  CHECK_THROWS_AS(processor.append(sampled(2)), Error);
  CHECK_THROWS_AS(processor.finish(FinishReason::kAbort), Error);
}

TEST_CASE("random tokens: the text is the decoded text, cut at the first stop string") {
  const std::vector<std::string> choices = {"STOP", "o", "\xC3\xA9", "!S", "d!"};
  std::uint64_t state = 7;
  const auto below = [&](std::uint64_t bound) {
    state = mix64(state);
    return static_cast<std::size_t>(state % bound);
  };
  for (int trial = 0; trial < 20'000; ++trial) {
    SamplingParams params;
    for (std::size_t i = below(3); i > 0; --i)
      params.stop.push_back(choices[below(choices.size())]);
    OutputProcessor processor(&tokenizer(), params, kEos, 0, 12);
    std::vector<TokenId> tokens;
    FinishReason reason = FinishReason::kNone;
    while (reason == FinishReason::kNone) {
      tokens.push_back(below(10) == 0 ? 0 : static_cast<TokenId>(2 + below(10)));
      reason = processor.append(sampled(tokens.back()));
    }
    const CompletionOutput output = processor.take();
    CHECK(output.token_ids == tokens);
    // The text of all tokens before an eos, decoded at once.
    const std::string whole = tokenizer().decode(tokens, true);
    if (output.stop_string.empty()) {
      CHECK(output.text == whole);
      CHECK(reason == (tokens.back() == 0 ? FinishReason::kStop : FinishReason::kLength));
      for (const std::string& stop : params.stop) CHECK(whole.find(stop) == whole.npos);
    } else {
      CHECK(reason == FinishReason::kStop);
      CHECK(whole.starts_with(output.text + output.stop_string));
    }
  }
}

}  // namespace
}  // namespace llmrun
