#include "tools/serve/api_response.h"

#include <algorithm>
#include <ctime>
#include <iterator>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/output/record_json.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

// Most tokens are plain letters, which need no escaping.
void append_json_text(const std::string& text, std::string& out) {
  const bool is_plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c >= 0x20 && c < 0x7F && c != '"' && c != '\\';
  });
  if (is_plain) {
    out += '"';
    out += text;
    out += '"';
  } else {
    out += dump_json(Json(text));
  }
}

// The part of an output that stop_reason_json and finish_reason_json look at.
CompletionOutput ending_of(const ChoiceDelta& delta) {
  CompletionOutput output;
  output.finish_reason = delta.finish_reason;
  output.stop_string = delta.stop_string;
  output.stop_token_id = delta.stop_token_id;
  return output;
}

}  // namespace

std::string random_id() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{:016x}{:016x}", random(), random());
}

int status_of(const RequestError& error) {
  if (error.code == "model_not_found") return 404;
  if (error.code == "abort") return 503;
  if (error.code == "slow_reader") return 408;
  if (error.code == "timeout") return 504;
  return error.code == "numeric" || error.code == "internal" ? 500 : 400;
}

std::string message_for_client(const RequestError& error) {
  return error.code == "internal" ? "internal error; the server's log says more" : error.message;
}

HttpResponse response_of(const RequestError& error) {
  return error_response(status_of(error), message_for_client(error), error.param);
}

ApiResponseWriter::ApiResponseWriter(const ApiRequest& request, RecordFormatter formatter,
                                     std::vector<std::string> prompt_texts,
                                     std::string_view model_name)
    : request_(request),
      formatter_(std::move(formatter)),
      prompt_texts_(std::move(prompt_texts)),
      id_((is_chat() ? "chatcmpl-" : "cmpl-") + random_id()),
      created_(static_cast<std::int64_t>(std::time(nullptr))),
      model_(model_name),
      choices_(request.prompts.size() * static_cast<std::size_t>(request.sampling().n)) {
  const Json head = {{"id", id_},
                     {"object", is_chat() ? "chat.completion.chunk" : "text_completion"},
                     {"created", created_},
                     {"model", model_}};
  chunk_head_ = dump_json(head);
  chunk_head_.pop_back();  // its closing brace
}

std::size_t ApiResponseWriter::prompt_of(std::int32_t choice) const {
  return static_cast<std::size_t>(choice / request_.sampling().n);
}

// --- whole ---

HttpResponse ApiResponseWriter::whole(const std::vector<RequestOutput>& outputs) const {
  Json choices = Json::array();
  Json texts = Json::array();
  TokenUsage usage;
  for (std::size_t prompt = 0; prompt < outputs.size(); ++prompt) {
    const RequestOutput& output = outputs[prompt];
    usage.num_prompt_tokens += std::ssize(output.prompt_token_ids);
    usage.num_output_tokens += request_.without_output ? 0 : output.num_output_tokens;
    usage.num_cached_tokens += output.num_cached_tokens;
    for (const CompletionOutput& sample : output.outputs) {
      if (request_.endpoint == ApiEndpoint::kGenerate) {
        texts.push_back(prompt_texts_[prompt] + sample.text);
      } else {
        choices.push_back(whole_choice(prompt, output, sample));
      }
    }
  }
  if (request_.endpoint == ApiEndpoint::kGenerate) {
    return {.body = dump_json(Json{{"text", std::move(texts)}})};
  }
  const Json body = {{"id", id_},
                     {"object", is_chat() ? "chat.completion" : "text_completion"},
                     {"created", created_},
                     {"model", model_},
                     {"choices", std::move(choices)},
                     {"usage", openai_usage_json(usage.num_prompt_tokens, usage.num_output_tokens,
                                                 usage.num_cached_tokens)}};
  return {.body = dump_json(body)};
}

Json ApiResponseWriter::whole_choice(std::size_t prompt, const RequestOutput& output,
                                     const CompletionOutput& sample) const {
  const InputItem& item = request_.prompts[prompt];
  Json choice = formatter_.choice(item, sample);
  choice["index"] = static_cast<std::int32_t>(prompt) * request_.sampling().n + sample.index;
  if (request_.returns_token_ids()) choice["prompt_token_ids"] = output.prompt_token_ids;
  if (request_.echo) add_echo(prompt, output, sample, choice);
  if (item.sampling.prompt_logprobs && !request_.echo) {
    choice["prompt_logprobs"] = formatter_.prompt_logprobs(output.prompt_logprobs);
  }
  return choice;
}

