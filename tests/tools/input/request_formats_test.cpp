// ShareGPT and OpenAI batch files.
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "tests/tools/input/read_rows.h"
#include "tools/input/request_reader.h"

namespace llmrun {
namespace {

TEST_CASE("sharegpt: the first human turn is the prompt") {
  const auto items = read_text(R"([
{"id": "a", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
{"id": "b", "conversations": [{"from": "system", "value": "S"}, {"from": "user", "value": "Q2"}]},
{"id": "c", "conversations": [{"from": "gpt", "value": "A"}, {"from": "human", "value": "Q3"},
                              {"from": "gpt", "value": "A3"}]},
{"id": "a", "conversations": [{"from": "human", "value": "Q4"}]},
{"id": 7.5, "conversations": [{"from": "human", "value": "Q5"}]}
])",
                               "-");
  REQUIRE(items.size() == 5);
  for (const InputItem& item : items) CHECK(error_code(item) == "");
  CHECK(items[0].prompt == "Q");
  CHECK(items[0].expected_completion == "A");
  CHECK(items[0].id == "a");
  CHECK(items[0].line == 2);
  CHECK(items[1].prompt == "Q2");
  CHECK(!items[1].expected_completion);
  CHECK(items[2].prompt == "Q3");
  CHECK(items[2].expected_completion == "A3");
  CHECK(items[3].id == "3");  // its own is taken
  CHECK(items[3].line == 6);
  CHECK(items[4].id == "4");
}

TEST_CASE("sharegpt: the benchmarks' rule takes turns 0 and 1") {
  ReaderOptions options;
  options.rows.sharegpt_turns = ShareGptTurns::kFirstTwo;
  RequestReader reader(std::make_unique<TextSource>(R"([
{"conversations": [{"from": "gpt", "value": "Q"}, {"from": "human", "value": "A"}]},
{"conversations": [{"from": "human", "value": "Q"}]},
{"conversations": []}, {"conversations": null}, {"id": "x", "prompt": "y"},
{"conversations": [{"from": "human", "value": null}, {"from": "gpt", "value": "A"}]},
{"conversations": [{"from": "human", "value": ""}, {"from": "gpt", "value": "A"}]},
{"conversations": [5, 6]}, 7
])",
                                                    1000),
                       "a.json", options);
  const auto items = read_all(reader);
  REQUIRE(items.size() == 2);  // an element without conversations is a request of its own
  CHECK(items[0].prompt == "Q");
  CHECK(items[0].expected_completion == "A");
  CHECK(items[1].prompt == "y");
  const std::map<std::string, std::int64_t> skipped = {{"fewer than two turns", 2},
                                                       {"no conversations", 1},
                                                       {"a turn without text", 2},
                                                       {"an empty prompt", 1},
                                                       {"not an object", 1}};
  CHECK(reader.num_skipped() == skipped);
}

