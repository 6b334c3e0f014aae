#include "engine/tokenizer/tokenizer_config.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/tokenizer/token_table.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kMaxConfigBytes = 64 << 20;

// The file's JSON; null when there is no such file.
nlohmann::json load_json(const std::filesystem::path& path) {
  const std::optional<std::string> text =
      read_file_if_exists(path, kMaxConfigBytes, ErrorKind::kModel);
  if (!text) return nullptr;
  const JsonLimits limits{.reject_duplicate_keys = false};
  return parse_json(*text, path.string(), limits);
}

// A special token is written as a string or as an object with its flags.
std::optional<AddedToken> parse_special_token(const nlohmann::json* value,
                                              const std::string& place) {
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) {
    return AddedToken{.content = value->get<std::string>(), .normalized = false, .special = true};
  }
  AddedToken token = parse_added_token(*value, place);
  token.special = true;
  token.normalized = value->value("normalized", false);
  return token;
}

TokenId parse_id(const std::string& text, const std::string& place) {
  TokenId id = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size() || id < 0 || id > kMaxTokenId) {
    throw Error(ErrorKind::kModel, fmt::format("{}: expected a token id from 0 to {}, found {}",
                                               place, kMaxTokenId, describe_json(text)));
  }
  return id;
}

void read_special_tokens(const JsonObject& object, TokenizerConfig& config) {
  const auto read = [&](const char* key, std::optional<AddedToken>& token) {
    if (auto found = parse_special_token(object.find(key), object.place() + ": " + key)) {
      token = std::move(found);
    }
  };
  read("bos_token", config.bos_token);
  read("eos_token", config.eos_token);
  read("unk_token", config.unk_token);
  read("pad_token", config.pad_token);
  for (const char* key : {"sep_token", "cls_token", "mask_token"}) {
    std::optional<AddedToken> token;
    read(key, token);
    if (token) config.other_special_tokens.push_back(std::move(*token));
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const nlohmann::json* list = object.find(key);
    if (list == nullptr || !list->is_array()) continue;
    for (const nlohmann::json& value : *list) {
      config.other_special_tokens.push_back(
          *parse_special_token(&value, object.place() + ": " + key));
    }
  }
}

void read_added_tokens_decoder(const JsonObject& object, TokenizerConfig& config) {
  const std::optional<JsonObject> decoder = object.find_object("added_tokens_decoder");
  if (!decoder) return;
  for (const auto& [key, value] : decoder->json().items()) {
    const std::string place = fmt::format("{}: {}", decoder->place(), key);
    config.added_tokens.emplace_back(parse_id(key, place), parse_added_token(value, place));
  }
}

// {"<token>": id, ...}: the older way to add tokens.
void read_added_tokens_file(const JsonObject& object, TokenizerConfig& config) {
  const std::unordered_set<std::string> special_contents = config.special_contents();
  for (const auto& [content, unused] : object.json().items()) {
    const bool special = special_contents.count(content) != 0;
    config.added_tokens.emplace_back(
        static_cast<TokenId>(object.get_int(content, 0, kMaxTokenId)),
        AddedToken{.content = content, .normalized = !special, .special = special});
  }
}

}  // namespace

std::vector<AddedToken> TokenizerConfig::special_tokens() const {
  std::vector<AddedToken> tokens;
  std::unordered_set<std::string_view> contents;
  const auto add = [&](const AddedToken& token) {
    if (contents.insert(token.content).second) tokens.push_back(token);
  };
  for (const auto* token : {&bos_token, &eos_token, &unk_token, &pad_token}) {
    if (*token) add(**token);
  }
  for (const AddedToken& token : other_special_tokens) add(token);
  return tokens;
}

std::unordered_set<std::string> TokenizerConfig::special_contents() const {
  std::unordered_set<std::string> contents;
  for (AddedToken& token : special_tokens()) contents.insert(std::move(token.content));
  return contents;
}

TokenizerConfig load_tokenizer_config(const std::filesystem::path& model_dir) {
  TokenizerConfig config;
  const auto object_of = [](const nlohmann::json& value, const std::filesystem::path& path) {
    return JsonObject(value, path.string());
  };
  const std::filesystem::path config_path = model_dir / "tokenizer_config.json";
  const nlohmann::json config_json = load_json(config_path);
  bool has_added_tokens = false;
  if (!config_json.is_null()) {
    const JsonObject object = object_of(config_json, config_path);
    config.tokenizer_class = object.find_string("tokenizer_class").value_or("");
    config.add_bos_token = object.find_bool("add_bos_token");
    config.add_eos_token = object.find_bool("add_eos_token");
    config.add_prefix_space = object.find_bool("add_prefix_space");
    config.legacy = object.find_bool("legacy");
    has_added_tokens = object.has("added_tokens_decoder");
    read_special_tokens(object, config);
    read_added_tokens_decoder(object, config);
  }
  if (!has_added_tokens) {
    // The older layout. What the map says goes before what the configuration says.
    const std::filesystem::path map_path = model_dir / "special_tokens_map.json";
    const nlohmann::json map = load_json(map_path);
    if (!map.is_null()) read_special_tokens(object_of(map, map_path), config);
    const std::filesystem::path added_path = model_dir / "added_tokens.json";
    const nlohmann::json added = load_json(added_path);
    if (!added.is_null()) read_added_tokens_file(object_of(added, added_path), config);
  }
  std::stable_sort(config.added_tokens.begin(), config.added_tokens.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  return config;
}

}  // namespace llmrun
