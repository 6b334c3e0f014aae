#include "tools/input/request_reader.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "tests/tools/input/text_files.h"
#include "tests/tools/input/text_source.h"

namespace llmrun {
namespace {

using namespace std::string_literals;  // NOLINT

std::vector<InputItem> read_all(RequestReader& reader) {
  std::vector<InputItem> items;
  while (auto item = reader.next()) items.push_back(std::move(*item));
  return items;
}

std::vector<InputItem> read_text(const std::string& text, const std::string& name = "prompts.jsonl",
                                 const ReaderOptions& options = {}, std::size_t piece = 1 << 20) {
  RequestReader reader(std::make_unique<TextSource>(text, piece), name, options);
  return read_all(reader);
}

// The one row of a text.
InputItem read_one(const std::string& text, const std::string& name = "prompts.jsonl",
                   const ReaderOptions& options = {}) {
  std::vector<InputItem> items = read_text(text, name, options);
  REQUIRE(items.size() == 1);
  return std::move(items[0]);
}

std::string error_code(const InputItem& item) {
  return item.error ? item.error->code : "";
}

// What two readings of the same bytes must agree in.
std::string describe(const InputItem& item) {
  return fmt::format("{} {} {} {} {} [{}] {} {} {}", item.index, item.line, item.byte_offset,
                     item.id, item.has_id, item.prompt, item.messages.dump(),
                     item.prompt_token_ids.size(), error_code(item)) +
         item.content_hash;
}

TEST_CASE("formats are told by name and content") {
  const auto detect = [](const char* head, const char* name) {
    return std::string(to_string(detect_format(head, name)));
  };
  CHECK(detect("{\"prompt\": \"a\"}\n", "-") == "jsonl");
  CHECK(detect("\xEF\xBB\xBF{\"prompt\": \"a\"}\n", "-") == "jsonl");
  CHECK(detect("\n\n  { \"prompt\": \"a\"}\n", "-") == "jsonl");
  CHECK(detect("{}", "-") == "jsonl");
  CHECK(detect("Hello\n", "-") == "text");
  CHECK(detect("", "-") == "text");
  CHECK(detect("{name} is\n", "-") == "text");
  CHECK(detect("[INST] Hello [/INST]\n", "-") == "text");
  CHECK(detect("[{\"conversations\": []}]", "-") == "sharegpt");
  CHECK(detect("[\n {", "-") == "sharegpt");
  CHECK(detect("[]", "-") == "sharegpt");
  CHECK(detect("{\"prompt\": 1}\n", "a.txt") == "text");
  CHECK(detect("Hello", "a.jsonl") == "jsonl");
  CHECK(detect("{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{}}",
               "-") == "openai-batch");
  // The words inside a prompt are not keys.
  CHECK(detect("{\"prompt\": \"\\\"custom_id\\\" \\\"url\\\" \\\"body\\\"\"}", "-") == "jsonl");
  for (const char* name : {"auto", "jsonl", "text", "sharegpt", "openai-batch"}) {
    REQUIRE(input_format_from(name));
    CHECK(std::string(to_string(*input_format_from(name))) == name);
  }
  CHECK(!input_format_from("json"));
}

TEST_CASE("plain text: one prompt a line") {
  const auto items = read_text("one\r\n\n  \ntwo words \nlast", "-");
  REQUIRE(items.size() == 3);
  CHECK(items[0].prompt == "one");
  CHECK(items[0].id == "0");
  CHECK(items[1].prompt == "two words ");
  CHECK(items[1].line == 4);
  CHECK(items[1].byte_offset == 9);
  CHECK(items[2].prompt == "last");
  CHECK(items[2].index == 2);
  CHECK(items[2].id == "2");
}

TEST_CASE("plain text: bad bytes are one row's error, with the offset") {
  const auto items = read_text("good\nbad \xff byte\nnul \0 byte\nfine\n"s, "-");
  REQUIRE(items.size() == 4);
  CHECK(error_code(items[1]) == "invalid_utf8");
  CHECK(items[1].error->message == "byte 4 of the line: invalid UTF-8 (byte 0xFF)");
  CHECK(!items[1].has_id);
  CHECK(error_code(items[2]) == "invalid_text");
  CHECK(items[3].prompt == "fine");
  CHECK(items[3].index == 3);
}

TEST_CASE("jsonl: prompts of every kind") {
  const auto items = read_text(R"({"prompt": "Hello", "id": "a"}
{"text": "Hi"}
{"messages": [{"role": "user", "content": "Hello"}], "id": 17, "tools": [{"type": "function"}]}
{"prompt_token_ids": [1, 2, 3]}
{"prompt": [4, 5], "metadata": {"answer": 42}, "chat_template_kwargs": {"thinking": false}}
)");
  REQUIRE(items.size() == 5);
  for (const InputItem& item : items) CHECK(error_code(item) == "");
  CHECK(items[0].id == "a");
  CHECK(items[0].kind == PromptKind::kText);
  CHECK(items[1].prompt == "Hi");
  CHECK(items[1].id == "1");
  CHECK(items[2].kind == PromptKind::kMessages);
  CHECK(items[2].id == "17");
  CHECK(items[2].id_is_integer);
  CHECK(items[2].messages[0]["content"] == "Hello");
  CHECK(items[2].tools.size() == 1);
  CHECK(items[3].prompt_token_ids == std::vector<TokenId>{1, 2, 3});
  CHECK(items[4].prompt_token_ids == std::vector<TokenId>{4, 5});
  CHECK(items[4].metadata["answer"] == 42);
  CHECK(items[4].chat_template_kwargs["thinking"] == false);
}

TEST_CASE("jsonl: parameters are laid over the defaults") {
  ReaderOptions options;
  options.rows.rules.defaults.temperature = 0.5;
  options.rows.rules.defaults.max_tokens = 7;
  const auto items = read_text(R"({"prompt": "a"}
{"prompt": "a", "temperature": 0, "stop": "x", "max_tokens": null}
{"prompt": "a", "sampling_params": {"n": 2}, "seed": 3}
)",
                               "-", options);
  REQUIRE(items.size() == 3);
  CHECK(items[0].sampling.temperature == 0.5);
  CHECK(items[1].sampling.temperature == 0.0);
  CHECK(items[1].sampling.max_tokens == 7);
  CHECK(items[1].sampling.stop == std::vector<std::string>{"x"});
  CHECK(items[2].sampling.n == 2);
  CHECK(items[2].sampling.seed == 3U);
}

TEST_CASE("jsonl: every bad line is an error of its own and the others are read") {
  struct Bad {
    std::string line;
    const char* code;
    const char* message;  // part of it
  };
  const std::vector<Bad> bad = {
      {R"({"prompt": "cut)", "invalid_json", "missing closing quote"},
      {R"({"prompt": "a"} {"prompt": "b"})", "invalid_json", "column 17"},
      {"not json", "invalid_json", "column"},
      {"[1, 2]", "invalid_json", "expected an object, found an array"},
      {"\"text\"", "invalid_json", "expected an object"},
      {"{\"prompt\": \"\xff\"}", "invalid_json", "byte 12: invalid UTF-8 (byte 0xFF)"},
      {"{\"prompt\": \"\xc0\x80\"}", "invalid_json", "invalid UTF-8"},
      {"{\"prompt\": \"\xed\xa0\x80\"}", "invalid_json", "invalid UTF-8"},
      {"{\"prompt\": \"a\0b\"}"s, "invalid_json", "NUL"},
      {R"({"prompt": "\ud800"})", "invalid_json", ""},
      {R"({"prompt": "a", "prompt": "b"})", "invalid_json", "duplicate key"},
      {R"({"prompt": "a", "x": 1e400})", "invalid_json", "overflow"},
      {std::string(65, '['), "invalid_json", "nested deeper than 64"},
      {std::string(100'000, '{'), "invalid_json", ""},
      {"{}", "missing_prompt", "has no prompt, messages or prompt_token_ids"},
      {R"({"question": "a"})", "missing_prompt", "its first field is \"question\""},
      {R"({"prompt": null})", "missing_prompt", ""},
      {R"({"prompt": ""})", "empty_prompt", "the prompt is empty"},
      {R"({"prompt": 5})", "bad_parameter", "prompt: expected a string or an array of token ids"},
      {R"({"prompt": {"text": "a"}})", "bad_parameter", "found an object"},
      {R"({"prompt": ["a", "b"]})", "bad_prompt", "a list of prompts"},
      {R"({"prompt": [["a"]]})", "bad_prompt", "a list of prompts"},
      {R"({"prompt": []})", "empty_prompt", "prompt is empty"},
      {R"({"prompt": "a", "messages": []})", "empty_prompt", ""},
      {R"({"prompt": "a", "prompt_token_ids": [1]})", "bad_prompt", "only one of them"},
      {R"({"prompt": "a", "text": "b"})", "bad_prompt", "prompt and text"},
      {R"({"prompt_token_ids": []})", "empty_prompt", ""},
      {R"({"prompt_token_ids": [1, 100]})", "bad_prompt",
       "prompt_token_ids[1]: expected a token id from 0 to 99, found 100"},
      {R"({"prompt_token_ids": [-1]})", "bad_prompt", "found -1"},
      {R"({"prompt_token_ids": [1.0]})", "bad_prompt", "found 1.0"},
      {R"({"prompt_token_ids": [true]})", "bad_prompt", "found true"},
      {R"({"prompt_token_ids": [18446744073709551615]})", "bad_prompt", ""},
      {R"({"prompt_token_ids": "1 2"})", "bad_parameter", "expected an array of token ids"},
      {R"({"prompt": "a", "id": {}})", "bad_id", "expected a string or an integer"},
      {R"({"prompt": "a", "id": 1.5})", "bad_id", "found 1.5"},
      {R"({"prompt": "a", "id": ""})", "bad_id", "1 to 1024 bytes"},
      {R"({"prompt": "a", "id": ")" + std::string(1025, 'x') + R"("})", "bad_id", ""},
      {R"({"prompt": "a", "max_token": 5})", "unknown_field", "did you mean max_tokens?"},
      {R"({"prompt": "a", "max_new_tokens": 5})", "unknown_field", "did you mean max_tokens?"},
      {R"({"prompt": "a", "maxTokens": 5})", "unknown_field", "did you mean max_tokens?"},
      {R"({"prompt": "a", "temprature": 5})", "unknown_field", "did you mean temperature?"},
      {R"({"prompt": "a", "sampling_params": {"foo": 1}})", "unknown_field", "sampling_params.foo"},
      {R"({"prompt": "a", "sampling_params": 1})", "bad_parameter", "expected an object"},
      {R"({"prompt": "a", "temperature": "hot"})", "bad_parameter", "temperature"},
      {R"({"prompt": "a", "temperature": -1})", "bad_parameter", "temperature"},
      {R"({"prompt": "a", "max_tokens": 1.5})", "bad_parameter", "max_tokens"},
      {R"({"messages": {}})", "bad_parameter", "messages: expected an array"},
      {R"({"messages": []})", "empty_prompt", "messages is empty"},
      {R"({"messages": ["hi"]})", "bad_parameter", "messages[0]: expected an object"},
      {R"({"messages": [{"content": "hi"}]})", "bad_parameter", "messages[0]: expected a role"},
      {R"({"messages": [{"role": "", "content": "hi"}]})", "bad_parameter", "a role"},
      {R"({"messages": [{"role": "user"}]})", "bad_parameter", "messages[0]: has no content"},
      {R"({"messages": [{"role": "user", "content": 5}]})", "bad_parameter", "messages[0].content"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})", "unsupported",
       "only parts of type"},
      {R"({"prompt": "a", "tools": {}})", "bad_parameter", "tools: expected an array"},
      {R"({"prompt": "a", "chat_template_kwargs": {"a": []}})", "bad_parameter", "kwargs.a"},
  };
  ReaderOptions options;
  options.rows.rules.limits.vocab_size = 100;
  std::string text;
  for (const Bad& b : bad) text += b.line + "\n{\"prompt\": \"good\"}\n";
  const auto items = read_text(text, "prompts.jsonl", options);
  REQUIRE(items.size() == 2 * bad.size());
  for (std::size_t i = 0; i < bad.size(); ++i) {
    CAPTURE(bad[i].line.substr(0, 200));
    const InputItem& item = items[2 * i];
    CHECK(error_code(item) == bad[i].code);
    if (item.error) {
      CAPTURE(item.error->message);
      CHECK(item.error->message.find(bad[i].message) != std::string::npos);
      CHECK(item.error->message.size() < 500);
    }
    CHECK(item.line == static_cast<std::int64_t>(2 * i + 1));
    CHECK(text.substr(item.byte_offset, bad[i].line.size()) == bad[i].line);
    CHECK(items[2 * i + 1].prompt == "good");
    CHECK(error_code(items[2 * i + 1]) == "");
  }
}

TEST_CASE("jsonl: odd but valid lines") {
  const std::vector<std::string> good = {
      R"({"prompt":"a","category":"x","answer":"7","source":{"url":"b"}})",
      R"({"prompt":"\ud83d\ude00"})",
      "\t{ \"prompt\" : \"a\" }  ",
      "{\"prompt\":\"a\"}\r",
      R"({"prompt":"a","id":null,"messages":null,"temperature":null})",
      R"({"id":"\u0000","prompt":"a"})",
      R"({"prompt":" "})",
      R"({"messages":[{"role":"assistant","tool_calls":[]},{"role":"user","content":""}]})",
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]})",
      R"({"prompt":"a","top_k_metric":1,"test":1,"stage":"x","meta":1})",
  };
  std::string text;
  for (const std::string& line : good) text += line + "\n";
  const auto items = read_text(text);
  REQUIRE(items.size() == good.size());
  for (const InputItem& item : items) {
    CAPTURE(item.index);
    CHECK(error_code(item) == "");
  }
  CHECK(items[1].prompt == "\xF0\x9F\x98\x80");
  CHECK(items[5].id == "\0"s);
  CHECK(items[8].messages[0]["content"] == "a\nb");
}

