// A byte-level BPE tokenizer without tokenizer.json: vocab.json, merges.txt and the class that
// tokenizer_config.json names, which says what the steps around BPE are.
// Source: huggingface/transformers, convert_slow_tokenizer.py (GPT2Converter, Qwen2Converter).
#pragma once

#include <filesystem>
#include <optional>

#include "engine/tokenizer/tokenizer_config.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace llmrun {

// What such a folder's tokenizer.json would say; nothing when vocab.json or merges.txt is missing.
// Gives `config` the special tokens that the class has by default. Throws Error(kModel) that names
// file and line, and by its name a class that is not supported.
std::optional<TokenizerJson> read_vocabulary_files(const std::filesystem::path& model_dir,
                                                   TokenizerConfig& config);

}  // namespace llmrun
