#include "tools/engine_options.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

SamplingParams sampling_of(std::vector<std::string> arguments) {
  CLI::App app;
  SamplingOptions options;
  add_sampling_options(app, options);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  app.parse(arguments);
  SamplingParams params;
  apply(options, params);
  return params;
}

TEST_CASE("flags of token ids take lists, and may be given again") {
  using Ids = std::vector<TokenId>;
  CHECK(sampling_of({"--allowed-token-ids", "15,27,3"}).allowed_token_ids == Ids{15, 27, 3});
  CHECK(sampling_of({"--allowed-token-ids", "15", "--allowed-token-ids", "27"}).allowed_token_ids ==
        Ids{15, 27});
  CHECK(sampling_of({"--stop-token-ids", "2,13"}).stop_token_ids == Ids{2, 13});
  for (const char* bad : {"x", "1.5", "-1", "1;2", "4294967297"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(sampling_of({"--allowed-token-ids", bad}), Error);
  }
}

TEST_CASE("--logit-bias takes pairs of id and bias") {
  using Biases = std::vector<std::pair<TokenId, float>>;
  const Biases expected = {{15, -100.0F}, {27, 0.5F}};
  CHECK(sampling_of({"--logit-bias", "15:-100,27:0.5"}).logit_bias == expected);
  CHECK(sampling_of({"--logit-bias", "27:0.5", "--logit-bias", "15:-250"}).logit_bias == expected);
  for (const char* bad : {"15", "15:", ":5", "a:5", "15:a", "15:1:2", "15=1", "1:2,1:3", "-1:2"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(sampling_of({"--logit-bias", bad}), Error);
  }
}

TEST_CASE("texts with commas are one text") {
  CHECK(sampling_of({"--stop", "a,b", "--bad-words", "c,d"}).stop ==
        std::vector<std::string>{"a,b"});
}

TEST_CASE("--early-stopping") {
  CHECK(sampling_of({"--early-stopping"}).early_stopping);
  CHECK_FALSE(sampling_of({}).early_stopping);
}

}  // namespace
}  // namespace llmrun