TEST_CASE("jsonl: ignored fields are counted") {
  RequestReader reader(
      std::make_unique<TextSource>("{\"prompt\":\"a\",\"answer\":1}\n{\"answer\":2,\"prompt\":"
                                   "\"b\",\"level\":3}\n",
                                   100),
      "-", {});
  CHECK(read_all(reader).size() == 2);
  CHECK(reader.ignored_fields().count == 3);
  CHECK(reader.ignored_fields().first == "answer");
}

TEST_CASE("another field can hold the prompt") {
  ReaderOptions options;
  options.rows.rules.prompt_field = "question";
  CHECK(read_one("{\"question\": \"a\"}", "-", options).prompt == "a");
  CHECK(error_code(read_one("{\"answer\": \"a\"}", "-", options)) == "missing_prompt");
}

TEST_CASE("a repeated id is the second row's error") {
  const auto items = read_text(R"({"prompt":"a","id":"x"}
{"prompt":"b","id":"x"}
{"prompt":"c","id":"y"}
{"prompt":"d"}
{"prompt":"e","id":3}
)");
  REQUIRE(items.size() == 5);
  CHECK(error_code(items[0]) == "");
  CHECK(error_code(items[1]) == "duplicate_id");
  CHECK(items[1].error->message.find("\"x\"") != std::string::npos);
  CHECK(!items[1].has_id);
  CHECK(items[3].id == "3");
  CHECK(error_code(items[4]) == "duplicate_id");
}

