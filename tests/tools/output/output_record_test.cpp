#include "tools/output/output_record.h"

#include <cmath>
#include <limits>
#include <string>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/output/record_json.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

InputItem make_item() {
  InputItem item;
  item.index = 3;
  item.line = 4;
  item.id = "row";
  item.has_id = true;
  item.content_hash = content_hash("row");
  item.prompt = "Hello";
  return item;
}

RequestOutput make_output() {
  RequestOutput output;
  output.prompt_token_ids = {1, 2, 3};
  output.num_output_tokens = 2;
  output.num_cached_tokens = 1;
  output.timings = {
      .arrived = 10, .first_scheduled = 10.25, .first_token = 10.5, .finished = 11.0000001};
  CompletionOutput sample;
  sample.text = "Hi \xE2\x82\xAC";
  sample.token_ids = {7, 8};
  sample.finish_reason = FinishReason::kStop;
  sample.logprobs = {{7, -0.1F, 1, {{7, -0.1F, 1}, {9, -2.5F, 2}}},
                     {8, -3.0F, 5, {{9, -0.25F, 1}}}};
  output.outputs = {sample};
  return output;
}

RecordFormatter make_formatter(bool return_token_ids = false) {
  return RecordFormatter({.return_token_ids = return_token_ids,
                          .input_name = "prompts.jsonl",
                          .model_name = "demo",
                          .fingerprint = "f",
                          .created = 1700000000,
                          // 8 is half of a character.
                          .token_text = [](TokenId id) {
                            return id == 8 ? std::string("\xE2\x82") : fmt::format("t{}", id);
                          }});
}

Json parse(const std::string& line) {
  CHECK(line.find('\n') == std::string::npos);
  return parse_ordered_json(line, "record");
}

TEST_CASE("a plain record") {
  const Json record = parse(make_formatter().format(make_item(), make_output()));
  CHECK(record.dump() ==
        R"({"id":"row","index":3,"outputs":[{"index":0,"text":"Hi €","finish_reason":"stop",)"
        R"("stop_reason":null}],"usage":{"prompt_tokens":3,"completion_tokens":2,)"
        R"("total_tokens":5,"cached_tokens":1},"timings":{"queue_s":0.25,"ttft_s":0.5,)"
        R"("total_s":1.0},"input_hash":")" +
            input_hash(make_item(), "f") + R"("})");
}

TEST_CASE("what was asked for is there") {
  InputItem item = make_item();
  item.sampling.logprobs = 2;
  item.sampling.prompt_logprobs = 0;
  item.metadata = {{"answer", 42}};
  item.id = "17";
  item.id_is_integer = true;
  RequestOutput output = make_output();
  output.prompt_logprobs = {{}, {2, -1.0F, 1, {}}, {3, -0.5F, 2, {}}};
  output.outputs[0].cumulative_logprob = -3.5;
  output.outputs[0].has_cumulative_logprob = true;
  output.outputs[0].stop_string = "END";
  const Json record = parse(make_formatter(true).format(item, output));
  CHECK(record["id"] == 17);
  CHECK(record["metadata"]["answer"] == 42);
  CHECK(record["prompt_token_ids"] == Json({1, 2, 3}));
  CHECK(record["prompt_logprobs"].size() == 3);
  CHECK(record["prompt_logprobs"][0].is_null());
  CHECK(record["prompt_logprobs"][2].dump() ==
        R"({"token_id":3,"token":"t3","logprob":-0.5,"rank":2,"top_logprobs":[]})");
  const Json& sample = record["outputs"][0];
  CHECK(sample["token_ids"] == Json({7, 8}));
  CHECK(sample["cumulative_logprob"] == -3.5);
  CHECK(sample["stop_reason"] == "END");
  CHECK(sample["logprobs"].dump() ==
        R"([{"token_id":7,"token":"t7","logprob":-0.1,"rank":1,"top_logprobs":[)"
        R"({"token_id":7,"token":"t7","logprob":-0.1,"rank":1},)"
        R"({"token_id":9,"token":"t9","logprob":-2.5,"rank":2}]},)"
        R"({"token_id":8,"token":")"
        "\uFFFD"
        R"(","logprob":-3.0,"rank":5,"top_logprobs":[)"
        R"({"token_id":9,"token":"t9","logprob":-0.25,"rank":1}]}])");
}

