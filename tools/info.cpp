#include "tools/info.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "engine/core/cpu_info.h"
#include "engine/core/json.h"
#include "engine/core/version.h"
#include "engine/engine_factory.h"
#include "engine/model_files.h"
#include "engine/tokenizer/tokenizer_description.h"
#include "tools/demo_model.h"
#include "tools/library_versions.h"

namespace llmrun {
namespace {

using Rows = std::vector<std::pair<std::string, std::string>>;

std::string describe_scaling(const RopeConfig& rope) {
  const char* name = "";
  switch (rope.scaling) {
    case RopeScaling::kNone: return "";
    case RopeScaling::kLinear: return fmt::format(", linear scaling by {}", rope.factor);
    case RopeScaling::kDynamic: name = "dynamic"; break;
    case RopeScaling::kLlama3: name = "llama3"; break;
    case RopeScaling::kYarn: name = "yarn"; break;
    case RopeScaling::kLongRope:
      return fmt::format(", longrope scaling beyond {} positions", rope.original_max_positions);
  }
  return fmt::format(", {} scaling by {} beyond {} positions", name, rope.factor,
                     rope.original_max_positions);
}

std::string describe_positions(const ModelConfig& model) {
  switch (model.positions) {
    case PositionEncoding::kLearned: return "learned";
    case PositionEncoding::kAlibi: return "ALiBi";
    case PositionEncoding::kRope: break;
  }
  const std::string part =
      model.rotary_size() == model.head_dim
          ? ""
          : fmt::format(", {} of {} dimensions of a head", model.rotary_size(), model.head_dim);
  return fmt::format("rope, theta {}{}{}", model.rope.theta, part, describe_scaling(model.rope));
}

std::string describe_attention(const ModelConfig& model) {
  std::string text = "full";
  const auto is_window = [](std::int32_t width) { return width > 0; };
  const auto num_windows =
      std::count_if(model.sliding_windows.begin(), model.sliding_windows.end(), is_window);
  if (num_windows > 0) {
    const auto width =
        *std::find_if(model.sliding_windows.begin(), model.sliding_windows.end(), is_window);
    text = fmt::format("window of {} in {} of {} layers", width, num_windows, model.num_layers);
  }
  if (model.attention_softcap > 0) text += fmt::format(", soft cap {}", model.attention_softcap);
  return text;
}

Rows model_rows(const ModelDescription& described) {
  const ModelConfig& model = described.model;
  Rows rows = {
      {"model", described.engine.config.model},
      {"architecture", model.architecture},
      {"parameters",
       fmt::format("{:.1f} M", static_cast<double>(described.engine.num_parameters) / 1e6)},
      {"dtype", fmt::format("{}, KV cache {}", to_string(described.engine.dtype),
                            to_string(described.engine.kv_cache_dtype))},
      {"layers", fmt::format("{}", model.num_layers)},
      {"hidden size", fmt::format("{}, MLP {}", model.hidden_size, model.intermediate_size)},
      {"heads", fmt::format("{} query, {} key/value, of {}", model.num_query_heads,
                            model.num_kv_heads, model.head_dim)},
      {"vocabulary", fmt::format("{} rows", model.vocab_size)},
      {"positions", describe_positions(model)},
      {"attention", describe_attention(model)},
      {"context", fmt::format("{} tokens; this run {}", model.max_positions,
                              described.engine.config.max_model_len)},
      {"tokenizer", described.tokenizer},
      {"chat template", described.chat_template},
      {"end of sequence", fmt::format("{}", fmt::join(described.engine.eos_token_ids, ", "))}};
  if (model.num_experts > 0) {
    rows.emplace_back("experts", fmt::format("{} a layer, {} a token", model.num_experts,
                                             model.num_experts_per_token));
  }
  return rows;
}

std::string join_some(const std::vector<std::string>& names) {
  constexpr std::size_t kMaxShown = 3;
  const std::vector<std::string> shown(
      names.begin(),
      names.begin() + static_cast<std::ptrdiff_t>(std::min(kMaxShown, names.size())));
  return fmt::format("{}: {}{}", names.size(), fmt::join(shown, ", "),
                     names.size() > kMaxShown ? ", ..." : "");
}

Rows file_rows(const std::optional<ModelFiles>& files) {
  if (!files) return {{"weights", "random"}};
  const CheckpointSummary& checkpoint = files->checkpoint;
  Rows rows = {{"folder", files->folder.string()},
               {"weights", fmt::format("{}, {:.1f} MiB", to_string(checkpoint.dtype),
                                       static_cast<double>(checkpoint.num_bytes) / (1 << 20))}};
  if (!checkpoint.missing.empty()) {
    rows.emplace_back("missing tensors", join_some(checkpoint.missing) + "; loading will fail");
  }
  if (!checkpoint.unused.empty()) rows.emplace_back("extra tensors", join_some(checkpoint.unused));
  return rows;
}

Rows machine_rows(const ModelDescription& described) {
  const std::string cuda =
      *kCudaToolkit == '\0' ? "without CUDA" : fmt::format("CUDA {}", kCudaToolkit);
  return {{"llmrun", fmt::format("{} {}", kVersion, kGitCommit)},
          {"build", fmt::format("{}, {}, {}", kCompiler, kBuildType, cuda)},
          {"libraries", library_versions()},
          {"device", described.engine.device},
          {"processor", read_cpu_info().model_name}};
}

void print_rows(const char* title, const Rows& rows) {
  fmt::print("{}\n", title);
  constexpr std::size_t kMaxWidth = 80;
  for (auto [name, value] : rows) {
    if (value.size() > kMaxWidth) {  // a line a part
      for (std::size_t at = 0; (at = value.find("; ", at)) != value.npos;) {
        value.replace(at, 2, ";\n" + std::string(19, ' '));
      }
    }
    fmt::print("  {:<16} {}\n", name, value);
  }
}

nlohmann::ordered_json to_json(const Rows& rows) {
  nlohmann::ordered_json json;
  for (const auto& [name, value] : rows) json[name] = value;
  return json;
}

int print_tokenizers(bool as_json) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const TokenizerKind& kind : tokenizer_kinds()) {
    list.push_back({{"tokenizer", kind.name}, {"files", kind.files}, {"models", kind.families}});
    if (!as_json) fmt::print("{:<18} {:<24} {}\n", kind.name, kind.files, kind.families);
  }
  if (as_json) std::cout << dump_json(list, 2) << '\n';
  std::fflush(stdout);
  return 0;
}