TEST_CASE("a line above the limit is skipped, not kept") {
  ReaderOptions options;
  options.rows.max_row_bytes = 1000;
  for (const std::size_t excess : {0U, 1U, 2U, 5000U, 3'000'000U}) {
    CAPTURE(excess);
    const std::string frame = R"({"prompt":""})";
    const std::string line =
        R"({"prompt":")" + std::string(1000 - frame.size() + excess, 'x') + R"("})";
    for (const std::string& end : {"\n"s, "\r\n"s}) {
      const auto items = read_text(line + end + R"({"prompt":"good"})", "-", options, 4096);
      REQUIRE(items.size() == 2);
      CHECK(error_code(items[0]) == (excess == 0 ? "" : "line_too_long"));
      CHECK(items[1].prompt == "good");
      CHECK(items[1].line == 2);
      CHECK(items[1].byte_offset == line.size() + end.size());
    }
  }
}

TEST_CASE("rows do not depend on where reads end") {
  const std::string jsonl =
      "\xEF\xBB\xBF{\"prompt\": \"Gr\xC3\xBC\xC3\x9F\"}\r\n\r\n{\"messages\": [{\"role\": "
      "\"user\", "
      "\"content\": \"\\\"\\\\\"}], \"id\": \"b\"}\nbroken\n{\"prompt_token_ids\":[1,2]}";
  const std::string sharegpt =
      "[\n {\"id\": \"a\", \"conversations\": [{\"from\": \"human\", \"value\": \"x ] } \\\" , "
      "\"}]},"
      "\n{\"conversations\": [{\"from\": \"human\", \"value\": \"y\"}, {\"from\": \"gpt\", "
      "\"value\": "
      "\"\xE2\x82\xAC\"}]} , 5, {\"broken\": } ] \n";
  for (const std::string& text : {jsonl, sharegpt, "one\ntwo\r\n\nthree"s}) {
    std::vector<std::string> expected;
    for (const InputItem& item : read_text(text, "-")) expected.push_back(describe(item));
    for (std::size_t piece = 1; piece <= text.size(); ++piece) {
      CAPTURE(piece);
      std::vector<std::string> found;
      for (const InputItem& item : read_text(text, "-", {}, piece)) found.push_back(describe(item));
      CHECK(found == expected);
    }
  }
}

