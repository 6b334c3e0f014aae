#include "engine/tokenizer/tokenizer_description.h"

#include <array>
#include <optional>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/tokenizer/tokenizer_config.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/vocabulary_files.h"

namespace llmrun {
namespace {

// In the order of their indices below.
constexpr std::array kKinds = {
    // clang-format off
    TokenizerKind{"byte-level BPE", "tokenizer.json", "GPT-2, Llama 3, Qwen2, Qwen2.5, Qwen3, DeepSeek LLM, V3 and R1, Phi-4", "tokenizers"},
    TokenizerKind{"byte-level BPE", "vocab.json + merges.txt", "GPT-2, OPT", "transformers"},
    TokenizerKind{"BPE on characters", "tokenizer.json", "Llama 2, Mistral, Mixtral, Gemma, Phi-3; with byte fallback, legacy or Metaspace", "tokenizers"},
    TokenizerKind{"unigram", "tokenizer.json", "T5-like, ALBERT-like: character map, Metaspace", "tokenizers"},
    TokenizerKind{"SentencePiece", "tokenizer.model", "Llama 2, Vicuna, Baichuan2 and others, legacy or not", "transformers"},
    // clang-format on
};
constexpr std::size_t kByteLevel = 0;
constexpr std::size_t kVocabularyFiles = 1;
constexpr std::size_t kCharacters = 2;
constexpr std::size_t kUnigram = 3;
constexpr std::size_t kSentencePiece = 4;

// The types of a component, those of a Sequence one after the other: "Split, ByteLevel".
std::string component_types(const nlohmann::json& root, const char* key) {
  std::string types;
  const auto add = [&](const auto& self, const nlohmann::json& value) -> void {
    if (!value.is_object()) return;
    for (const char* list : {"normalizers", "pretokenizers", "decoders", "processors"}) {
      if (!value.contains(list)) continue;
      for (const nlohmann::json& element : value[list]) self(self, element);
      return;
    }
    if (value.contains("type") && value["type"].is_string()) {
      types += (types.empty() ? "" : ", ") + value["type"].get<std::string>();
    }
  };
  if (root.contains(key)) add(add, root[key]);
  return types.empty() ? "none" : types;
}

TokenizerDescription describe_json_file(const TokenizerJson& json, bool is_one_file) {
  const std::string pre_tokenizer = component_types(json.root, "pre_tokenizer");
  const bool is_byte_level = pre_tokenizer.find("ByteLevel") != pre_tokenizer.npos;
  const std::size_t kind = !json.scores.empty() ? kUnigram
                           : !is_one_file       ? kVocabularyFiles
                           : is_byte_level      ? kByteLevel
                                                : kCharacters;
  return {.kind = &kKinds[kind],
          .steps = fmt::format("normalizer {}; pre-tokenizer {}; decoder {}; post-processor {}",
                               component_types(json.root, "normalizer"), pre_tokenizer,
                               component_types(json.root, "decoder"),
                               component_types(json.root, "post_processor"))};
}

}  // namespace

std::span<const TokenizerKind> tokenizer_kinds() {
  return kKinds;
}

TokenizerDescription describe_tokenizer(const std::filesystem::path& model_dir) {
  TokenizerConfig config = load_tokenizer_config(model_dir);
  const std::filesystem::path json_path = model_dir / "tokenizer.json";
  if (const auto text = read_file_if_exists(json_path, kMaxTokenizerBytes, ErrorKind::kModel)) {
    return describe_json_file(parse_tokenizer_json(*text, json_path.string()), true);
  }
  if (std::filesystem::exists(model_dir / "tokenizer.model")) {
    return {.kind = &kKinds[kSentencePiece],
            .steps = config.legacy.value_or(true) ? "legacy spaces" : "spaces not legacy"};
  }
  if (const auto json = read_vocabulary_files(model_dir, config)) {
    return describe_json_file(*json, false);
  }
  throw Error(ErrorKind::kModel,
              fmt::format("{}: no tokenizer: expected tokenizer.json, tokenizer.model, or "
                          "vocab.json with merges.txt",
                          model_dir.string()));
}

}  // namespace llmrun