// The prompt's text and log-probabilities before those of the output. Nothing predicts the first
// token.
void ApiResponseWriter::add_echo(std::size_t prompt, const RequestOutput& output,
                                 const CompletionOutput& sample, Json& choice) const {
  const InputItem& item = request_.prompts[prompt];
  choice["text"] = prompt_texts_[prompt] + (request_.without_output ? "" : sample.text);
  if (!item.sampling.logprobs || output.prompt_logprobs.empty()) return;
  std::vector<TokenLogprobs> entries = output.prompt_logprobs;
  entries[0].token_id = output.prompt_token_ids[0];
  if (!request_.without_output) {
    entries.insert(entries.end(), sample.logprobs.begin(), sample.logprobs.end());
  }
  Json logprobs = formatter_.logprobs_of(item, entries);
  logprobs["token_logprobs"][0] = nullptr;
  logprobs["top_logprobs"][0] = nullptr;
  choice["logprobs"] = std::move(logprobs);
}

// --- streamed ---

const char* ApiResponseWriter::stream_content_type() const {
  return request_.endpoint == ApiEndpoint::kGenerate ? "application/x-ndjson"
                                                     : "text/event-stream; charset=utf-8";
}

void ApiResponseWriter::append_delta(const ChoiceDelta& delta, const TokenUsage& usage,
                                     std::string& out) {
  if (request_.endpoint == ApiEndpoint::kGenerate) return append_generate_line(delta, out);
  ChoiceState& state = choices_[static_cast<std::size_t>(delta.choice)];
  const InputItem& item = request_.prompts[prompt_of(delta.choice)];
  std::string text = delta.text;
  if (!state.is_started && request_.echo) {
    text.insert(0, prompt_texts_[prompt_of(delta.choice)]);
  }
  if (!state.is_started && is_chat()) {
    fmt::format_to(std::back_inserter(out),
                   "data: {},\"choices\":[{{\"index\":{},\"delta\":{{\"role\":\"assistant\","
                   "\"content\":\"\"}},\"logprobs\":null,\"finish_reason\":null}}]{}}}\n\n",
                   chunk_head_, delta.choice, usage_member({}));
  }
  state.is_started = true;
  out += "data: ";
  out += chunk_head_;
  out += ",\"choices\":[{\"index\":";
  out += std::to_string(delta.choice);
  out += is_chat() ? ",\"delta\":{\"content\":" : ",\"text\":";
  append_json_text(text, out);
  if (is_chat()) out += '}';
  out += ",\"logprobs\":";
  out += item.sampling.logprobs && !delta.logprobs.empty()
             ? dump_json(formatter_.logprobs_of(item, delta.logprobs, state.num_characters))
             : "null";
  state.num_characters += num_characters(text);
  if (delta.finish_reason == FinishReason::kNone) {
    out += ",\"finish_reason\":null";
  } else {
    const CompletionOutput ending = ending_of(delta);
    fmt::format_to(std::back_inserter(out), ",\"finish_reason\":{},\"stop_reason\":{}",
                   dump_json(finish_reason_json(ending)), dump_json(stop_reason_json(ending)));
  }
  if (request_.returns_token_ids()) {
    fmt::format_to(std::back_inserter(out), ",\"token_ids\":{}", dump_json(Json(delta.token_ids)));
  }
  out += "}]";
  out += usage_member(usage);
  out += "}\n\n";
}

std::string ApiResponseWriter::usage_member(const TokenUsage& usage) const {
  if (request_.continuous_usage && usage.num_prompt_tokens > 0) {
    return ",\"usage\":" +
           dump_json(openai_usage_json(usage.num_prompt_tokens, usage.num_output_tokens,
                                       usage.num_cached_tokens));
  }
  return request_.include_usage ? ",\"usage\":null" : "";
}

void ApiResponseWriter::append_generate_line(const ChoiceDelta& delta, std::string& out) {
  choices_[static_cast<std::size_t>(delta.choice)].text += delta.text;
  Json texts = Json::array();
  for (std::size_t i = 0; i < choices_.size(); ++i) {
    texts.push_back(prompt_texts_[prompt_of(static_cast<std::int32_t>(i))] + choices_[i].text);
  }
  out += dump_json(Json{{"text", std::move(texts)}});
  out += '\n';
}

void ApiResponseWriter::append_error(int status, std::string_view message, std::string& out) const {
  const std::string body = error_response(status, message).body;
  out += request_.endpoint == ApiEndpoint::kGenerate ? body + "\n" : "data: " + body + "\n\n";
}

void ApiResponseWriter::append_end(const TokenUsage& usage, std::string& out) const {
  if (request_.endpoint == ApiEndpoint::kGenerate) return;
  if (request_.include_usage) {
    fmt::format_to(std::back_inserter(out), "data: {},\"choices\":[],\"usage\":{}}}\n\n",
                   chunk_head_,
                   dump_json(openai_usage_json(usage.num_prompt_tokens, usage.num_output_tokens,
                                               usage.num_cached_tokens)));
  }
  out += "data: [DONE]\n\n";
}

}  // namespace llmrun
