#include "tools/serve/api_server.h"

#include <algorithm>
#include <ctime>
#include <exception>
#include <optional>
#include <random>
#include <utility>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/core/version.h"
#include "tools/input/request_checks.h"
#include "tools/serve/chat_page.h"
#include "tools/serve/generation.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kModelsFolder = "/v1/models/";
constexpr std::size_t kMaxBytesPerToken = 256;

HttpResponse json_response(const Json& body) {
  return {.body = dump_json(body)};
}

bool is_known_path(std::string_view path) {
  constexpr std::string_view kPaths[] = {
      "/",         "/health",         "/version",  "/v1/models",
      "/metrics",  "/v1/completions", "/generate", "/v1/chat/completions",
      "/tokenize", "/detokenize"};
  return std::find(std::begin(kPaths), std::end(kPaths), path) != std::end(kPaths);
}

HttpResponse no_such(const HttpRequest& request) {
  if (is_known_path(request.path)) {
    return error_response(405, "this path does not take this method");
  }
  return error_response(404, "no such path");
}

// Forms and plain text are what a page of another origin can post without asking. vLLM's guide to
// /generate uses curl's default, which is a form's; pages send an Origin, curl does not.
bool has_json_content(const HttpRequest& request) {
  const std::string* type = request.header("content-type");
  if (type != nullptr && type->starts_with("application/json")) return true;
  return request.path == "/generate" && request.header("origin") == nullptr;
}

std::uint64_t random_number() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

// A field of /tokenize and /detokenize.
bool flag_or(const Json& body, const char* name, bool otherwise) {
  const auto found = body.find(name);
  return found != body.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

}  // namespace

std::size_t max_prompt_bytes(std::int64_t max_model_len) {
  return static_cast<std::size_t>(max_model_len) * kMaxBytesPerToken;
}

ApiServer::ApiServer(HttpServer& http, AsyncEngine& engine, const PromptProcessor& prompts,
                     const Options& options)
    : http_(http),
      engine_(engine),
      prompts_(prompts),
      options_(options),
      access_(options.access),
      started_at_(static_cast<std::int64_t>(std::time(nullptr))),
      next_key_(random_number()) {
  rules_.defaults = options.defaults;
  if (rules_.defaults.max_tokens) {  // the model's, which may be for a longer context
    rules_.defaults.max_tokens = static_cast<std::int32_t>(
        std::min<std::int64_t>(*rules_.defaults.max_tokens, options.max_model_len));
  }
  rules_.limits = options.limits;
  rules_.max_prompt_bytes = max_prompt_bytes(options.max_model_len);
  rules_.model_names = options.model_names;
  rules_.refuse_unknown_fields = true;
  http.start([this](const std::shared_ptr<HttpExchange>& exchange) { handle(exchange); });
}

// An exception ends its request only.
void ApiServer::handle(const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request();
  HttpResponse response;
  try {
    if (auto refused = access_.refuse(request)) {
      response = std::move(*refused);
    } else if (request.method == "POST") {
      handle_post(exchange);
      return;
    } else if (request.method == "OPTIONS" && request.header("origin") != nullptr) {
      response.status = 204;
    } else {
      response = request.method == "GET" ? answer_get(request) : no_such(request);
    }
  } catch (const std::exception&) {
    response = error_response(500, "internal error");
  }
  const HttpHeaders headers = access_.cross_origin_headers(request);
  response.headers.insert(response.headers.end(), headers.begin(), headers.end());
  exchange->respond(std::move(response));
}

HttpResponse ApiServer::answer_get(const HttpRequest& request) const {
  if (request.path == "/health") return health();
  if (request.path == "/version") return json_response({{"version", kVersion}});
  if (request.path == "/v1/models") return models();
  if (request.path.starts_with(kModelsFolder)) {
    return model(std::string_view(request.path).substr(kModelsFolder.size()));
  }
  if (request.path == "/metrics") {
    return {.body = metrics_.to_text(engine_.status().stats, options_.model_names.front()),
            .content_type = "text/plain; version=0.0.4; charset=utf-8"};
  }
  if (request.path == "/") {
    return {.body = std::string(chat_page()),
            .content_type = "text/html; charset=utf-8",
            .headers = {{"Content-Security-Policy", chat_page_policy()},
                        {"X-Content-Type-Options", "nosniff"},
                        {"Referrer-Policy", "no-referrer"}}};
  }
  return no_such(request);
}

