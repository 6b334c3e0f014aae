#include "engine/models/model_config.h"

#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/models/config_reader.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kMaxFileBytes = 16 << 20;

std::optional<TokenId> find_first_token_id(const JsonObject& config, std::string_view key,
                                           std::int64_t vocab_size) {
  const std::vector<TokenId> ids = find_token_ids(config, key, vocab_size);
  if (ids.empty()) return std::nullopt;
  return ids.front();
}

}  // namespace

GenerationDefaults read_generation_defaults(const std::filesystem::path& folder,
                                            std::int64_t vocab_size) {
  GenerationDefaults defaults;
  const std::filesystem::path path = folder / "generation_config.json";
  const auto text = read_file_if_exists(path, kMaxFileBytes, ErrorKind::kModel);
  if (!text) return defaults;
  const nlohmann::json json = parse_json(*text, path.string());
  const JsonObject object(json, path.string());
  const auto find_count = [&](std::string_view key, std::int64_t min) {
    const auto value = object.find_int(key, min, std::int64_t{1} << 30);
    return value ? std::optional(static_cast<std::int32_t>(*value)) : std::nullopt;
  };
  defaults.do_sample = object.find_bool("do_sample");
  defaults.temperature = object.find_float("temperature", 0.0, 100.0);
  defaults.top_p = object.find_float("top_p", 0.0, 1.0);
  defaults.top_k = find_count("top_k", -1);
  defaults.min_p = object.find_float("min_p", 0.0, 1.0);
  defaults.repetition_penalty = object.find_float("repetition_penalty", 1e-6, 1e6);
  defaults.max_new_tokens = find_count("max_new_tokens", 1);
  defaults.bos_token_id = find_first_token_id(object, "bos_token_id", vocab_size);
  defaults.eos_token_ids = find_token_ids(object, "eos_token_id", vocab_size);
  return defaults;
}

}  // namespace llmrun
