// What kind of tokenizer a model folder has, for people.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace llmrun {

// A kind of tokenizer that is supported.
struct TokenizerKind {
  std::string_view name;
  std::string_view files;      // that hold it
  std::string_view families;   // published models that have it
  std::string_view reference;  // the Python package whose ids and texts it is compared with
};
std::span<const TokenizerKind> tokenizer_kinds();

struct TokenizerDescription {
  const TokenizerKind* kind = nullptr;  // never null
  std::string steps;  // "normalizer NFC; pre-tokenizer Split, ByteLevel; decoder ByteLevel"
};

// Reads the files that load_tokenizer() reads. Throws Error(kModel) when there are none, or when
// they are malformed.
TokenizerDescription describe_tokenizer(const std::filesystem::path& model_dir);

}  // namespace llmrun
