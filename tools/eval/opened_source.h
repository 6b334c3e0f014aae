// An engine or a server, ready to be asked, with what a report and a manifest say of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/engine_factory.h"
#include "tools/api_client/api_server_options.h"
#include "tools/eval/answer_source.h"

namespace llmrun {

struct OpenedSource {
  std::unique_ptr<CreatedEngine> engine;  // null: a server
  std::unique_ptr<AnswerSource> answers;
  std::string model;
  std::string model_fingerprint;    // of a server only its model's name
  std::int64_t num_parameters = 0;  // 0: not known
  std::string dtype;                // empty: not known
  std::string device;
  std::string flags;
  std::vector<std::string> notes;
  std::int32_t max_num_seqs = 1;      // samples that are made at once
  nlohmann::ordered_json generation;  // what answers depend on, besides the model
  nlohmann::ordered_json options;     // what they do not depend on
};

// Throws Error; a chat (`is_chat`) needs a template, of the model or by name.
OpenedSource open_engine(const EngineConfig& config, const std::string& chat_template, bool is_chat,
                         const std::function<void(LoadProgressReport)>& progress);
OpenedSource open_server(const RemoteServer& server, const SendLimits& limits);

}  // namespace llmrun
