#include "tools/input/request_reader.h"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "tests/tools/input/read_rows.h"

namespace llmrun {
namespace {

using namespace std::string_literals;  // NOLINT

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
  CHECK(reader.ignored_fields().names == std::vector<std::string>{"answer", "level"});
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
