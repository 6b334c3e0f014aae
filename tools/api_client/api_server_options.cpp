#include "tools/api_client/api_server_options.h"

#include <chrono>
#include <cstdlib>
#include <thread>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/api_client/api_failure.h"
#include "tools/flag_checks.h"

namespace llmrun {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kModelsPath = "/v1/models";

HttpClientResponse wait_for_models(const RemoteServer& server, double ready_timeout_s,
                                   const std::function<bool()>& is_stopped) {
  const auto end = Clock::now() + std::chrono::duration<double>(ready_timeout_s);
  for (;;) {
    try {
      return http_fetch(server.base_url, {.target = kModelsPath, .headers = server.headers},
                        server.client, is_stopped);
    } catch (const Error&) {
      if (Clock::now() >= end || (is_stopped && is_stopped())) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

std::string first_model(const HttpClientResponse& response, const std::string& place) {
  if (response.head.status != 200) {
    throw Error(ErrorKind::kInput,
                fmt::format("{}: status {}: {}; {}", place, response.head.status,
                            error_message_of(response.body),
                            response.head.status == 401 || response.head.status == 403
                                ? "OPENAI_API_KEY holds the key"
                                : "--served-model-name names the model"));
  }
  const nlohmann::json value = parse_json(response.body, place, kRequestJson);
  const JsonObject object(value, place, ErrorKind::kInput);
  const nlohmann::json& models = object.get_array("data");
  if (models.empty()) throw Error(ErrorKind::kInput, place + ": no model is served");
  return JsonObject(models.front(), place, ErrorKind::kInput).get_string("id");
}

}  // namespace

void add_api_server_options(CLI::App& command, ApiServerOptions& options,
                            const std::string& group) {
  command
      .add_option("--served-model-name", options.served_model_name,
                  "Model in the requests to --base-url (default: --model, else the first of "
                  "/v1/models)")
      ->group(group);
  command
      .add_option("--header", options.headers, "NAME=VALUE for each request; may be given again")
      ->group(group);
  command
      .add_option("--extra-body", options.extra_body,
                  "A JSON object, on top of each request's fields")
      ->group(group);
  command.add_flag("--insecure", options.insecure, "Do not verify the certificate of https")
      ->group(group);
  command
      .add_option("--ca-file", options.ca_file,
                  "PEM file of the authorities that https is verified by, or of the server's own "
                  "certificate (default: the system's authorities)")
      ->group(group);
  command
      .add_option("--timeout", options.timeout_s, "Seconds without a byte until a request failed")
      ->check(number_from(0.01, 1e6))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--ready-check-timeout-sec", options.ready_timeout_s,
                  "Seconds to wait for the server to answer at the start (0: do not wait)")
      ->check(number_from(0.0, 1e6))
      ->group(group)
      ->capture_default_str();
}

void add_send_limit_options(CLI::App& command, SendLimits& limits, const std::string& group) {
  command
      .add_option(
          "--query-per-second", limits.queries_per_second,
          "Send at most so many requests a second, evenly (0: any); for rate-limited servers")
      ->check(number_from(0.0, 1e6))
      ->group(group)
      ->capture_default_str();
  command
      .add_option(
          "--retry", limits.num_retries,
          "Send a request again, up to so often, after a lost connection, a timeout, status "
          "408, 429 or 5xx; waits as Retry-After says, else 0.5 s, doubled each time; at most 60 s")
      ->check(CLI::Range(0, 1000))
      ->group(group)
      ->capture_default_str();
}

std::pair<std::string, std::string> key_and_value(const std::string& flag,
                                                  const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw Error(ErrorKind::kUsage, fmt::format("{}: '{}': expected NAME=VALUE", flag, text));
  }
  return {text.substr(0, equals), text.substr(equals + 1)};
}

nlohmann::json parse_extra_body(const std::string& text) {
  if (text.empty()) return nlohmann::json::object();
  nlohmann::json body =
      parse_json(text, "--extra-body", {.max_depth = 64, .error_kind = ErrorKind::kUsage});
  if (!body.is_object()) {
    throw Error(ErrorKind::kUsage, "--extra-body: expected a JSON object");
  }
  return body;
}

RemoteServer find_api_server(const ApiServerOptions& options, const std::string& model,
                             const std::function<bool()>& is_stopped) {
  RemoteServer server;
  server.base_url = parse_http_url(options.base_url, "--base-url");
  if (server.base_url.path.ends_with("/v1")) {
    server.base_url.path.resize(server.base_url.path.size() - 3);
  }
  server.client.verify_certificate = !options.insecure;
  server.client.ca_file = options.ca_file;
  server.client.timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(1e3 * options.timeout_s));
  if (const char* key = std::getenv("OPENAI_API_KEY"); key != nullptr && *key != '\0') {
    server.headers.emplace_back("Authorization", std::string("Bearer ") + key);
  }
  for (const std::string& header : options.headers) {
    server.headers.push_back(key_and_value("--header", header));
  }
  server.extra_body = parse_extra_body(options.extra_body);
  const HttpClientResponse response = wait_for_models(server, options.ready_timeout_s, is_stopped);
  server.model = !options.served_model_name.empty() ? options.served_model_name
                 : !model.empty()                   ? model
                                  : first_model(response, server.base_url.text() + kModelsPath);
  return server;
}

}  // namespace llmrun
