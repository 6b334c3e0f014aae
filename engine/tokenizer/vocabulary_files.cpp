#include "engine/tokenizer/vocabulary_files.h"

#include <string>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/tokenizer/token_table.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kMaxFileBytes = 64 << 20;

constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

nlohmann::json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"use_regex", use_regex}};
}

// The parts of tokenizer.json that the class stands for.
nlohmann::json make_root(const std::string& tokenizer_class, bool add_prefix_space,
                         const std::string& place) {
  nlohmann::json root = {{"model", {{"type", "BPE"}}}, {"decoder", {{"type", "ByteLevel"}}}};
  std::string name = tokenizer_class;
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name.empty() || name == "GPT2Tokenizer") {
    root["pre_tokenizer"] = byte_level(add_prefix_space, true);
  } else if (name == "Qwen2Tokenizer") {
    const nlohmann::json split = {
        {"type", "Split"}, {"pattern", {{"Regex", kQwen2Pattern}}}, {"behavior", "Isolated"}};
    root["normalizer"] = {{"type", "NFC"}};
    root["pre_tokenizer"] = {{"type", "Sequence"},
                             {"pretokenizers", {split, byte_level(add_prefix_space, false)}}};
  } else {
    throw Error(
        ErrorKind::kModel,
        fmt::format("{}: tokenizer_class {} with vocab.json and merges.txt is not supported "
                    "(supported: GPT2Tokenizer, Qwen2Tokenizer; or a tokenizer.json)",
                    place, describe_json(tokenizer_class)));
  }
  return root;
}

// GPT2Tokenizer's, where the configuration names none.
void set_default_roles(TokenizerConfig& config) {
  const AddedToken end_of_text{.content = "<|endoftext|>", .normalized = false, .special = true};
  if (config.tokenizer_class.starts_with("Qwen2")) {
    if (!config.eos_token) config.eos_token = end_of_text;
    if (!config.pad_token) config.pad_token = end_of_text;
    return;
  }
  for (auto* token : {&config.bos_token, &config.eos_token, &config.unk_token}) {
    if (!*token) *token = end_of_text;
  }
}

void read_vocabulary(const std::string& text, const std::string& name, TokenizerJson& json) {
  const nlohmann::json value = parse_json(text, name, kFileJson);
  const JsonObject object(value, name);
  for (const auto& [token, unused] : value.items()) {
    json.vocabulary.push_back({token, static_cast<TokenId>(object.get_int(token, 0, kMaxTokenId))});
  }
}

// "left right" a line; the first may be "#version: 0.2".
void read_merges(std::string_view text, const std::string& name, TokenizerJson& json) {
  for (int number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const std::size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos) {
      throw Error(ErrorKind::kModel, fmt::format("{}:{}: expected \"left right\", found {}", name,
                                                 number, describe_json(std::string(line))));
    }
    json.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
}

}  // namespace

std::optional<TokenizerJson> read_vocabulary_files(const std::filesystem::path& model_dir,
                                                   TokenizerConfig& config) {
  const std::filesystem::path vocabulary_path = model_dir / "vocab.json";
  const std::filesystem::path merges_path = model_dir / "merges.txt";
  const auto vocabulary = read_file_if_exists(vocabulary_path, kMaxFileBytes, ErrorKind::kModel);
  const auto merges = read_file_if_exists(merges_path, kMaxFileBytes, ErrorKind::kModel);
  if (!vocabulary || !merges) return std::nullopt;
  TokenizerJson json;
  json.root = make_root(config.tokenizer_class, config.add_prefix_space.value_or(false),
                        (model_dir / "tokenizer_config.json").string());
  read_vocabulary(*vocabulary, vocabulary_path.string(), json);
  read_merges(*merges, merges_path.string(), json);
  check_token_ids(json, vocabulary_path.string());
  set_default_roles(config);
  return json;
}

}  // namespace llmrun
