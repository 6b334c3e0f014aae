#include "engine/tokenizer/sentencepiece_tokenizer.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include "engine/core/error.h"
#include "engine/tokenizer/sentencepiece_model.h"
#include "engine/tokenizer/sentencepiece_spelling.h"
#include "engine/tokenizer/string_index.h"

namespace llmrun {
namespace {

StringIndex index_pieces(const SentencePieceModel& model) {
  StringIndex index(model.pieces.size());
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    index.insert(model.pieces[id].text, static_cast<TokenId>(id));
  }
  return index;
}

// Added tokens are looked for in the raw text whatever their flag says, as the class this follows
// does. Tokens whose id no file states get the one of the vocabulary, or the next free one.
AddedTokens collect_added_tokens(const SentencePieceModel& model, const StringIndex& pieces,
                                 const TokenizerConfig& config) {
  AddedTokens tokens;
  const std::unordered_set<std::string> special_contents = config.special_contents();
  const auto add = [&](AddedToken token, TokenId id) {
    if (token.content.empty()) return;
    token.special = token.special || special_contents.count(token.content) != 0;
    token.normalized = false;
    tokens.add(std::move(token), id);
  };
  for (const auto& [id, token] : config.added_tokens) add(token, id);
  for (const AddedToken& token : config.special_tokens()) {
    if (tokens.find(token.content) != TextSpan::kText) continue;
    TokenId id = pieces.find(token.content);
    if (id == StringIndex::kAbsent) {
      id = std::max(static_cast<TokenId>(model.pieces.size()), tokens.max_id() + 1);
    }
    add(token, id);
  }
  tokens.build([](std::string_view content) { return std::string(content); });
  return tokens;
}

TokenTable build_table(const SentencePieceModel& model, const AddedTokens& added_tokens,
                       const std::string& name) {
  TokenTable table;
  table.resize(model.pieces.size());
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    const bool control = piece.type == SentencePieceModel::PieceType::kControl;
    table.set(static_cast<TokenId>(id), make_sentencepiece_token(piece.text, control));
  }
  // Tables indexed by id must not outgrow the files.
  const std::size_t max_id = 4 * (model.pieces.size() + added_tokens.tokens().size()) + 65536;
  for (const auto& [id, token] : added_tokens.tokens()) {
    if (static_cast<std::size_t>(id) > max_id) {
      throw Error(ErrorKind::kModel,
                  fmt::format("{}: the added token with id {} is far above the {} pieces", name, id,
                              model.pieces.size()));
    }
    table.set(id, make_sentencepiece_token(token.content, token.special));
  }
  return table;
}

