#include "engine/sequence/sampling_params.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/json.h"

namespace llmrun {
namespace {

constexpr SamplingLimits kLimits{.vocab_size = 1000};

nlohmann::json parse(const std::string& text) {
  return nlohmann::json::parse(text);
}

// What set_parameter says against the value; "" when it takes it.
std::string refusal(const std::string& name, const std::string& json) {
  SamplingParams params;
  try {
    return set_parameter(params, name, parse(json)) ? "" : "unknown name";
  } catch (const std::invalid_argument& error) {
    CHECK(params == SamplingParams());
    return error.what();
  }
}

SamplingParams with(const std::string& name, const std::string& json) {
  SamplingParams params;
  CHECK(set_parameter(params, name, parse(json)));
  return params;
}

std::string problem(const SamplingParams& params, const SamplingLimits& limits = kLimits) {
  return validate(params, limits).value_or("");
}

TEST_CASE("every parameter is read, by vLLM's name") {
  CHECK(with("n", "3").n == 3);
  CHECK(with("best_of", "4").best_of == 4);
  CHECK(with("temperature", "0.5").temperature == 0.5);
  CHECK(with("temperature", "0").temperature == 0.0);
  CHECK(with("top_p", "1").top_p == 1.0);
  CHECK(with("top_k", "-1").top_k == -1);
  CHECK(with("min_p", "1e-2").min_p == 0.01);
  CHECK(with("presence_penalty", "-2").presence_penalty == -2.0);
  CHECK(with("frequency_penalty", "0.25").frequency_penalty == 0.25);
  CHECK(with("repetition_penalty", "1.1").repetition_penalty == 1.1);
  CHECK(with("max_tokens", "2147483647").max_tokens == 2147483647);
  CHECK(with("max_completion_tokens", "17").max_tokens == 17);
  CHECK(with("min_tokens", "5").min_tokens == 5);
  CHECK(with("ignore_eos", "true").ignore_eos);
  CHECK(with("stop", R"("a")").stop == std::vector<std::string>{"a"});
  CHECK(with("stop", R"(["a", "\u00e9"])").stop == std::vector<std::string>{"a", "\xC3\xA9"});
  CHECK(with("stop", "[]").stop.empty());
  CHECK(with("stop_token_ids", "[7, 0]").stop_token_ids == std::vector<TokenId>{7, 0});
  CHECK(with("include_stop_str_in_output", "true").include_stop_str_in_output);
  CHECK(with("allowed_token_ids", "[3]").allowed_token_ids == std::vector<TokenId>{3});
  CHECK(with("bad_words", R"(["x", "y z"])").bad_words == std::vector<std::string>{"x", "y z"});
  CHECK(with("logprobs", "0").logprobs == 0);
  CHECK(with("prompt_logprobs", "2").prompt_logprobs == 2);
  CHECK_FALSE(with("skip_special_tokens", "false").skip_special_tokens);
  CHECK_FALSE(with("detokenize", "false").detokenize);
  CHECK(with("use_beam_search", "true").use_beam_search);
  CHECK(with("length_penalty", "-1.5").length_penalty == -1.5);
  CHECK(with("early_stopping", "true").early_stopping);

  SamplingParams params;
  CHECK_FALSE(set_parameter(params, "Temperature", parse("1")));
  CHECK_FALSE(set_parameter(params, "", parse("1")));
}

TEST_CASE("seed 0 is a seed, and seeds have 64 bits") {
  CHECK(with("seed", "0").seed == 0);
  CHECK(with("seed", "9223372036854775807").seed == 9223372036854775807ULL);
  CHECK(with("seed", "18446744073709551615").seed == ~0ULL);
  CHECK_FALSE(with("seed", "null").seed.has_value());
  CHECK(refusal("seed", "18446744073709551616") != "");
  CHECK(refusal("seed", "-1") != "");
}

TEST_CASE("null leaves a parameter as it is") {
  SamplingParams params;
  params.stop = {"x"};
  params.temperature = 0.25;
  for (const std::string name :
       {"stop", "temperature", "seed", "allowed_token_ids", "logit_bias"}) {
    CHECK(set_parameter(params, name, nlohmann::json()));
  }
  CHECK(params.stop == std::vector<std::string>{"x"});
  CHECK(params.temperature == 0.25);
}

TEST_CASE("integers are integer tokens in range and never wrap") {
  for (const std::string name : {"n", "best_of", "top_k", "max_tokens", "max_completion_tokens",
                                 "min_tokens", "logprobs", "prompt_logprobs", "seed"}) {
    CAPTURE(name);
    for (const std::string json : {"1.9", "1.0", "1e3", "-2", "-2147483649", "1e400", "\"5\"",
                                   "true", "[1]", "{}", "99999999999999999999"}) {
      CAPTURE(json);
      if (json == "1e400") {
        CHECK_THROWS(parse(json));  // refused by the parser already
        continue;
      }
      const std::string message = refusal(name, json);
      CHECK(message.find(name) == 0);
      CHECK(message.find("expected an integer from ") != std::string::npos);
    }
    if (name != "seed") {
      CHECK(refusal(name, "2147483648") != "");
      CHECK(refusal(name, "4294967297") != "");  // would wrap to 1
      CHECK(refusal(name, "18446744073709551615") != "");
    }
  }
  CHECK(refusal("n", "1.9") == "n: expected an integer from 1 to 2147483647, found 1.9");
  for (const std::string name : {"n", "best_of", "max_tokens", "max_completion_tokens"}) {
    CHECK(refusal(name, "0") == name + ": expected an integer from 1 to 2147483647, found 0");
  }
  CHECK(refusal("min_tokens", "0") == "");
  for (const std::string name : {"logprobs", "prompt_logprobs", "top_k"}) {
    CHECK(refusal(name, "-1") == "");
    CHECK(refusal(name, "-2") == name + ": expected an integer from -1 to 2147483647, found -2");
  }
}

TEST_CASE("numbers are finite numbers") {
  SamplingParams params;
  for (const std::string name : {"temperature", "top_p", "min_p", "presence_penalty",
                                 "frequency_penalty", "repetition_penalty", "length_penalty"}) {
    CAPTURE(name);
    for (const double bad : {HUGE_VAL, -HUGE_VAL, std::nan("")}) {
      CHECK_THROWS_AS(set_parameter(params, name, nlohmann::json(bad)), std::invalid_argument);
    }
    for (const std::string json : {"\"0.5\"", "true", "[0.5]", "{}"})
      CHECK(refusal(name, json) != "");
  }
  CHECK(refusal("temperature", "\"hot\"") ==
        "temperature: expected a finite number, found \"hot\"");
}

TEST_CASE("booleans, strings and lists have no other spelling") {
  for (const std::string name : {"ignore_eos", "include_stop_str_in_output", "skip_special_tokens",
                                 "detokenize", "use_beam_search", "early_stopping"}) {
    for (const std::string json : {"1", "0", "\"true\"", "[]"}) CHECK(refusal(name, json) != "");
  }
  for (const std::string name : {"stop", "bad_words"}) {
    for (const std::string json : {"1", "[1]", "[\"a\", null]", "{}", "[[\"a\"]]"}) {
      CHECK(refusal(name, json) != "");
    }
  }
  for (const std::string name : {"stop_token_ids", "allowed_token_ids"}) {
    for (const std::string json :
         {"1", "\"1\"", "[1.5]", "[-1]", "[\"1\"]", "[4294967296]", "[null]"}) {
      CHECK(refusal(name, json) != "");
    }
  }
  CHECK(refusal("allowed_token_ids", "[]") != "");
}

TEST_CASE("logit_bias is an object or a list of pairs") {
  using Biases = std::vector<std::pair<TokenId, float>>;
  const Biases expected = {{9, -100.0F}, {10, 0.5F}};
  CHECK(with("logit_bias", R"({"10": 0.5, "9": -100})").logit_bias == expected);
  CHECK(with("logit_bias", "[[10, 0.5], [9, -100]]").logit_bias == expected);
  CHECK(with("logit_bias", "{}").logit_bias.empty());
  const Biases clamped = {{1, 100.0F}, {2, -100.0F}, {3, 100.0F}};
  CHECK(with("logit_bias", R"({"1": 101, "2": -1e300, "3": 100})").logit_bias == clamped);
  for (const std::string json :
       {"[[1]]", "[[1, 2, 3]]", "[1, 2]", "[[1.5, 2]]", "[[-1, 2]]", "[[1, \"2\"]]",
        "[[1, 1], [1, 2]]", "5", R"({"x": 1})", R"({"": 1})", R"({"-1": 1})", R"({"1.5": 1})",
        R"({"01": 1})", R"({" 1": 1})", R"({"1 ": 1})", R"({"+1": 1})", R"({"4294967297": 1})",
        R"({"1": null})", R"({"1": "2"})"}) {
    CAPTURE(json);
    CHECK(refusal("logit_bias", json).find("logit_bias") == 0);
  }
}

TEST_CASE("chat logprobs: a flag and a count") {
  const auto read = [](const char* logprobs, const char* top) {
    SamplingParams params;
    set_chat_logprobs(params, parse(logprobs), parse(top));
    return params.logprobs.value_or(-1);
  };
  CHECK(read("null", "null") == -1);
  CHECK(read("false", "null") == -1);
  CHECK(read("false", "0") == -1);
  CHECK(read("true", "null") == 0);
  CHECK(read("true", "0") == 0);
  CHECK(read("true", "20") == 20);
  for (const auto& [logprobs, top] :
       std::vector<std::pair<const char*, const char*>>{{"true", "21"},
                                                        {"true", "-1"},
                                                        {"true", "1.5"},
                                                        {"null", "3"},
                                                        {"false", "3"},
                                                        {"1", "null"},
                                                        {"true", "true"}}) {
    CAPTURE(logprobs);
    CAPTURE(top);
    CHECK_THROWS_AS(read(logprobs, top), std::invalid_argument);
  }
}

TEST_CASE("chat logprobs: false takes back what was set before") {
  SamplingParams params;
  params.logprobs = 5;
  set_chat_logprobs(params, parse("null"), parse("null"));
  CHECK(params.logprobs == 5);
  set_chat_logprobs(params, parse("false"), parse("null"));
  CHECK(params.logprobs == std::nullopt);
}

TEST_CASE("defaults and the ends of every range are valid") {
  CHECK(problem({}) == "");
  CHECK(problem({}, {}) == "");
  SamplingParams params;
  params.n = 128;
  params.best_of = 128;
  params.temperature = 100;
  params.top_p = 1e-300;
  params.top_k = -1;
  params.min_p = 1;
  params.presence_penalty = -2;
  params.frequency_penalty = 2;
  params.repetition_penalty = 100;
  params.max_tokens = 7812;
  params.min_tokens = 7812;
  params.stop = std::vector<std::string>(4, std::string(1024, 'x'));
  params.stop_token_ids = {0, 999};
  params.logit_bias = {{0, -100.0F}, {999, 100.0F}};
  params.allowed_token_ids = {999};
  params.bad_words = {"x"};
  params.logprobs = 100;
  params.prompt_logprobs = 0;
  CHECK(problem(params) == "");
}

TEST_CASE("what is out of range is named, with its range and its value") {
  const auto check = [](auto SamplingParams::*field, auto value, const std::string& expected) {
    SamplingParams params;
    params.*field = value;
    CHECK(problem(params) == expected);
  };
  using P = SamplingParams;
  check(&P::n, 0, "n must be between 1 and 128, got 0");
  check(&P::n, 129, "n must be between 1 and 128, got 129");
  check(&P::best_of, 129, "best_of must be between 1 and 128, got 129");
  check(&P::best_of, 0, "best_of must be between 1 and 128, got 0");
  check(&P::temperature, -1.0, "temperature must be between 0 and 100, got -1");
  check(&P::temperature, 100.5, "temperature must be between 0 and 100, got 100.5");
  check(&P::temperature, std::nan(""), "temperature must be between 0 and 100, got nan");
  check(&P::top_p, 0.0, "top_p must be greater than 0 and at most 1, got 0");
  check(&P::top_p, 1.01, "top_p must be greater than 0 and at most 1, got 1.01");
  check(&P::top_p, std::nan(""), "top_p must be greater than 0 and at most 1, got nan");
  check(&P::top_k, -2, "top_k must be -1, 0 or a count, got -2");
  check(&P::min_p, 1.5, "min_p must be between 0 and 1, got 1.5");
  check(&P::presence_penalty, 2.5, "presence_penalty must be between -2 and 2, got 2.5");
  check(&P::frequency_penalty, -2.5, "frequency_penalty must be between -2 and 2, got -2.5");
  check(&P::repetition_penalty, 0.0, "repetition_penalty must be between 0.01 and 100, got 0");
  check(&P::length_penalty, 11.0, "length_penalty must be between -10 and 10, got 11");
  check(&P::max_tokens, 0, "max_tokens must be at least 1, got 0");
  check(&P::min_tokens, -1, "min_tokens must be at least 0, got -1");
  check(&P::max_tokens, 1'000'001,
        "n times max_tokens must be at most 1000000, got 1 times 1000001");
  check(&P::logprobs, 101, "logprobs must be at most 100, got 101; raise --max-logprobs");
  check(&P::logprobs, -2, "logprobs must be a count or -1 for all of the vocabulary, got -2");
  check(&P::prompt_logprobs, -1,
        "prompt_logprobs must be at most 100, got -1 for all of the vocabulary; raise "
        "--max-logprobs");
  check(&P::stop_token_ids, std::vector<TokenId>{1000},
        "stop_token_ids must hold token ids below the vocabulary size 1000, got 1000");
  check(&P::allowed_token_ids, std::vector<TokenId>{-1},
        "allowed_token_ids must hold token ids of at least 0, got -1");
  check(&P::logit_bias, std::vector<std::pair<TokenId, float>>{{1000, 1.0F}},
        "logit_bias must hold token ids below the vocabulary size 1000, got 1000");
  check(&P::logit_bias, std::vector<std::pair<TokenId, float>>{{1, std::nanf("")}},
        "logit_bias must be between -100 and 100, got nan");
  check(&P::logit_bias, std::vector<std::pair<TokenId, float>>(1025),
        "logit_bias must have at most 1024 entries, got 1025");
  check(&P::stop, std::vector<std::string>{""}, "stop must not hold an empty string");
  check(&P::stop, std::vector<std::string>(17, "a"), "stop must have at most 16 strings, got 17");
  check(&P::stop, std::vector<std::string>{std::string(1025, 'a')},
        "stop must hold strings of at most 1024 bytes, got one of 1025");
  check(&P::stop, std::vector<std::string>(5, std::string(1000, 'a')),
        "stop must have at most 4096 bytes in all, got 5000");
  check(&P::stop, std::vector<std::string>{"\xFF"}, "stop must hold valid UTF-8");
  check(&P::bad_words, std::vector<std::string>{""}, "bad_words must not hold an empty string");
  check(&P::bad_words, std::vector<std::string>(1025, "a"),
        "bad_words must have at most 1024 strings, got 1025");
}

TEST_CASE("max_logprobs limits how many log-probabilities a position may have") {
  const auto is_valid = [](std::int32_t asked, const SamplingLimits& limits) {
    SamplingParams of_output;
    of_output.logprobs = asked;
    SamplingParams of_prompt;
    of_prompt.prompt_logprobs = asked;
    CHECK(problem(of_output, limits).empty() == problem(of_prompt, limits).empty());
    return problem(of_output, limits).empty();
  };
  CHECK(is_valid(20, {.max_logprobs = 20}));
  CHECK_FALSE(is_valid(21, {.max_logprobs = 20}));
  CHECK_FALSE(is_valid(1, {.max_logprobs = 0}));
  CHECK(is_valid(0, {.max_logprobs = 0}));
  // All are as many as the vocabulary has; vLLM compares that with its limit too.
  CHECK(is_valid(-1, {.vocab_size = 20, .max_logprobs = 20}));
  CHECK_FALSE(is_valid(-1, {.vocab_size = 21, .max_logprobs = 20}));
  CHECK_FALSE(is_valid(-1, {.max_logprobs = 20}));  // who knows how many
  CHECK(is_valid(-1, {.vocab_size = 152'064, .max_logprobs = kAllLogprobs}));
  CHECK(is_valid(5000, {.vocab_size = 152'064, .max_logprobs = kAllLogprobs}));
  CHECK_FALSE(is_valid(-2, {.max_logprobs = kAllLogprobs}));
}

TEST_CASE("parameters that contradict each other are refused") {
  SamplingParams params;
  params.n = 4;
  params.best_of = 3;
  CHECK(problem(params) == "best_of must be at least n (4), got 3");
  params = {};
  params.min_tokens = 6;
  params.max_tokens = 5;
  CHECK(problem(params) == "min_tokens must be at most max_tokens (5), got 6");
  params = {};
  params.n = 2;
  params.temperature = 0;
  CHECK(problem(params) ==
        "n must be 1 when temperature is 0, got 2: all samples would be the same");
  params.use_beam_search = true;
  CHECK(problem(params) == "");
  params.top_k = 5;
  CHECK(problem(params) == "top_k cannot be used with use_beam_search");
  params = {};
  params.use_beam_search = true;
  CHECK(problem(params) == "temperature must be 0 with use_beam_search, got 1");
  params = {};
  params.n = 100;
  params.max_tokens = 10'001;
  CHECK(problem(params) == "n times max_tokens must be at most 1000000, got 100 times 10001");
  params = {};
  params.stop = {"x"};
  params.detokenize = false;
  CHECK(problem(params).find("stop needs detokenize") == 0);
}

TEST_CASE("to_json writes what differs from the defaults, in the order of the struct") {
  CHECK(dump_json(to_json({})) == "{}");
  SamplingParams params;
  params.early_stopping = true;
  params.stop = {"\n", "END"};
  params.seed = ~0ULL;
  params.temperature = 0.7;
  params.n = 2;
  params.logit_bias = {{2, 0.1F}, {10, -5.0F}};
  CHECK(dump_json(to_json(params)) ==
        R"({"n":2,"temperature":0.7,"seed":18446744073709551615,"stop":["\n","END"],)"
        R"("logit_bias":{"2":0.1,"10":-5.0},"early_stopping":true})");
}

TEST_CASE("to_json and set_parameter are inverse") {
  std::mt19937_64 generator(4);
  const auto number = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(generator);
  };
  const auto count = [&](std::int32_t max) {
    return static_cast<std::int32_t>(generator() % static_cast<std::uint64_t>(max + 1));
  };
  for (int trial = 0; trial < 500; ++trial) {
    SamplingParams params;
    const auto maybe = [&] { return generator() % 2 == 0; };
    if (maybe()) params.n = 1 + count(5);
    if (maybe()) params.best_of = 6 + count(5);
    if (maybe()) params.temperature = number(0, 2);
    if (maybe()) params.top_p = number(0.1, 1);
    if (maybe()) params.top_k = count(50) - 1;
    if (maybe()) params.min_p = number(0, 1);
    if (maybe()) params.presence_penalty = number(-2, 2);
    if (maybe()) params.frequency_penalty = number(-2, 2);
    if (maybe()) params.repetition_penalty = number(1, 2);
    if (maybe()) params.seed = generator();
    if (maybe()) params.max_tokens = 1 + count(1000);
    if (maybe()) params.min_tokens = count(1);
    params.ignore_eos = maybe();
    if (maybe()) params.stop = {"a", "\xE2\x82\xAC", "\"\\\n"};
    if (maybe()) params.stop_token_ids = {count(10), count(10)};
    params.include_stop_str_in_output = maybe();
    if (maybe()) params.logit_bias = {{3, static_cast<float>(number(-100, 100))}, {12, 0.3F}};
    if (maybe()) params.allowed_token_ids = {count(10)};
    if (maybe()) params.bad_words = {"x"};
    if (maybe()) params.logprobs = count(5);
    if (maybe()) params.prompt_logprobs = count(5);
    params.skip_special_tokens = maybe();
    params.detokenize = maybe();
    params.use_beam_search = maybe();
    if (maybe()) params.length_penalty = number(-1, 1);
    params.early_stopping = maybe();

    const nlohmann::json json = nlohmann::json::parse(dump_json(to_json(params)));
    SamplingParams copy;
    for (const auto& [name, value] : json.items()) CHECK(set_parameter(copy, name, value));
    CHECK(copy == params);
  }
}

}  // namespace
}  // namespace llmrun
