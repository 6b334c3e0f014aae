#include "tools/input/request_fields.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

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

TEST_CASE("return_token_ids is a row's own, whatever the run says") {
  const auto read = [](const char* text) {
    InputItem item;
    IgnoredFields ignored;
    const auto error = parse_request(nlohmann::ordered_json::parse(text), {}, item, ignored);
    CHECK(ignored.count == 0);
    CHECK(error.has_value() == !!std::strstr(text, "yes"));
    if (error) CHECK(error->message == "return_token_ids: expected true or false, found \"yes\"");
    return item.return_token_ids;
  };
  CHECK(read(R"({"prompt": "a", "return_token_ids": true})") == true);
  CHECK(read(R"({"prompt": "a", "return_token_ids": false})") == false);
  CHECK(read(R"({"prompt": "a", "return_token_ids": null})") == std::nullopt);
  CHECK(read(R"({"prompt": "a"})") == std::nullopt);
  CHECK(read(R"({"prompt": "a", "return_token_ids": "yes"})") == std::nullopt);
  CHECK(suggest_field("return_tokens_ids") == "return_token_ids");
}

TEST_CASE("rows with messages take log-probabilities as chats spell them") {
  RequestRules rules;
  rules.defaults.logprobs = 7;
  const auto read = [&](const std::string& prompt, const std::string& fields) -> std::string {
    InputItem item;
    IgnoredFields ignored;
    const auto error = parse_request(
        nlohmann::ordered_json::parse("{" + fields + (fields.empty() ? "" : ",") + prompt + "}"),
        rules, item, ignored);
    if (error) return error->message;
    return item.sampling.logprobs ? std::to_string(*item.sampling.logprobs) : "none";
  };
  const std::string chat = R"("messages": [{"role": "user", "content": "x"}])";
  CHECK(read(chat, "") == "7");
  CHECK(read(chat, R"("logprobs": 3)") == "3");
  CHECK(read(chat, R"("logprobs": true)") == "0");
  CHECK(read(chat, R"("logprobs": true, "top_logprobs": 4)") == "4");
  CHECK(read(chat, R"("top_logprobs": 4, "logprobs": true)") == "4");
  CHECK(read(chat, R"("logprobs": false)") == "none");
  CHECK(read(chat, R"("logprobs": false, "top_logprobs": 0)") == "none");
  CHECK(read(chat, R"("top_logprobs": 4)") == "top_logprobs: needs \"logprobs\": true");
  CHECK(read(chat, R"("logprobs": 3, "top_logprobs": 4)") ==
        "logprobs: expected true or false, found 3");
  CHECK(read(R"("prompt": "x")", R"("logprobs": true)").find("logprobs: expected an integer") == 0);
  CHECK(read(R"("prompt": "x")", R"("top_logprobs": 4)") ==
        "top_logprobs has no meaning in this request");
}

TEST_CASE("what would change the output and is not supported is refused in every kind of request") {
  const std::vector<std::string> refused = {R"("echo": true)",
                                            R"("suffix": "x")",
                                            R"("response_format": {"type": "json_object"})",
                                            R"("guided_json": {})",
                                            R"("guided_regex": "a+")",
                                            R"("structured_outputs": {"choice": ["a"]})",
                                            R"("tool_choice": "required")",
                                            R"("functions": [])",
                                            R"("modalities": ["audio"])",
                                            R"("add_generation_prompt": false)",
                                            R"("continue_final_message": true)",
                                            R"("truncate_prompt_tokens": 5)",
                                            R"("chat_template": "{{ x }}")"};
  const std::vector<std::string> taken = {R"("echo": false)",
                                          R"("suffix": "")",
                                          R"("response_format": {"type": "text"})",
                                          R"("tool_choice": "auto")",
                                          R"("modalities": ["text"])",
                                          R"("add_generation_prompt": true)",
                                          R"("continue_final_message": false)",
                                          R"("guided_json": null)"};
  const std::string chat = R"("messages": [{"role": "user", "content": "x"}])";
  const auto parse_as = [&](auto* parse, const std::string& prompt, const std::string& field,
                            IgnoredFields& ignored) {
    InputItem item;
    const auto error =
        parse(nlohmann::ordered_json::parse("{" + prompt + "," + field + "}"), {}, item, ignored);
    return error ? error->code + ": " + error->message : "";
  };
  for (const std::string& field : refused) {
    CAPTURE(field);
    IgnoredFields ignored;
    const std::string of_body = parse_as(parse_chat_body, chat, field, ignored);
    CHECK(of_body.find("unsupported: ") == 0);
    CHECK(parse_as(parse_request, chat, field, ignored) == of_body);
    CHECK(parse_as(parse_request, R"("prompt": "x")", field, ignored) == of_body);
  }
  for (const std::string& field : taken) {
    CAPTURE(field);
    IgnoredFields ignored;
    CHECK(parse_as(parse_request, chat, field, ignored) == "");
    CHECK(ignored.count == 0);
  }
  IgnoredFields ignored;
  CHECK(parse_as(parse_request, chat, R"("user": "me", "stream": true, "prediction": "y")",
                 ignored) == "");
  CHECK(ignored.names == std::vector<std::string>{"user", "stream", "prediction"});
}

TEST_CASE("tools that tool_choice does not want are left out of the prompt") {
  const std::string row =
      R"({"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function"}])";
  for (const auto& [end, has_tools] :
       {std::pair("}", true), {R"(, "tool_choice": "none"})", false}}) {
    InputItem item;
    IgnoredFields ignored;
    CHECK_FALSE(parse_request(nlohmann::ordered_json::parse(row + end), {}, item, ignored));
    CHECK(item.tools.is_null() == !has_tools);
  }
}

}  // namespace
}  // namespace llmrun