TEST_CASE("every prefix of a file is read without harm") {
  const std::string jsonl = "{\"prompt\": \"first\"}\n{\"prompt\": \"second\", \"id\": \"b\"}\n";
  for (std::size_t length = 1; length <= jsonl.size(); ++length) {
    CAPTURE(length);
    const auto items = read_text(jsonl.substr(0, length));
    const bool second_begins = length > 20;
    REQUIRE(items.size() == (second_begins ? 2 : 1));
    CHECK(error_code(items[0]) == (length >= 19 ? "" : "invalid_json"));
    if (second_begins)
      CHECK(error_code(items[1]) == (length >= jsonl.size() - 1 ? "" : "invalid_json"));
  }
}

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
{"custom_id":"r3","method":"POST","url":"/v1/completions","body":{"model":"M","prompt":[1,2]}}
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
  CHECK(items[3].sampling.logprobs == 0);
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

TEST_CASE("inputs that cannot be read") {
  const auto open = [](const std::string& path) {
    RequestReader reader(path, {});
    return read_all(reader).size();
  };
  CHECK_THROWS_WITH_AS(open("/nonexistent/prompts.jsonl"),
                       "/nonexistent/prompts.jsonl: cannot open: No such file or directory", Error);
  const std::string folder = std::filesystem::temp_directory_path();
  CHECK_THROWS_WITH_AS(open(folder), (folder + ": cannot read: Is a directory").c_str(), Error);
  CHECK_THROWS_WITH_AS(read_text(""), "prompts.jsonl: holds no prompts (read as jsonl)", Error);
  CHECK_THROWS_WITH_AS(read_text("\n \n\r\n", "-"), "-: holds no prompts (read as text)", Error);
  CHECK_THROWS_AS(read_text("\xff\xfeh\0i\0"s), Error);
  CHECK_THROWS_AS(read_text("\x1f\x8b\x08"), Error);
  try {
    open("/nonexistent");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
  }
}

