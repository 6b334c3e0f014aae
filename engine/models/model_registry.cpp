#include "engine/models/model_registry.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/models/architectures.h"
#include "engine/models/known_shapes.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 16 << 20;

struct Architecture {
  std::string_view name;
  std::unique_ptr<CausalLm> (*make)(const ModelConfig& config, WeightLoader& weights,
                                    std::int64_t max_positions);
};

constexpr std::array kArchitectures = {
    Architecture{"LlamaForCausalLM", make_llama},
    Architecture{"MistralForCausalLM", make_llama},
    Architecture{"Qwen2ForCausalLM", make_qwen2},
};

const Architecture* find_architecture(const std::string& name) {
  const auto it = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                               [&](const Architecture& known) { return known.name == name; });
  return it == kArchitectures.end() ? nullptr : &*it;
}

const Architecture& architecture_of(const ModelConfig& config) {
  const Architecture* architecture = find_architecture(config.architecture);
  LLMRUN_CHECK(architecture != nullptr);  // read_model_config let no other through
  return *architecture;
}

std::int64_t choose_max_positions(const ModelConfig& config, std::int64_t requested) {
  if (requested <= 0) return config.max_positions;
  return std::min(requested, config.max_positions);
}

std::string describe_unused(const std::vector<std::string>& names, const ModelConfig& config) {
  constexpr std::size_t kMaxShown = 3;
  const std::size_t num_shown = std::min(kMaxShown, names.size());
  std::string shown;
  for (std::size_t i = 0; i < num_shown; ++i) {
    shown += (i == 0 ? "" : ", ") + describe_json(nlohmann::json(names[i]));
  }
  return fmt::format("{} tensors of the checkpoint are not used by {}: {}{}", names.size(),
                     config.architecture, shown, names.size() > num_shown ? ", ..." : "");
}

LoadedModel load_dummy(const ModelLocation& location, const ModelConfig& config, Backend& backend,
                       const ModelLoadOptions& options) {
  const DTypeChoice choice =
      choose_dtype(options.dtype, config.dtype.value_or(DType::kBf16), options.float16_supported);
  const auto total = static_cast<std::uint64_t>(num_parameters(config)) * dtype_bytes(choice.dtype);
  RandomWeightLoader weights(backend, choice.dtype, options.seed, total, options.progress);
  LoadedModel loaded;
  loaded.model = architecture_of(config).make(config, weights,
                                              choose_max_positions(config, options.max_positions));
  loaded.dtype = choice.dtype;
  loaded.fingerprint = fmt::format("dummy:{}:{}", location.name, options.seed);
  loaded.notes = config.notes;
  if (!choice.note.empty()) loaded.notes.push_back(choice.note);
  return loaded;
}

}  // namespace

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  for (const Architecture& architecture : kArchitectures) names.emplace_back(architecture.name);
  return names;
}

ModelConfig read_model_config(const ModelLocation& location) {
  if (location.is_shape()) return known_shape(location.shape_name());
  const std::filesystem::path path = location.folder / "config.json";
  const std::string place = path.string();
  const nlohmann::json json =
      parse_json(read_file(path, kMaxConfigBytes, ErrorKind::kModel), place);
  const std::string architecture = read_architecture(json, place);
  if (find_architecture(architecture) == nullptr) {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: architectures: {} is not supported; supported are {}", place,
                            describe_json(nlohmann::json(architecture)),
                            fmt::join(supported_architectures(), ", ")));
  }
  return parse_model_config(json, place);
}

std::int64_t num_parameters(const ModelConfig& config) {
  CountingWeightLoader weights;
  architecture_of(config).make(config, weights, 1);
  return weights.num_parameters();
}

ModelFootprint measure_model(const ModelLocation& location, const ModelConfig& config,
                             const FootprintOptions& options) {
  CountingWeightLoader weights;
  const std::unique_ptr<CausalLm> model = architecture_of(config).make(config, weights, 1);
  DType checkpoint_dtype = config.dtype.value_or(DType::kBf16);
  if (!config.dtype && !location.is_shape() && !options.dummy_weights) {
    checkpoint_dtype =
        Checkpoint(location.folder, {.allow_symlinks = options.allow_symlinks}).main_dtype();
  }
  ModelFootprint footprint;
  footprint.dtype = choose_dtype(options.dtype, checkpoint_dtype, options.float16_supported);
  footprint.num_parameters = weights.num_parameters();
  footprint.weight_bytes =
      static_cast<std::size_t>(footprint.num_parameters) * dtype_bytes(footprint.dtype.dtype);
  footprint.workspace_bytes =
      model->workspace_bytes(options.activation_dtype.value_or(footprint.dtype.dtype),
                             options.max_tokens, options.max_logits_rows);
  return footprint;
}

DTypeChoice choose_dtype(const std::string& requested, DType checkpoint_dtype,
                         bool float16_supported) {
  if (requested == "auto") {
    if (checkpoint_dtype != DType::kF16 || float16_supported) return {checkpoint_dtype, {}};
    return {DType::kBf16,
            "the checkpoint is float16, which this device does not multiply in: using bfloat16 "
            "(--dtype float32 keeps every bit)"};
  }
  if (requested == "float32" || requested == "float") return {DType::kF32, {}};
  if (requested == "bfloat16") return {DType::kBf16, {}};
  if (requested != "float16" && requested != "half") {
    throw Error(ErrorKind::kUsage,
                fmt::format("--dtype: expected auto, float32, bfloat16 or float16, found \"{}\"",
                            requested));
  }
  if (!float16_supported) {
    throw Error(
        ErrorKind::kUsage,
        "--dtype float16: this device does not multiply in float16; use bfloat16 or float32");
  }
  return {DType::kF16, {}};
}

LoadedModel load_model(const ModelLocation& location, Backend& backend,
                       const ModelLoadOptions& options) {
  const ModelConfig config = read_model_config(location);
  if (location.is_shape() || options.dummy_weights) {
    return load_dummy(location, config, backend, options);
  }
  Checkpoint checkpoint(location.folder, {.allow_symlinks = options.allow_symlinks});
  const DType checkpoint_dtype = config.dtype ? *config.dtype : checkpoint.main_dtype();
  DTypeChoice choice = choose_dtype(options.dtype, checkpoint_dtype, options.float16_supported);
  CheckpointWeightLoader weights(checkpoint, backend, choice.dtype, options.progress);
  LoadedModel loaded;
  loaded.model = architecture_of(config).make(config, weights,
                                              choose_max_positions(config, options.max_positions));
  loaded.dtype = choice.dtype;
  loaded.fingerprint = checkpoint.fingerprint();
  loaded.notes = config.notes;
  loaded.notes.insert(loaded.notes.end(), checkpoint.notes().begin(), checkpoint.notes().end());
  if (!choice.note.empty()) loaded.notes.push_back(std::move(choice.note));
  const std::vector<std::string> unused = checkpoint.unused_names();
  if (!unused.empty()) loaded.notes.push_back(describe_unused(unused, config));
  return loaded;
}

}  // namespace llmrun