int print_architectures(bool as_json) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ArchitectureDescription& known : supported_models()) {
    list.push_back({{"architecture", known.name}, {"models", known.families}});
    if (!as_json) fmt::print("{:<22} {}\n", known.name, known.families);
  }
  if (as_json) std::cout << dump_json(list, 2) << '\n';
  std::fflush(stdout);
  return 0;
}

}  // namespace

void add_info_command(CLI::App& command, InfoOptions& options) {
  add_engine_options(command, options.engine);
  command.add_flag("--json", options.json, "Print JSON");
  command.add_flag("--architectures", options.architectures,
                   "List the supported architectures and the models that have them");
  command.add_flag("--tokenizers", options.tokenizers,
                   "List the supported kinds of tokenizers and the models that have them");
}

int run_info(const InfoOptions& options) {
  if (options.architectures) return print_architectures(options.json);
  if (options.tokenizers) return print_tokenizers(options.json);
  EngineConfig config = resolve(options.engine);
  config.model = model_or_demo(config.model);
  const ModelDescription described = describe_model(config, "auto");
  const MemoryPlan& plan = described.engine.memory_plan;
  std::vector<std::string> notes = described.engine.notes;
  const std::optional<ModelFiles> files = describe_model_files(config, described.model);
  if (files) {
    notes.insert(notes.end(), files->checkpoint.notes.begin(), files->checkpoint.notes.end());
  }
  if (options.json) {
    const nlohmann::ordered_json json = {{"versions_and_device", to_json(machine_rows(described))},
                                         {"model", to_json(model_rows(described))},
                                         {"files", to_json(file_rows(files))},
                                         {"memory",
                                          {{"total_bytes", plan.inputs.total_bytes},
                                           {"weight_bytes", plan.inputs.weight_bytes},
                                           {"activation_bytes", plan.inputs.activation_bytes},
                                           {"kv_pool_bytes", plan.kv_pool_bytes},
                                           {"kv_pool_tokens", plan.kv_pool_tokens},
                                           {"problem", described.memory_problem}}},
                                         {"config", to_json(described.engine.config)},
                                         {"notes", notes}};
    std::cout << dump_json(json, 2) << '\n';
    return 0;
  }
  print_rows("versions and device", machine_rows(described));
  print_rows("model", model_rows(described));
  print_rows("files", file_rows(files));
  if (described.memory_problem.empty()) {
    fmt::print("{}", plan.to_text());
  } else {
    fmt::print("memory plan\n  does not fit: {}\n", described.memory_problem);
  }
  for (const std::string& note : notes) fmt::print("note: {}\n", note);
  std::fflush(stdout);
  return 0;
}

}  // namespace llmrun