TEST_CASE("files: size, estimate, changes while they are read") {
  const std::string line = "{\"prompt\": \"abc\"}\n";
  std::string text;
  for (int i = 0; i < 100; ++i) text += line;
  const TemporaryFolder folder;
  const std::string path = folder / "prompts.jsonl";
  write_text(path, text);
  RequestReader reader(path, {});
  REQUIRE(reader.next());
  REQUIRE(reader.next());
  REQUIRE(reader.estimated_rows());
  CHECK(*reader.estimated_rows() >= 100);
  CHECK(*reader.estimated_rows() <= 200);
  reader.check_unchanged();
  std::ofstream(path, std::ios::app) << line;
  CHECK_THROWS_AS(reader.check_unchanged(), Error);
  CHECK(read_all(reader).size() >= 98);
  CHECK(reader.at_end());
  CHECK(reader.estimated_rows() == reader.num_rows());
}

TEST_CASE("pipes can be read") {
  const TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  // Opened for both ends first, so that nothing waits.
  std::FILE* writer = std::fopen(path.c_str(), "r+");
  REQUIRE(writer != nullptr);
  std::fputs("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n", writer);
  std::fflush(writer);
  {
    RequestReader reader(path, {});
    std::fclose(writer);
    CHECK(read_all(reader).size() == 2);
    CHECK(reader.estimated_rows() == 2);
    reader.check_unchanged();
  }
}