TEST_CASE("a request's own return_token_ids overrules the run's") {
  for (const bool of_run : {false, true}) {
    for (const bool of_request : {false, true}) {
      for (const Envelope envelope :
           {Envelope::kNone, Envelope::kCompletions, Envelope::kChatCompletions}) {
        InputItem item = make_item();
        item.envelope = envelope;
        item.return_token_ids = of_request;
        const Json record = parse(make_formatter(of_run).format(item, make_output()));
        const bool is_plain = envelope == Envelope::kNone;
        const Json& answer = is_plain ? record : record["response"]["body"];
        CHECK(answer.contains("prompt_token_ids") == of_request);
        CHECK(answer[is_plain ? "outputs" : "choices"][0].contains("token_ids") == of_request);
      }
    }
  }
}

TEST_CASE("log-probabilities of a whole vocabulary are written in time that grows with it") {
  InputItem item = make_item();
  item.envelope = Envelope::kCompletions;
  item.sampling.logprobs = kAllLogprobs;
  RequestOutput output = make_output();
  constexpr TokenId kVocabSize = 300'000;  // a search through all before it would take minutes
  TokenLogprobs& token = output.outputs[0].logprobs[0];
  token.top.clear();
  for (TokenId id = 0; id < kVocabSize; ++id) token.top.push_back({id, -1.0F, id + 1});
  token.top.push_back({5, -7.0F, kVocabSize + 1});  // looks like a likelier one
  const Json record = parse(make_formatter().format(item, output));
  const Json& top = record["response"]["body"]["choices"][0]["logprobs"]["top_logprobs"][0];
  CHECK(top.size() == kVocabSize);
  CHECK(top["t5"] == -1.0);
}

TEST_CASE("without text there are ids") {
  InputItem item = make_item();
  item.sampling.detokenize = false;
  RequestOutput output = make_output();
  output.outputs[0].stop_token_id = 8;
  const Json sample = parse(make_formatter().format(item, output))["outputs"][0];
  CHECK(!sample.contains("text"));
  CHECK(sample["token_ids"] == Json({7, 8}));
  CHECK(sample["stop_reason"] == 8);
}

TEST_CASE("text that is not UTF-8 or has control characters stays one line of JSON") {
  RequestOutput output = make_output();
  output.outputs[0].text = "a\n\xff\"\\\x01 b";
  const Json record = parse(make_formatter().format(make_item(), output));
  CHECK(record["outputs"][0]["text"] == "a\n\uFFFD\"\\\x01 b");
}

TEST_CASE("error records") {
  InputItem item = make_item();
  const RecordFormatter formatter = make_formatter();
  Json record = parse(formatter.format_error(item, {"too_long", "it is too long"}));
  CHECK(record.dump() == R"({"id":"row","index":3,"error":{"code":"too_long","message":)"
                         R"("it is too long","file":"prompts.jsonl","line":4},"input_hash":")" +
                             input_hash(item, "f") + R"("})");
  item.has_id = false;
  CHECK(parse(formatter.format_error(item, {"x", "y"}))["id"].is_null());

  RequestOutput output;
  output.error = {"numeric", "logits are not finite"};
  record = parse(formatter.format(make_item(), output));
  CHECK(record["error"]["code"] == "numeric");
  CHECK(!record.contains("outputs"));
}

