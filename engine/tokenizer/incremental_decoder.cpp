#include "engine/tokenizer/incremental_decoder.h"

#include "engine/core/utf8.h"
#include "engine/tokenizer/sentencepiece_spelling.h"

namespace llmrun {

IncrementalDecoder::IncrementalDecoder(const Tokenizer& tokenizer,
                                       IncrementalDecoderOptions options)
    : tokenizer_(&tokenizer),
      rules_(tokenizer.decode_rules()),
      skip_special_tokens_(options.skip_special_tokens),
      at_start_(rules_.leading_space != LeadingSpace::kKeep && !options.continues_text) {}

std::string IncrementalDecoder::append(TokenId id) {
  std::string out;
  append(id, out);
  return out;
}

std::string IncrementalDecoder::finish() {
  std::string out;
  finish(out);
  return out;
}

void IncrementalDecoder::append(TokenId id, std::string& out) {
  if (skip_special_tokens_ && tokenizer_->is_special(id)) return;
  const std::string_view bytes = tokenizer_->token_bytes(id);
  if (at_start_ && rules_.leading_space == LeadingSpace::kDropInFirstToken && !bytes.empty()) {
    at_start_ = false;
    append_replaced(out, bytes, " ", "");
    return;
  }
  if (rules_.byte_fallback) {
    if (tokenizer_->is_byte_token(id)) {
      held_.append(bytes);
      return;
    }
    if (bytes.empty()) return;  // no token
    flush_byte_run(out);
    emit(bytes, out);
    return;
  }
  if (held_.empty() && is_valid_utf8(bytes)) {
    emit(bytes, out);
    return;
  }
  held_.append(bytes);
  const std::size_t whole = held_.size() - incomplete_utf8_tail(held_);
  emit(replace_invalid_utf8(std::string_view(held_).substr(0, whole)), out);
  held_.erase(0, whole);
}

void IncrementalDecoder::finish(std::string& out) {
  if (rules_.byte_fallback) {
    flush_byte_run(out);
  } else {
    emit(replace_invalid_utf8(held_), out);
    held_.clear();
  }
}

void IncrementalDecoder::flush_byte_run(std::string& out) {
  if (held_.empty()) return;
  if (is_valid_utf8(held_)) {
    emit(held_, out);
  } else {
    for (std::size_t i = 0; i < held_.size(); ++i) emit(kReplacementCharacter, out);
  }
  held_.clear();
}

void IncrementalDecoder::emit(std::string_view text, std::string& out) {
  if (text.empty()) return;
  if (at_start_ && text.front() == ' ') text.remove_prefix(1);
  at_start_ = false;
  out.append(text);
}

}  // namespace llmrun
