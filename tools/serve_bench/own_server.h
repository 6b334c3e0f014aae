// The own server on a free port of loopback, over an engine of this process.
#pragma once

#include <memory>
#include <string>

#include "engine/async_engine.h"
#include "engine/engine_factory.h"
#include "tools/http/url.h"

namespace llmrun {

class OwnServer {
 public:
  // All must outlive this object. Throws Error.
  OwnServer(AsyncEngine& engine, const PromptProcessor& prompts,
            const EngineDescription& description, const SamplingLimits& limits,
            const std::string& model_name);
  ~OwnServer();  // stops the engine too

  HttpUrl url() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llmrun
