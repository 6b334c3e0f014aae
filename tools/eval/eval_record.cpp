#include "tools/eval/eval_record.h"

#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/input/input_buffer.h"
#include "tools/input/line_reader.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxRecordBytes = std::size_t{1} << 30;

Json error_json(const RequestError& error) {
  return {{"code", error.code}, {"message", error.message}};
}

Json sample_json(const SampleAnswer& sample, const EvalQuestion& question,
                 const AnswerExtractor& extractor) {
  if (!sample.error.empty()) {
    return {{"index", sample.index}, {"error", error_json(sample.error)}};
  }
  Json filtered = Json::object();
  Json exact_match = Json::object();
  for (const ExtractionRule rule : kExtractionRules) {
    const ExtractedAnswer answer = extractor.extract(rule, sample.text, question.answer);
    filtered[to_string(rule)] = answer.text;
    exact_match[to_string(rule)] = answer.right ? 1 : 0;
  }
  return {{"index", sample.index},
          {"text", sample.text},
          {"finish_reason", sample.finish_reason},
          {"num_tokens", sample.num_tokens},
          {"filtered", std::move(filtered)},
          {"exact_match", std::move(exact_match)}};
}

SampleAnswer parse_sample(const nlohmann::json& json, const std::string& place) {
  const JsonObject object(json, place, ErrorKind::kInput);
  SampleAnswer sample;
  sample.index = static_cast<std::int32_t>(object.get_int("index", 0, 1 << 20));
  if (const auto error = object.find_object("error")) {
    sample.error = {error->get_string("code"), error->get_string("message")};
    return sample;
  }
  sample.text = object.get_string("text");
  sample.finish_reason = object.get_string("finish_reason");
  sample.num_tokens = object.get_int("num_tokens", 0, INT64_MAX);
  return sample;
}

QuestionResult parse_record(const nlohmann::json& json, const std::string& place,
                            std::string& case_name) {
  const JsonObject object(json, place, ErrorKind::kInput);
  QuestionResult result;
  case_name = object.get_string("case");
  result.question = object.get_int("doc_id", 0, INT64_MAX);
  result.finished_s = object.get_float("finished_s", 0, 1e18);
  const JsonObject usage = object.get_object("usage");
  result.num_prompt_tokens = usage.get_int("prompt_tokens", 0, INT64_MAX);
  result.num_output_tokens = usage.get_int("completion_tokens", 0, INT64_MAX);
  for (const nlohmann::json& sample : object.get_array("outputs")) {
    result.samples.push_back(parse_sample(sample, place));
  }
  return result;
}

}  // namespace

InputItem eval_item(const std::string& case_name, std::int64_t index, std::int64_t place,
                    const EvalQuestion& question, const SamplingParams& params) {
  InputItem item;
  item.index = index;
  item.line = question.line;
  item.id = fmt::format("{}/{}", case_name, place);
  item.has_id = true;
  item.content_hash = question.content_hash;
  item.sampling = params;
  return item;
}

std::string eval_record(const InputItem& item, const std::string& case_name,
                        const EvalQuestion& question, const QuestionResult& result,
                        const AnswerExtractor& extractor, const std::string& fingerprint) {
  Json outputs = Json::array();
  const RequestError* error = nullptr;
  for (const SampleAnswer& sample : result.samples) {
    outputs.push_back(sample_json(sample, question, extractor));
    if (error == nullptr && !sample.error.empty()) error = &sample.error;
  }
  Json record = {{"id", item.id},
                 {"index", item.index},
                 {"case", case_name},
                 {"doc_id", result.question},
                 {"line", item.line},
                 {"question", question.question},
                 {"target", question.answer},
                 {"outputs", std::move(outputs)},
                 {"usage",
                  {{"prompt_tokens", result.num_prompt_tokens},
                   {"completion_tokens", result.num_output_tokens}}},
                 {"finished_s", std::round(result.finished_s * 1e6) / 1e6}};
  if (error != nullptr) record["error"] = error_json(*error);
  record["input_hash"] = input_hash(item, fingerprint);
  return dump_json(record);
}

EvalResults read_eval_records(const std::string& path) {
  EvalResults results;
  InputBuffer input(std::make_unique<FileSource>(path));
  LineReader lines(input, kMaxRecordBytes);
  while (const auto line = lines.next()) {
    const std::string place = fmt::format("{}:{}", path, line->number);
    std::string case_name;
    QuestionResult result =
        parse_record(parse_json(line->text, place, kRequestJson), place, case_name);
    const std::int64_t question = result.question;
    results.insert_or_assign({std::move(case_name), question}, std::move(result));
  }
  return results;
}

}  // namespace llmrun