TEST_CASE("sharegpt: broken files") {
  const auto last_error = [](const std::string& text) {
    ReaderOptions options;
    options.format = InputFormat::kShareGpt;
    options.rows.max_row_bytes = 10'000;
    const auto items = read_text(text, "-", options, 1000);
    REQUIRE(!items.empty());
    return items.back().error ? items.back().error->message : "";
  };
  const std::string good = R"({"conversations": [{"from": "human", "value": "Q"}]})";
  CHECK(last_error("[" + good + "]") == "");
  CHECK(last_error("{\"a\": 1}").find("begins with [") != std::string::npos);
  CHECK(last_error("[" + good).find("its end is missing") != std::string::npos);
  CHECK(last_error("[" + good + ",").find("inside this element") != std::string::npos);
  CHECK(last_error("[" + good + " " + good + "]").find("expected , or ]") != std::string::npos);
  CHECK(last_error("[" + good + "}").find("expected , or ]") != std::string::npos);
  CHECK(last_error("[" + good + ",]").find("expected an element") != std::string::npos);
  CHECK(last_error("[" + good + "] x").find("behind the end") != std::string::npos);
  CHECK(last_error("[" + good + "," + good.substr(0, 20)).find("inside this element") !=
        std::string::npos);
  CHECK(last_error("[" + std::string(9000, '[') + "]").find("inside this element") !=
        std::string::npos);
  CHECK(last_error("[" + std::string(300, '[') + std::string(300, ']') + "]")
            .find("nested deeper than 256") != std::string::npos);
  CHECK(last_error("[" + std::string(20'000, '1') + "]").find("at most 10000 are read") !=
        std::string::npos);
  CHECK_THROWS_WITH_AS(last_error("[]"), "-: holds no prompts (read as sharegpt)", Error);
  CHECK_THROWS_WITH_AS(
      last_error(R"([{"conversations": []}, {"conversations": [{"from": "gpt"}]}, 3])"),
      "-: holds no usable conversation: 2 with no human turn, 1 with not an object", Error);
}

TEST_CASE("openai batch: both endpoints") {
  const auto items = read_text(
      R"({"custom_id":"r1","method":"POST","url":"/v1/chat/completions","body":{"model":"M","messages":[{"role":"system","content":"S"},{"role":"user","content":"Hello"}],"max_completion_tokens":10,"logprobs":true,"top_logprobs":3,"stream":false,"user":"u","tool_choice":"none","tools":[{}]}}
{"custom_id":"r2","method":"POST","url":"/v1/completions","body":{"model":"M","prompt":"Hello","max_tokens":5,"logprobs":2,"echo":false,"stop":["a","b"],"n":2,"suffix":null}}
{"custom_id":"r3","method":"POST","url":"/v1/completions","body":{"model":"M","prompt":[1,2],"return_token_ids":true}}
{"custom_id":"r4","url":"/v1/chat/completions","body":{"model":"M","messages":[{"role":"user","content":"x"}],"logprobs":true}}
)",
      "-");
  REQUIRE(items.size() == 4);
  for (const InputItem& item : items) {
    CAPTURE(item.index);
    CHECK(error_code(item) == "");
  }
  CHECK(items[0].envelope == Envelope::kChatCompletions);
  CHECK(items[0].id == "r1");
  CHECK(items[0].model == "M");
  CHECK(items[0].sampling.max_tokens == 10);
  CHECK(items[0].sampling.logprobs == 3);
  CHECK(items[0].tools.is_null());
  CHECK(items[1].envelope == Envelope::kCompletions);
  CHECK(items[1].sampling.logprobs == 2);
  CHECK(items[1].sampling.n == 2);
  CHECK(items[2].kind == PromptKind::kTokenIds);
  CHECK(items[2].return_token_ids == true);
  CHECK(items[3].sampling.logprobs == 0);
  CHECK(items[3].return_token_ids == std::nullopt);
}

TEST_CASE("openai batch: what is refused") {
  struct Bad {
    std::string body;
    const char* code;
    const char* message;
  };
  const std::string chat = R"("messages":[{"role":"user","content":"x"}])";
  const std::vector<Bad> chat_bodies = {
      {R"("stream":true)", "unsupported", "must not be sent in stream mode"},
      {R"("response_format":{"type":"json_object"})", "unsupported", "response_format"},
      {R"("tool_choice":"required")", "unsupported", "tool_choice"},
      {R"("functions":[])", "unsupported", "functions"},
      {R"("modalities":["audio"])", "unsupported", "modalities"},
      {R"("logprobs":5)", "bad_parameter", "logprobs: expected true or false, found 5"},
      {R"("top_logprobs":5)", "bad_parameter", "needs \"logprobs\""},
      {R"("logprobs":true,"top_logprobs":21)", "bad_parameter", "from 0 to 20"},
      {R"("model":"other")", "model_not_found", "expected M"},
      {R"("model":5)", "bad_parameter", "model: expected a string"},
      {R"("max_completion_token":5)", "unknown_field", "max_completion_tokens"},
  };
  ReaderOptions options;
  options.format = InputFormat::kOpenAiBatch;
  options.rows.rules.model_names = {"M"};
  for (const Bad& bad : chat_bodies) {
    CAPTURE(bad.body);
    const InputItem item = read_one(
        R"({"custom_id":"a","url":"/v1/chat/completions","body":{)" + chat + "," + bad.body + "}}",
        "-", options);
    CHECK(error_code(item) == bad.code);
    REQUIRE(item.error);
    CHECK(item.error->message.find(bad.message) != std::string::npos);
    CHECK(item.has_id);
    CHECK(item.id == "a");
  }
  const std::vector<Bad> lines = {
      {R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":"x","echo":true}})",
       "unsupported", "echo"},
      {R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":"x","suffix":"y"}})",
       "unsupported", "suffix"},
      {R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":["x","y"]}})", "bad_prompt",
       "list of prompts"},
      {R"({"custom_id":"a","url":"/v1/completions","body":{"logprobs":true,"prompt":"x"}})",
       "bad_parameter", "logprobs"},
      {R"({"custom_id":"a","url":"/v1/completions","body":{}})", "missing_prompt", "no prompt"},
      {R"({"custom_id":"a","url":"/v1/chat/completions","body":{"prompt":"x"}})", "missing_prompt",
       "no messages"},
      {R"({"custom_id":"a","url":"/v1/embeddings","body":{}})", "unsupported", "/v1/embeddings"},
      {R"({"custom_id":"a","url":"/v1/completions","method":"GET","body":{}})", "bad_parameter",
       "method"},
      {R"({"custom_id":"a","url":"/v1/completions"})", "missing_prompt", "body"},
      {R"({"url":"/v1/completions","body":{"prompt":"x"}})", "bad_id", "no custom_id"},
      {R"({"custom_id":[],"url":"/v1/completions","body":{"prompt":"x"}})", "bad_id", "custom_id"},
      {"[]", "invalid_json", "expected an object"},
  };
  for (const Bad& bad : lines) {
    CAPTURE(bad.body);
    const InputItem item = read_one(bad.body, "-", options);
    CHECK(error_code(item) == bad.code);
    REQUIRE(item.error);
    CHECK(item.error->message.find(bad.message) != std::string::npos);
    CHECK(item.envelope != Envelope::kNone);
  }
}

TEST_CASE("openai batch: lines among others are told that their format is that of the first line") {
  const auto items = read_text(
      "{\"prompt\":\"x\"}\n"
      R"({"custom_id":"a","url":"/v1/completions","body":{"prompt":"x"}})",
      "-");
  REQUIRE(items.size() == 2);
  CHECK(error_code(items[0]) == "");
  CHECK(error_code(items[1]) == "unknown_field");
  CHECK(items[1].error->message.find("OpenAI batch") != std::string::npos);
}

TEST_CASE("openai batch: all lines name the same model") {
  const auto line = [](const char* id, const char* model) {
    return fmt::format(
        R"({{"custom_id":"{}","url":"/v1/completions","body":{{"model":"{}","prompt":"x"}}}})", id,
        model);
  };
  const auto items =
      read_text(line("a", "M") + "\n" + line("b", "N") + "\n" + line("c", "M") + "\n", "-");
  REQUIRE(items.size() == 3);
  CHECK(error_code(items[0]) == "");
  CHECK(error_code(items[1]) == "model_mismatch");
  CHECK(error_code(items[2]) == "");
}

}  // namespace
}  // namespace llmrun
