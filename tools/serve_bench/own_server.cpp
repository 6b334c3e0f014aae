#include "tools/serve_bench/own_server.h"

#include "tools/serve/api_server.h"
#include "tools/serve/http_server.h"

namespace llmrun {

class OwnServer::Impl {
 public:
  Impl(AsyncEngine& engine, const PromptProcessor& prompts, const ApiServer::Options& options)
      : engine_(engine), http_(HttpServer::Options{}), api_(http_, engine, prompts, options) {}
  ~Impl() {
    http_.stop();
    engine_.stop();  // its callbacks know the server
  }

  std::uint16_t port() const { return http_.port(); }

 private:
  AsyncEngine& engine_;
  HttpServer http_;
  ApiServer api_;
};

OwnServer::OwnServer(AsyncEngine& engine, const PromptProcessor& prompts,
                     const EngineDescription& description, const SamplingLimits& limits,
                     const std::string& model_name) {
  ApiServer::Options options;
  options.model_names = {model_name};
  options.max_model_len = description.config.max_model_len;
  options.limits = limits;
  impl_ = std::make_unique<Impl>(engine, prompts, options);
}

OwnServer::~OwnServer() = default;

HttpUrl OwnServer::url() const {
  return {.scheme = "http", .host = "127.0.0.1", .port = std::to_string(impl_->port()), .path = ""};
}

}  // namespace llmrun
