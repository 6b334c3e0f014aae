#include "tools/eval/opened_source.h"

#include <utility>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/version.h"
#include "tools/engine_cases.h"
#include "tools/eval/api_answers.h"

namespace llmrun {

OpenedSource open_engine(const EngineConfig& config, const std::string& chat_template, bool is_chat,
                         const std::function<void(LoadProgressReport)>& progress) {
  OpenedSource source;
  source.engine = std::make_unique<CreatedEngine>(create_engine(config, chat_template, progress));
  if (is_chat && !source.engine->prompts->has_chat_template()) {
    throw Error(ErrorKind::kUsage,
                "--apply-chat-template: the model has no chat template; name one by "
                "--chat-template, or leave the flag away");
  }
  const EngineDescription& description = source.engine->description;
  source.answers = std::make_unique<EngineAnswers>(*source.engine);
  source.model = description.config.model;
  source.model_fingerprint = description.model_fingerprint;
  source.num_parameters = description.num_parameters;
  source.dtype = to_string(description.dtype);
  source.device = description.device;
  source.flags = flags_of(description.config);
  source.notes = description.notes;
  source.max_num_seqs = description.config.max_num_seqs;
  source.generation = {{"dtype", source.dtype},
                       {"kv_cache_dtype", to_string(description.kv_cache_dtype)},
                       {"max_model_len", config.max_model_len}};
  source.options = to_json(description.config);
  source.options["git_commit"] = kGitCommit;
  return source;
}

OpenedSource open_server(const RemoteServer& server, const SendLimits& limits) {
  OpenedSource source;
  source.answers = std::make_unique<ApiAnswers>(server, limits);
  source.model = server.model;
  source.model_fingerprint = "served as " + server.model;
  source.device = "server " + server.base_url.text();
  source.flags = fmt::format("{} at {}, at most {} at once", server.model, server.base_url.text(),
                             counted(limits.max_concurrency, "request"));
  source.max_num_seqs = limits.max_concurrency;
  source.generation = nlohmann::ordered_json::object();
  source.options = {{"base_url", server.base_url.text()},
                    {"max_concurrency", limits.max_concurrency},
                    {"query_per_second", limits.queries_per_second},
                    {"retry", limits.num_retries}};
  return source;
}

}  // namespace llmrun
