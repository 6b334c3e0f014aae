#include "engine/tokenizer/pipeline_tokenizer.h"

#include <algorithm>
#include <utility>

#include "engine/core/utf8.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/sentencepiece_spelling.h"

namespace llmrun {

void PipelineTokenizer::encode_utf8(std::string_view text, bool add_special_tokens,
                                    SpecialTokenText special_token_text,
                                    std::vector<TokenId>& ids) const {
  const TextTemplate& text_template = parts_.text_template;
  if (add_special_tokens) {
    ids.insert(ids.end(), text_template.prefix.begin(), text_template.prefix.end());
  }
  std::string normalized_buffer;
  PreTokenizer::Buffers pieces_buffers;
  std::vector<std::string_view> pieces;
  for (const TextSpan& raw : parts_.added_tokens.split_raw(text, special_token_text)) {
    if (raw.id != TextSpan::kText) {
      ids.push_back(raw.id);
      continue;
    }
    const std::string_view normalized = parts_.normalizer.normalize(raw.text, normalized_buffer);
    for (const TextSpan& span :
         parts_.added_tokens.split_normalized(normalized, special_token_text)) {
      if (span.id != TextSpan::kText) {
        ids.push_back(span.id);
        continue;
      }
      const bool begins_input =
          raw.text.data() == text.data() && span.text.data() == normalized.data();
      parts_.pre_tokenizer.split(span.text, begins_input, pieces_buffers, pieces);
      for (const std::string_view piece : pieces) encode_piece(piece, ids);
    }
  }
  if (add_special_tokens) {
    ids.insert(ids.end(), text_template.suffix.begin(), text_template.suffix.end());
  }
}

void PipelineTokenizer::encode_piece(std::string_view piece, std::vector<TokenId>& ids) const {
  const auto* bpe = std::get_if<BpeModel>(&parts_.model);
  if (bpe == nullptr) {
    std::get<UnigramModel>(parts_.model).encode(piece, ids);
    return;
  }
  while (parts_.cut_before_spaces) {
    std::size_t end = 0;
    while (piece.substr(end).starts_with(kSpaceSymbol)) end += kSpaceSymbol.size();
    end = piece.find(kSpaceSymbol, end);
    if (end == piece.npos) break;
    bpe->encode(piece.substr(0, end), ids);
    piece.remove_prefix(end);
  }
  bpe->encode(piece, ids);
}

std::optional<TokenId> PipelineTokenizer::token_to_id(std::string_view token) const {
  if (const TokenId id = parts_.added_tokens.find(token); id != TextSpan::kText) return id;
  const auto find = [&](std::string_view text) {
    return std::visit([&](const auto& model) { return model.find(text); }, parts_.model);
  };
  TokenId id = StringIndex::kAbsent;
  if (!parts_.pre_tokenizer.is_byte_level()) {
    id = find(token);
  } else if (is_valid_utf8(token)) {
    const std::optional<std::string> bytes = byte_level_to_bytes(token);
    if (bytes) id = find(*bytes);
  }
  return id == StringIndex::kAbsent ? std::nullopt : std::optional(id);
}

bool PipelineTokenizer::adds_bos() const {
  const std::optional<TokenId> bos = parts_.special_token_ids.bos;
  const std::vector<TokenId>& prefix = parts_.text_template.prefix;
  return bos && !prefix.empty() && prefix.front() == *bos;
}

}  // namespace llmrun