HttpResponse ApiServer::health() const {
  const AsyncEngine::Status status = engine_.status();
  const char* state = "ok";
  if (status.failed) {
    state = "failed";
  } else if (!status.leak.empty()) {
    state = "degraded";
  } else if (status.progress.seconds > step_limit_s(status.progress, options_.stall_timeout_s)) {
    state = "stalled";
  } else if (draining_) {
    state = "draining";
  }
  HttpResponse response = json_response(
      {{"status", state}, {"last_step_age_s", std::round(status.progress.seconds * 1e3) / 1e3}});
  if (std::string_view(state) != "ok") response.status = 503;
  return response;
}

Json ApiServer::describe_model(const std::string& name) const {
  return {{"id", name},
          {"object", "model"},
          {"created", started_at_},
          {"owned_by", "llmrun"},
          {"root", options_.model_names.front()},
          {"parent", nullptr},
          {"max_model_len", options_.max_model_len}};
}

HttpResponse ApiServer::models() const {
  Json data = Json::array();
  for (const std::string& name : options_.model_names) data.push_back(describe_model(name));
  return json_response({{"object", "list"}, {"data", std::move(data)}});
}

HttpResponse ApiServer::model(std::string_view name) const {
  const auto& names = options_.model_names;
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return error_response(404, "no such model is served here", "model");
  return json_response(describe_model(*found));
}

void ApiServer::handle_post(const std::shared_ptr<HttpExchange>& exchange) {
  const HttpRequest& request = exchange->request();
  const HttpHeaders headers = access_.cross_origin_headers(request);
  const auto respond = [&](HttpResponse response) {
    response.headers.insert(response.headers.end(), headers.begin(), headers.end());
    exchange->respond(std::move(response));
  };
  std::optional<ApiEndpoint> endpoint;
  if (request.path == "/v1/completions") endpoint = ApiEndpoint::kCompletions;
  if (request.path == "/v1/chat/completions") endpoint = ApiEndpoint::kChatCompletions;
  if (request.path == "/generate") endpoint = ApiEndpoint::kGenerate;
  const bool is_tokenize = request.path == "/tokenize";
  if (!endpoint && !is_tokenize && request.path != "/detokenize") return respond(no_such(request));
  if (!has_json_content(request)) {
    return respond(error_response(415, "Content-Type must be application/json"));
  }
  std::string problem;
  auto body = try_parse_ordered_json(request.body, kRequestJson, problem);
  if (!body) return respond(error_response(400, "the body is not JSON: " + problem));
  if (!body->is_object()) {
    return respond(error_response(400, "expected an object, found " + describe_json(*body)));
  }
  if (endpoint) return handle_generation(exchange, *endpoint, std::move(*body));
  respond(is_tokenize ? tokenize(*body) : detokenize(*body));
}

