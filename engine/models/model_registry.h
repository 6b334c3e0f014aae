// From a model's location to a model that runs: which architecture, which dtype, which weights.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/models/causal_lm.h"
#include "engine/models/weight_loader.h"
#include "engine/weights/model_location.h"

namespace llmrun {

// The architecture that config.json names: its first `architectures` entry, else the one its
// `model_type` stands for. `place` begins error messages. Throws Error(kModel).
std::string read_architecture(const nlohmann::json& json, const std::string& place);

// Throws Error(kModel): "<place>: <key>: expected ..., found ...".
ModelConfig parse_model_config(const nlohmann::json& json, const std::string& place);

// The configuration of a folder or of a known shape. Throws Error(kModel), for an unknown
// architecture with the list of the supported ones.
ModelConfig read_model_config(const ModelLocation& location);

// What is supported, for people.
struct ArchitectureDescription {
  std::string name;      // as config.json says it
  std::string families;  // published models that have it
};
std::vector<ArchitectureDescription> describe_architectures();

// Architectures as config.json names them.
std::vector<std::string> supported_architectures();

std::int64_t num_parameters(const ModelConfig& config);

// What weights are stored and multiplied in.
struct DTypeChoice {
  DType dtype = DType::kF32;
  std::string note;  // empty, or why it is not the checkpoint's
};

// `requested`: auto | float32 | bfloat16 | float16 (also float, half). auto keeps the checkpoint's,
// but turns float16 into bfloat16 where float16 is not supported. Throws Error(kUsage).
DTypeChoice choose_dtype(const std::string& requested, DType checkpoint_dtype,
                         bool float16_supported);

// What a model will take, known before anything is loaded.
struct ModelFootprint {
  DTypeChoice dtype;
  std::int64_t num_parameters = 0;
  std::size_t weight_bytes = 0;     // num_parameters in that dtype; a backend may pad
  std::size_t workspace_bytes = 0;  // see CausalLm::workspace_bytes
};

struct FootprintOptions {
  std::string dtype = "auto";
  bool float16_supported = true;
  bool dummy_weights = false;
  bool allow_symlinks = false;
  std::optional<DType> activation_dtype;  // of the workspace; nullopt: the weights'
  std::int64_t max_tokens = 0;
  std::int64_t max_logits_rows = 0;
};

ModelFootprint measure_model(const ModelLocation& location, const ModelConfig& config,
                             const FootprintOptions& options);

struct ModelLoadOptions {
  std::string dtype = "auto";
  bool float16_supported = true;   // by the backend, as a weight's dtype
  bool dummy_weights = false;      // random weights of the right shape; always so for shape:NAME
  std::uint64_t seed = 0;          // of dummy weights
  std::int64_t max_positions = 0;  // longest context that will be used; 0: the model's
  bool allow_symlinks = false;     // see Checkpoint::Options
  LoadProgress progress{};
};

struct LoadedModel {
  std::unique_ptr<CausalLm> model;
  DType dtype = DType::kF32;       // of the weights on the device
  std::string fingerprint;         // see Checkpoint::fingerprint; of dummy weights their origin
  std::vector<std::string> notes;  // for the user, one line each
};

// Throws Error(kModel) for a bad checkpoint, Error(kUsage) for a bad dtype, Error(kMemory).
LoadedModel load_model(const ModelLocation& location, Backend& backend,
                       const ModelLoadOptions& options);

}  // namespace llmrun
