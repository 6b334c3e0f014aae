#include "tools/output/output_record.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/output/record_json.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

// Microseconds are enough.
Json seconds_json(double from, double to) {
  if (to <= 0) return nullptr;  // it has not happened
  return std::round((to - from) * 1e6) / 1e6;
}

Json usage_json(const RequestOutput& output) {
  const auto num_prompt_tokens = static_cast<std::int64_t>(output.prompt_token_ids.size());
  return {{"prompt_tokens", num_prompt_tokens},
          {"completion_tokens", output.num_output_tokens},
          {"total_tokens", num_prompt_tokens + output.num_output_tokens},
          {"cached_tokens", output.num_cached_tokens}};
}

Json timings_json(const RequestTimings& timings) {
  return {{"queue_s", seconds_json(timings.arrived, timings.first_scheduled)},
          {"ttft_s", seconds_json(timings.arrived, timings.first_token)},
          {"total_s", seconds_json(timings.arrived, timings.finished)}};
}

std::string request_id(const InputItem& item) {
  return fmt::format("llmrun-row-{}", item.index);
}

Json id_json(const InputItem& item) {
  if (!item.has_id) return nullptr;
  if (item.id_is_integer) return std::stoll(item.id);
  return item.id;
}

}  // namespace

Json logprob_json(float logprob) {
  if (std::isinf(logprob)) return logprob < 0 ? -9999.0 : 9999.0;
  if (!std::isfinite(logprob)) return nullptr;
  char text[64];
  const auto end = std::to_chars(std::begin(text), std::end(text), logprob).ptr;
  double value = 0;
  std::from_chars(std::begin(text), end, value);
  return value;
}

Json stop_reason_json(const CompletionOutput& output) {
  if (!output.stop_string.empty()) return output.stop_string;
  if (output.stop_token_id) return *output.stop_token_id;
  return nullptr;
}

Json finish_reason_json(const CompletionOutput& output) {
  if (output.finish_reason == FinishReason::kNone) return nullptr;
  return to_string(output.finish_reason);
}

RecordFormatter::RecordFormatter(Options options) : options_(std::move(options)) {}

std::string RecordFormatter::text_of(TokenId token) const {
  return options_.token_text ? options_.token_text(token) : std::string();
}

bool RecordFormatter::returns_token_ids(const InputItem& item) const {
  return item.return_token_ids.value_or(options_.return_token_ids);
}

std::string RecordFormatter::format(const InputItem& item, const RequestOutput& output) const {
  if (!output.error.empty()) return format_error(item, output.error);
  if (item.envelope == Envelope::kNone) return dump_json(native_record(item, output));
  Json record = envelope(item);
  record["response"] = {{"status_code", 200},
                        {"request_id", request_id(item)},
                        {"body", envelope_body(item, output)}};
  record["error"] = nullptr;
  return dump_json(record);
}

std::string RecordFormatter::format_error(const InputItem& item, const RequestError& error) const {
  Json details = {{"code", error.code},
                  {"message", error.message},
                  {"file", options_.input_name},
                  {"line", item.line}};
  if (item.envelope != Envelope::kNone) {
    Json record = envelope(item);
    const bool ours = error.code == "numeric" || error.code == "internal";
    const int status = error.code == "model_not_found" ? 404 : ours ? 500 : 400;
    record["response"] = {
        {"status_code", status}, {"request_id", request_id(item)}, {"body", nullptr}};
    record["error"] = std::move(details);
    return dump_json(record);
  }
  Json record = {{"id", id_json(item)}, {"index", item.index}, {"error", std::move(details)}};
  if (!item.metadata.is_null()) record["metadata"] = item.metadata;
  record["input_hash"] = input_hash(item, options_.fingerprint);
  return dump_json(record);
}

Json RecordFormatter::native_record(const InputItem& item, const RequestOutput& output) const {
  Json outputs = Json::array();
  for (const CompletionOutput& sample : output.outputs) {
    outputs.push_back(native_output(item, sample));
  }
  Json record = {{"id", id_json(item)},
                 {"index", item.index},
                 {"outputs", std::move(outputs)},
                 {"usage", usage_json(output)},
                 {"timings", timings_json(output.timings)}};
  if (returns_token_ids(item)) record["prompt_token_ids"] = output.prompt_token_ids;
  if (item.sampling.prompt_logprobs) {
    record["prompt_logprobs"] = prompt_logprobs(output.prompt_logprobs);
  }
  if (!item.metadata.is_null()) record["metadata"] = item.metadata;
  record["input_hash"] = input_hash(item, options_.fingerprint);
  return record;
}

Json RecordFormatter::native_output(const InputItem& item, const CompletionOutput& output) const {
  Json record = {{"index", output.index}};
  const bool has_text = item.sampling.detokenize;
  if (has_text) record["text"] = output.text;
  if (returns_token_ids(item) || !has_text) record["token_ids"] = output.token_ids;
  if (item.sampling.logprobs) record["logprobs"] = native_logprobs(output.logprobs);
  if (output.has_cumulative_logprob) record["cumulative_logprob"] = output.cumulative_logprob;
  record["finish_reason"] = finish_reason_json(output);
  record["stop_reason"] = stop_reason_json(output);
  return record;
}

Json RecordFormatter::logprob_entry(TokenId token, float logprob, std::int32_t rank) const {
  return {{"token_id", token},
          {"token", text_of(token)},
          {"logprob", logprob_json(logprob)},
          {"rank", rank}};
}

Json RecordFormatter::prompt_logprobs(const std::vector<TokenLogprobs>& entries) const {
  Json list = native_logprobs(entries);
  if (!list.empty()) list[0] = nullptr;
  return list;
}

Json RecordFormatter::native_logprobs(const std::vector<TokenLogprobs>& entries) const {
  Json list = Json::array();
  for (const TokenLogprobs& entry : entries) {
    Json record = logprob_entry(entry.token_id, entry.logprob, entry.rank);
    Json top = Json::array();
    for (const TokenLogprobs::Entry& other : entry.top) {
      top.push_back(logprob_entry(other.token_id, other.logprob, other.rank));
    }
    record["top_logprobs"] = std::move(top);
    list.push_back(std::move(record));
  }
  return list;
}

}  // namespace llmrun
