#include "engine/tokenizer/tokenizer.h"

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/incremental_decoder.h"
#include "engine/tokenizer/pipeline_tokenizer.h"
#include "engine/tokenizer/sentencepiece_tokenizer.h"
#include "engine/tokenizer/tokenizer_config.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/tokenizer/vocabulary_files.h"

namespace llmrun {
std::vector<TokenId> Tokenizer::encode(std::string_view text, bool add_special_tokens,
                                       SpecialTokenText special_token_text) const {
  std::vector<TokenId> ids;
  if (is_valid_utf8(text)) {
    encode_utf8(text, add_special_tokens, special_token_text, ids);
  } else {
    encode_utf8(replace_invalid_utf8(text), add_special_tokens, special_token_text, ids);
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special_tokens) const {
  std::string text;
  IncrementalDecoder decoder(*this,
                             {.skip_special_tokens = skip_special_tokens, .continues_text = false});
  for (const TokenId id : ids) decoder.append(id, text);
  decoder.finish(text);
  return text;
}

std::string Tokenizer::piece(TokenId id) const {
  return replace_invalid_utf8(token_bytes(id));
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& model_dir) {
  TokenizerConfig config = load_tokenizer_config(model_dir);
  const std::filesystem::path json_path = model_dir / "tokenizer.json";
  if (const auto text = read_file_if_exists(json_path, kMaxTokenizerBytes, ErrorKind::kModel)) {
    const std::string name = json_path.string();
    return make_pipeline_tokenizer(parse_tokenizer_json(*text, name), name, config);
  }
  const std::filesystem::path model_path = model_dir / "tokenizer.model";
  if (const auto bytes = read_file_if_exists(model_path, kMaxTokenizerBytes, ErrorKind::kModel)) {
    return make_sentencepiece_tokenizer(*bytes, model_path.string(), config);
  }
  if (const auto json = read_vocabulary_files(model_dir, config)) {
    return make_pipeline_tokenizer(*json, (model_dir / "vocab.json").string(), config);
  }
  throw Error(ErrorKind::kModel,
              fmt::format("{}: no tokenizer: expected tokenizer.json, tokenizer.model, or "
                          "vocab.json with merges.txt",
                          model_dir.string()));
}

}  // namespace llmrun