TEST_CASE("chat envelope") {
  InputItem item = make_item();
  item.envelope = Envelope::kChatCompletions;
  item.sampling.logprobs = 1;
  const Json record = parse(make_formatter().format(item, make_output()));
  const std::string hash = input_hash(item, "f");
  CHECK(record["id"] == "llmrun-" + hash);
  CHECK(record["custom_id"] == "row");
  CHECK(record["error"].is_null());
  CHECK(record["response"]["status_code"] == 200);
  const Json& body = record["response"]["body"];
  CHECK(body["id"] == "chatcmpl-" + hash);
  CHECK(body["object"] == "chat.completion");
  CHECK(body["created"] == 1700000000);
  CHECK(body["model"] == "demo");
  CHECK(body["usage"].dump() == R"({"prompt_tokens":3,"total_tokens":5,"completion_tokens":2,)"
                                R"("prompt_tokens_details":{"cached_tokens":1}})");
  const Json& choice = body["choices"][0];
  CHECK(choice["message"].dump() == R"({"role":"assistant","content":"Hi €"})");
  CHECK(choice["finish_reason"] == "stop");
  CHECK(choice["stop_reason"].is_null());
  CHECK(choice["logprobs"]["content"][1].dump() ==
        "{\"token\":\"\uFFFD\",\"logprob\":-3.0,\"bytes\":[226,130],\"top_logprobs\":["
        "{\"token\":\"t9\",\"logprob\":-0.25,\"bytes\":[116,57]}]}");
}

TEST_CASE("completion envelope") {
  InputItem item = make_item();
  item.envelope = Envelope::kCompletions;
  item.model = "M";
  item.sampling.logprobs = 1;
  const Json record = parse(make_formatter(true).format(item, make_output()));
  const Json& body = record["response"]["body"];
  CHECK(body["object"] == "text_completion");
  CHECK(body["model"] == "M");
  CHECK(body["choices"][0]["text"] == "Hi €");
  CHECK(body["choices"][0]["token_ids"] == Json({7, 8}));
  CHECK(body["choices"][0]["logprobs"].dump() ==
        "{\"text_offset\":[0,2],\"token_logprobs\":[-0.1,-3.0],\"tokens\":[\"t7\",\"\uFFFD\"],"
        "\"top_logprobs\":[{\"t7\":-0.1,\"t9\":-2.5},{\"t9\":-0.25,\"\uFFFD\":-3.0}]}");
}

TEST_CASE("text offsets count characters, not bytes") {
  InputItem item = make_item();
  item.envelope = Envelope::kCompletions;
  item.sampling.logprobs = 0;
  RequestOutput output = make_output();
  output.outputs[0].logprobs.push_back({7, -1.0F, 1, {}});
  const Json record = parse(make_formatter().format(item, output));
  CHECK(record["response"]["body"]["choices"][0]["logprobs"]["text_offset"] == Json({0, 2, 3}));
}

TEST_CASE("errors in an envelope") {
  InputItem item = make_item();
  item.envelope = Envelope::kChatCompletions;
  const RecordFormatter formatter = make_formatter();
  Json record = parse(formatter.format_error(item, {"bad_parameter", "no"}));
  CHECK(record["custom_id"] == "row");
  CHECK(record["response"]["status_code"] == 400);
  CHECK(record["response"]["body"].is_null());
  CHECK(record["error"].dump() == R"({"code":"bad_parameter","message":"no",)"
                                  R"("file":"prompts.jsonl","line":4})");
  CHECK(record["response"]["request_id"] == "llmrun-row-3");
  CHECK(parse(formatter.format_error(item, {"numeric", ""}))["response"]["status_code"] == 500);
  CHECK(parse(formatter.format_error(item, {"model_not_found", ""}))["response"]["status_code"] ==
        404);
  item.has_id = false;
  CHECK(parse(formatter.format_error(item, {"bad_id", ""}))["custom_id"].is_null());
}

TEST_CASE("log-probabilities read back as the same float") {
  for (const float value :
       {-0.0F, -0.1F, -1.0F / 3.0F, -1e-30F, -123456.789F, std::nextafter(-0.1F, 0.0F)}) {
    const Json json = Json::parse(logprob_json(value).dump());
    CHECK(static_cast<float>(json.get<double>()) == value);
    CHECK(logprob_json(value).dump().size() <= 15);
  }
  CHECK(logprob_json(-std::numeric_limits<float>::infinity()) == -9999.0);
  CHECK(logprob_json(std::numeric_limits<float>::quiet_NaN()).is_null());
}

}  // namespace
}  // namespace llmrun
