#include "tools/input/request_fields.h"

#include <string>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

TEST_CASE("names that are probably misspelt are told, columns of the user's are not") {
  const auto suggestion = [](const char* name) { return std::string(suggest_field(name)); };
  CHECK(suggestion("max_token") == "max_tokens");
  CHECK(suggestion("maxTokens") == "max_tokens");
  CHECK(suggestion("Max-Tokens") == "max_tokens");
  CHECK(suggestion("max_new_tokens") == "max_tokens");
  CHECK(suggestion("temparature") == "temperature");
  CHECK(suggestion("TEMPERATURE") == "temperature");
  CHECK(suggestion("topk") == "top_k");
  CHECK(suggestion("top-p") == "top_p");
  CHECK(suggestion("prompts") == "prompt");
  CHECK(suggestion("message") == "messages");
  CHECK(suggestion("stop_token_id") == "stop_token_ids");
  CHECK(suggestion("logprob") == "logprobs");
  CHECK(suggestion("repitition_penalty") == "repetition_penalty");
  for (const char* name :
       {"answer", "question", "test", "label", "source", "category", "topic", "split",
        "level",  "name",     "type", "stage", "url",    "idx",      "input", "output",
        "system", "score",    "",     "a",     "n_shot", "reference"}) {
    CAPTURE(name);
    CHECK(suggestion(name) == "");
  }
  CHECK(suggestion(std::string(1'000'000, 'x').c_str()) == "");
}

TEST_CASE("every sampling parameter has a name that a row can use") {
  // What to_json can write, parse_request must take.
  SamplingParams params;
  params.n = 2;
  params.best_of = 3;
  params.temperature = 0.5;
  params.top_p = 0.5;
  params.top_k = 5;
  params.min_p = 0.5;
  params.presence_penalty = 0.5;
  params.frequency_penalty = 0.5;
  params.repetition_penalty = 1.5;
  params.seed = 7;
  params.max_tokens = 9;
  params.min_tokens = 1;
  params.ignore_eos = true;
  params.stop = {"a", "b"};
  params.stop_token_ids = {5};
  params.include_stop_str_in_output = true;
  params.logit_bias = {{3, 0.5F}};
  params.allowed_token_ids = {3, 4};
  params.bad_words = {"x"};
  params.logprobs = 2;
  params.prompt_logprobs = 1;
  params.skip_special_tokens = false;
  nlohmann::ordered_json row = to_json(params);
  row["prompt"] = "a";
  InputItem item;
  IgnoredFields ignored;
  const auto error = parse_request(row, {}, item, ignored);
  if (error) FAIL(error->message);
  CHECK(item.sampling == params);
  CHECK(ignored.count == 0);
}

}  // namespace
}  // namespace llmrun