// The roles LlamaTokenizer gives to pieces when the configuration names none.
TokenizerConfig with_default_roles(TokenizerConfig config, const StringIndex& pieces) {
  const auto set_default = [&](std::optional<AddedToken>& token, const char* content) {
    if (token || pieces.find(content) == StringIndex::kAbsent) return;
    token = AddedToken{.content = content, .normalized = false, .special = true};
  };
  set_default(config.bos_token, "<s>");
  set_default(config.eos_token, "</s>");
  set_default(config.unk_token, "<unk>");
  return config;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(
    std::unique_ptr<sentencepiece::SentencePieceProcessor> processor, TokenTable tokens,
    AddedTokens added_tokens, SpecialTokenIds special_token_ids, Options options)
    : processor_(std::move(processor)),
      tokens_(std::move(tokens)),
      added_tokens_(std::move(added_tokens)),
      special_token_ids_(special_token_ids),
      options_(options) {
  if (special_token_ids_.unk) unk_text_ = tokens_[*special_token_ids_.unk].text;
  unk_length_ = run_library(unk_text_).size();
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

std::vector<int> SentencePieceTokenizer::run_library(std::string_view text) const {
  std::vector<int> ids;
  const sentencepiece::util::Status status = processor_->Encode(text, &ids);
  if (!status.ok()) {
    throw Error(ErrorKind::kModel, fmt::format("tokenizer.model: {}", status.ToString()));
  }
  return ids;
}

void SentencePieceTokenizer::encode_utf8(std::string_view text, bool add_special_tokens,
                                         SpecialTokenText special_token_text,
                                         std::vector<TokenId>& ids) const {
  if (add_special_tokens && adds_bos()) ids.push_back(*special_token_ids_.bos);
  if (options_.legacy) {
    encode_spans(text, special_token_text, ids);
  } else if (!text.empty()) {
    std::string prefixed(options_.add_prefix_space ? kSpaceSymbol : "");
    prefixed += replace_all(text, kSpaceSymbol, " ");
    const std::size_t begin = ids.size();
    encode_spans(prefixed, special_token_text, ids);
    // The space is for text; before a special token it goes.
    if (ids.size() > begin + 1 && tokens_[ids[begin]].text == kSpaceSymbol &&
        tokens_[ids[begin + 1]].special) {
      ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(begin));
    }
  }
  if (add_special_tokens && options_.add_eos_token && special_token_ids_.eos) {
    ids.push_back(*special_token_ids_.eos);
  }
}

void SentencePieceTokenizer::encode_spans(std::string_view text,
                                          SpecialTokenText special_token_text,
                                          std::vector<TokenId>& ids) const {
  for (const TextSpan& span : added_tokens_.split_raw(text, special_token_text)) {
    if (span.id != TextSpan::kText) {
      ids.push_back(span.id);
    } else {
      encode_part(span.text, ids);
    }
  }
}

void SentencePieceTokenizer::encode_part(std::string_view text, std::vector<TokenId>& ids) const {
  const bool begins_with_space = text.starts_with(kSpaceSymbol) || text.starts_with(' ');
  std::vector<int> pieces;
  if (options_.legacy || !begins_with_space || !options_.remove_extra_whitespaces) {
    pieces = run_library(text);
  } else {
    // The library would drop the leading space; behind the unknown token's text it does not.
    pieces = run_library(unk_text_ + std::string(text));
    if (pieces.size() >= unk_length_) {
      pieces.erase(pieces.begin(), pieces.begin() + static_cast<std::ptrdiff_t>(unk_length_));
    }
  }
  ids.insert(ids.end(), pieces.begin(), pieces.end());
}

std::optional<TokenId> SentencePieceTokenizer::token_to_id(std::string_view token) const {
  if (const TokenId id = added_tokens_.find(token); id != TextSpan::kText) return id;
  for (TokenId id = 0; id < vocab_size(); ++id) {
    if (tokens_[id].known && tokens_[id].text == token) return id;
  }
  return std::nullopt;
}

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes,
                                                        const std::string& name,
                                                        const TokenizerConfig& file_config) {
  const SentencePieceModel model = parse_sentencepiece_model(bytes, name);
  const StringIndex pieces = index_pieces(model);
  const TokenizerConfig config = with_default_roles(file_config, pieces);
  const SentencePieceTokenizer::Options options{
      .legacy = config.legacy.value_or(true),
      .add_prefix_space = config.add_prefix_space.value_or(true),
      .add_bos_token = config.add_bos_token.value_or(true),
      .add_eos_token = config.add_eos_token.value_or(false),
      .remove_extra_whitespaces = model.remove_extra_whitespaces};

  std::string proto(bytes);
  if (!options.legacy) {
    // normalizer_spec { add_dummy_prefix: false }: a later message is merged into an earlier one.
    proto += std::string_view("\x1A\x02\x18\x00", 4);
  }
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  const sentencepiece::util::Status status = processor->LoadFromSerializedProto(proto);
  if (!status.ok()) {
    throw Error(ErrorKind::kModel, fmt::format("{}: {}", name, status.ToString()));
  }
  AddedTokens added_tokens = collect_added_tokens(model, pieces, config);
  TokenTable table = build_table(model, added_tokens, name);
  const auto id_of = [&](const std::optional<AddedToken>& token) -> std::optional<TokenId> {
    if (!token) return std::nullopt;
    const TokenId id = added_tokens.find(token->content);
    return id == TextSpan::kText ? std::nullopt : std::optional(id);
  };
  const SpecialTokenIds special_token_ids{.bos = id_of(config.bos_token),
                                          .eos = id_of(config.eos_token),
                                          .pad = id_of(config.pad_token),
                                          .unk = id_of(config.unk_token)};
  return std::make_unique<SentencePieceTokenizer>(
      std::move(processor), std::move(table), std::move(added_tokens), special_token_ids, options);
}

}  // namespace llmrun
