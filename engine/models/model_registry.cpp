#include "engine/models/model_registry.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/counted.h"
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
  std::string_view model_type;
  std::string_view families;  // for people: models of this architecture
  ReadConfig* read_config;
  MakeModel* make;
};

constexpr std::array kArchitectures = {
    // clang-format off
    Architecture{"LlamaForCausalLM", "llama", "Llama 1, 2, 3, 3.1, 3.2, 3.3, Vicuna, Chinese-Alpaca, DeepSeekMath, TinyLlama, Yi", read_llama_config, make_llama},
    Architecture{"MistralForCausalLM", "mistral", "Mistral 7B", read_mistral_config, make_llama},
    Architecture{"MixtralForCausalLM", "mixtral", "Mixtral 8x7B, 8x22B", read_mixtral_config, make_mixtral},
    Architecture{"Qwen2ForCausalLM", "qwen2", "Qwen2, Qwen2.5", read_qwen2_config, make_qwen2},
    Architecture{"Qwen3ForCausalLM", "qwen3", "Qwen3 (dense)", read_qwen3_config, make_qwen3},
    Architecture{"OPTForCausalLM", "opt", "OPT 125m to 66b, 350m included", read_opt_config, make_opt},
    Architecture{"BaichuanForCausalLM", "baichuan", "Baichuan2 7B and 13B", read_baichuan_config, make_baichuan},
    Architecture{"Gemma2ForCausalLM", "gemma2", "Gemma 2 2B, 9B, 27B", read_gemma2_config, make_gemma2},
    Architecture{"Phi3ForCausalLM", "phi3", "Phi-3 mini and medium, Phi-3.5 mini, Phi-4", read_phi3_config, make_phi3},
    Architecture{"GPT2LMHeadModel", "gpt2", "GPT-2", read_gpt2_config, make_gpt2},
    // clang-format on
};

const Architecture* find_architecture(const std::string& name) {
  const auto it = std::find_if(kArchitectures.begin(), kArchitectures.end(),
                               [&](const Architecture& known) { return known.name == name; });
  return it == kArchitectures.end() ? nullptr : &*it;
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
  return fmt::format(
      "{} not used by {}: {}{}",
      counted(std::ssize(names), "tensor of the checkpoint is", "tensors of the checkpoint are"),
      config.architecture, shown, names.size() > num_shown ? ", ..." : "");
}

LoadedModel load_dummy(const ModelLocation& location, const ModelConfig& config, Backend& backend,
                       const ModelLoadOptions& options) {
  const DTypeChoice choice =
      choose_dtype(options.dtype, config.dtype.value_or(DType::kBf16), options.float16_supported);
  const auto total = static_cast<std::uint64_t>(num_parameters(config)) * dtype_bytes(choice.dtype);
  RandomWeightLoader weights(backend, choice.dtype, options.seed, total, options.progress);
  LoadedModel loaded;
  loaded.model =
      maker_of(config)(config, weights, choose_max_positions(config, options.max_positions));
  loaded.dtype = choice.dtype;
  loaded.fingerprint = fmt::format("dummy:{}:{}", location.name, options.seed);
  loaded.notes = config.notes;
  if (!choice.note.empty()) loaded.notes.push_back(choice.note);
  return loaded;
}

}  // namespace

MakeModel& maker_of(const ModelConfig& config) {
  const Architecture* architecture = find_architecture(config.architecture);
  LLMRUN_CHECK(architecture != nullptr);  // read_model_config let no other through
  return *architecture->make;
}

std::vector<ArchitectureDescription> describe_architectures() {
  std::vector<ArchitectureDescription> described;
  described.reserve(std::size(kArchitectures));
  for (const Architecture& architecture : kArchitectures) {
    described.push_back({std::string(architecture.name), std::string(architecture.families)});
  }
  return described;
}

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  names.reserve(std::size(kArchitectures));
  for (const Architecture& architecture : kArchitectures) names.emplace_back(architecture.name);
  return names;
}

std::string read_architecture(const nlohmann::json& json, const std::string& place) {
  const JsonObject object(json, place);
  if (const nlohmann::json* list = object.find_array("architectures"); list && !list->empty()) {
    if (!list->front().is_string()) {
      object.fail("architectures",
                  fmt::format("expected names, found {}", describe_json(list->front())));
    }
    return list->front().get<std::string>();
  }
  const std::string& model_type = object.get_string("model_type");
  for (const Architecture& known : kArchitectures) {
    if (model_type == known.model_type) return std::string(known.name);
  }
  return model_type;
}

ModelConfig parse_model_config(const nlohmann::json& json, const std::string& place) {
  const std::string name = read_architecture(json, place);
  const Architecture* architecture = find_architecture(name);
  if (architecture == nullptr) {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: architectures: {} is not supported; supported are {}", place,
                            describe_json(nlohmann::json(name)),
                            fmt::join(supported_architectures(), ", ")));
  }
  return architecture->read_config(JsonObject(json, place), name);
}

ModelConfig read_model_config(const ModelLocation& location) {
  if (location.is_shape()) return known_shape(location.shape_name());
  const std::filesystem::path path = location.folder / "config.json";
  const std::string place = path.string();
  return parse_model_config(parse_json(read_file(path, kMaxConfigBytes, ErrorKind::kModel), place),
                            place);
}

std::int64_t num_parameters(const ModelConfig& config) {
  CountingWeightLoader weights;
  maker_of(config)(config, weights, 1);
  return weights.num_parameters();
}

ModelFootprint measure_model(const ModelLocation& location, const ModelConfig& config,
                             const FootprintOptions& options) {
  CountingWeightLoader weights;
  const std::unique_ptr<CausalLm> model = maker_of(config)(config, weights, 1);
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
  loaded.model =
      maker_of(config)(config, weights, choose_max_positions(config, options.max_positions));
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