TEST_CASE("a reader knows whether the next row is there") {
  const TemporaryFolder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  std::FILE* writer = std::fopen(path.c_str(), "r+");
  REQUIRE(writer != nullptr);
  const auto put = [writer](const char* text) {
    std::fputs(text, writer);
    std::fflush(writer);
  };
  put("one\ntwo\n");
  RequestReader reader(path, {});
  CHECK(reader.ready());
  CHECK(reader.next()->prompt == "one");
  CHECK(reader.ready());
  CHECK(reader.next()->prompt == "two");
  CHECK(!reader.ready());
  put("three\n");
  CHECK(reader.ready());
  CHECK(reader.next()->prompt == "three");
  CHECK(!reader.ready());
  std::fclose(writer);
  CHECK(reader.ready());
  CHECK(!reader.next());
  CHECK(reader.ready());
}

// Hands out a text, then is interrupted.
class InterruptedSource : public ByteSource {
 public:
  explicit InterruptedSource(std::string text) : text_(std::move(text)) {}
  std::size_t read(std::span<char> out) override {
    if (text_.empty()) throw InputInterrupted();
    std::copy(text_.begin(), text_.end(), out.begin());
    return std::exchange(text_, "").size();
  }

 private:
  std::string text_;
};

TEST_CASE("an interrupted input ends with its last whole row, and says so") {
  for (const std::size_t num_rows : {0U, 1U, 3U}) {
    std::string text;
    for (std::size_t i = 0; i < num_rows; ++i) text += "{\"prompt\": \"a\"}\n";
    RequestReader reader(std::make_unique<InterruptedSource>(text + "{\"prom"), "-", {});
    CHECK(read_all(reader).size() == num_rows);
    CHECK(reader.interrupted());
    CHECK(!reader.at_end());
    CHECK(!reader.next());
  }
}

TEST_CASE("hashes name a row and all that its answer depends on") {
  const auto hash = [](const std::string& line, const char* fingerprint) {
    return input_hash(read_one(line, "-"), fingerprint);
  };
  const std::string base = hash(R"({"prompt":"a"})", "model");
  CHECK(base.size() == 32);
  CHECK(base == hash(R"({"prompt":"a"})", "model"));
  CHECK(base != hash(R"({"prompt":"b"})", "model"));
  CHECK(base != hash(R"({"prompt":"a"})", "other"));
  CHECK(base != hash(R"({"prompt":"a","id":"x"})", "model"));
  ReaderOptions options;
  options.rows.rules.defaults.temperature = 0.25;
  CHECK(base != input_hash(read_one(R"({"prompt":"a"})", "-", options), "model"));
}

}  // namespace
}  // namespace llmrun
