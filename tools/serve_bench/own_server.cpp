#include "tools/serve_bench/own_server.h"

#include "engine/core/error.h"

namespace llmrun {

class OwnServer::Impl {};

OwnServer::OwnServer(AsyncEngine& /*engine*/, const PromptProcessor& /*prompts*/,
                     const EngineDescription& /*description*/, std::int64_t /*vocab_size*/,
                     const std::string& /*model_name*/) {
  throw Error(ErrorKind::kUsage, "--modes http: this build has no server");
}
OwnServer::~OwnServer() = default;
HttpUrl OwnServer::url() const {
  return {};
}

}  // namespace llmrun
