// The flags of a command that asks an OpenAI-compatible server, and that server once it is found.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "tools/api_client/send_queue.h"
#include "tools/http/http_client.h"

namespace llmrun {

struct ApiServerOptions {
  std::string base_url;  // with or without /v1; empty: no server
  std::string served_model_name;
  std::vector<std::string> headers;  // "NAME=VALUE"
  std::string extra_body;            // a JSON object
  bool insecure = false;
  std::string ca_file;  // empty: the system's authorities
  double timeout_s = 600;
  double ready_timeout_s = 0;
};

void add_api_server_options(CLI::App& command, ApiServerOptions& options, const std::string& group);
// --query-per-second and --retry.
void add_send_limit_options(CLI::App& command, SendLimits& limits, const std::string& group);

// "NAME=VALUE". Throws Error(kUsage) that names the flag.
std::pair<std::string, std::string> key_and_value(const std::string& flag, const std::string& text);
// The object of --extra-body; empty for an empty text. Throws Error(kUsage).
nlohmann::json parse_extra_body(const std::string& text);

// A server that answers.
struct RemoteServer {
  HttpUrl base_url;                                               // without /v1
  std::vector<std::pair<std::string, std::string>> headers = {};  // Authorization among them
  HttpClient::Options client = HttpClient::Options();
  std::string model;                                     // the name in each request
  nlohmann::json extra_body = nlohmann::json::object();  // on top of each request
};

// Waits until the server at --base-url answers, as long as --ready-check-timeout-sec lets it. A key
// comes from OPENAI_API_KEY; the model is `model`, and where that is empty the first of
// /v1/models. Throws Error(kUsage) for a bad flag, Error(kInput) for a server that does not answer,
// or has not when `is_stopped` (empty: never).
RemoteServer find_api_server(const ApiServerOptions& options, const std::string& model,
                             const std::function<bool()>& is_stopped = {});

}  // namespace llmrun