void ApiServer::handle_generation(const std::shared_ptr<HttpExchange>& exchange,
                                  ApiEndpoint endpoint, Json body) {
  const HttpHeaders headers = access_.cross_origin_headers(exchange->request());
  const auto refuse = [&](HttpResponse response) {
    response.headers.insert(response.headers.end(), headers.begin(), headers.end());
    exchange->respond(std::move(response));
  };
  if (draining_) {
    HttpResponse response = error_response(503, "the server is shutting down");
    response.headers.emplace_back("Retry-After", "30");
    return refuse(std::move(response));
  }
  ApiRequest request;
  if (const auto error =
          parse_api_request(endpoint, std::move(body), rules_, options_.max_model_len, request)) {
    return refuse(response_of(*error));
  }
  const std::uint64_t cache_salt = request.cache_salt ^ access_.tenant(exchange->request());
  std::vector<EngineRequest> engine_requests;
  std::vector<std::string> prompt_texts;
  const bool needs_texts = request.echo || endpoint == ApiEndpoint::kGenerate;
  for (const InputItem& item : request.prompts) {
    PromptProcessor::Result result = tokenize_prompt(item, prompts_, options_.max_model_len);
    if (!result.error.empty()) return refuse(response_of(result.error));
    if (needs_texts && item.kind == PromptKind::kText) {
      prompt_texts.push_back(item.prompt);
    } else if (needs_texts) {
      prompt_texts.push_back(prompts_.tokenizer() == nullptr
                                 ? std::string()
                                 : prompts_.tokenizer()->decode(result.token_ids, false));
    }
    engine_requests.push_back({.prompt_token_ids = std::move(result.token_ids),
                               .params = item.sampling,
                               .key = next_key_.fetch_add(1),
                               .cache_salt = cache_salt});
  }
  RecordFormatter formatter({.token_text = [tokenizer = prompts_.tokenizer()](TokenId id) {
    return tokenizer == nullptr ? std::string() : std::string(tokenizer->token_bytes(id));
  }});
  const std::string model_name = request.prompts.front().model;
  const auto generation = std::make_shared<Generation>(
      Generation::Services{
          .engine = engine_,
          .metrics = metrics_,
          .run_on_worker =
              [this](std::function<void()> work) { http_.run_on_worker(std::move(work)); },
          .headers = headers,
          .max_unsent_bytes = options_.max_unsent_bytes},
      exchange, std::move(request),
      Generation::Reply{std::move(formatter), std::move(prompt_texts), model_name});
  generation->start(std::move(engine_requests));
}

HttpResponse ApiServer::tokenize(const Json& body) const {
  const auto& tokenizer = prompts_.tokenizer();
  if (tokenizer == nullptr) return error_response(400, "this model has no tokenizer");
  InputItem item;
  std::optional<RequestError> error;
  std::vector<TokenId> ids;
  if (body.contains("messages")) {
    if ((error = parse_messages(body["messages"], rules_, item))) {
      error->param = "messages";
      return response_of(*error);
    }
    PromptProcessor::Result result = prompts_.from_messages(
        item.messages, body.value("tools", Json()), body.value("chat_template_kwargs", Json()));
    if (!result.error.empty()) return response_of(result.error);
    ids = std::move(result.token_ids);
  } else {
    const auto prompt = body.find("prompt");
    if (prompt == body.end() || !prompt->is_string()) {
      return error_response(400, "expected a prompt (text) or messages", "prompt");
    }
    const std::string& text = prompt->get_ref<const std::string&>();
    if (text.size() > rules_.max_prompt_bytes) {
      return error_response(400, "the prompt is too long for the context", "prompt");
    }
    ids = tokenizer->encode(text, flag_or(body, "add_special_tokens", true));
  }
  Json answer = {{"count", ids.size()}, {"max_model_len", options_.max_model_len}, {"tokens", ids}};
  if (flag_or(body, "return_token_strs", false)) {
    answer["token_strs"] = Json::array();
    for (const TokenId id : ids) answer["token_strs"].push_back(tokenizer->piece(id));
  }
  return json_response(answer);
}

HttpResponse ApiServer::detokenize(const Json& body) const {
  const auto& tokenizer = prompts_.tokenizer();
  if (tokenizer == nullptr) return error_response(400, "this model has no tokenizer");
  const auto tokens = body.find("tokens");
  if (tokens == body.end() || !tokens->is_array()) {
    return error_response(400, "tokens: expected an array of token ids", "tokens");
  }
  std::vector<TokenId> ids;
  for (const Json& token : *tokens) {
    const auto id = as_integer(token);
    if (!id || *id < 0 || *id >= tokenizer->vocab_size()) {
      return error_response(400,
                            fmt::format("tokens[{}]: expected a token id below {}, found {}",
                                        ids.size(), tokenizer->vocab_size(), describe_json(token)),
                            "tokens");
    }
    ids.push_back(static_cast<TokenId>(*id));
  }
  return json_response({{"prompt", tokenizer->decode(ids, false)}});
}

}  // namespace llmrun
