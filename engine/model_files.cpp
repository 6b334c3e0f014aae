#include "engine/model_files.h"

#include "engine/weights/model_location.h"

namespace llmrun {

std::optional<ModelFiles> describe_model_files(const EngineConfig& config,
                                               const ModelConfig& model) {
  const std::string name =
      config.revision.empty() ? config.model : config.model + "@" + config.revision;
  const ModelLocation location = find_model(name, ModelCaches::from_environment());
  if (location.is_shape() || config.load_format == "dummy") return std::nullopt;
  return ModelFiles{.folder = location.folder,
                    .checkpoint = summarize_checkpoint(location, model, config.allow_symlinks)};
}

}  // namespace llmrun
