#include "engine/tokenizer/unigram_model.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "engine/core/error.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/sentencepiece_spelling.h"

namespace llmrun {
namespace {

constexpr double kUnknownPenalty = 10.0;
constexpr TokenId kUnknown = -1;

PrefixTrie make_trie(const std::vector<UnigramModel::Entry>& vocabulary) {
  std::vector<PrefixTrie::Entry> entries;
  entries.reserve(vocabulary.size());
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    entries.push_back({vocabulary[id].text, static_cast<TokenId>(id)});
  }
  return PrefixTrie(std::move(entries));
}

}  // namespace

UnigramModel::UnigramModel(const std::vector<Entry>& vocabulary, std::optional<TokenId> unk_id,
                           bool byte_fallback)
    : vocabulary_(vocabulary.size()),
      trie_(make_trie(vocabulary)),
      unk_score_(std::numeric_limits<double>::infinity()),
      unk_id_(unk_id),
      byte_fallback_(byte_fallback) {
  for (const auto& [text, score] : vocabulary) {
    LLMRUN_CHECK(vocabulary_.insert(text, static_cast<TokenId>(scores_.size())));
    scores_.push_back(score);
    unk_score_ = std::min(unk_score_, score);
  }
  unk_score_ -= kUnknownPenalty;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    byte_token_ids_[byte] = vocabulary_.find(make_byte_token(static_cast<char>(byte)));
  }
}

void UnigramModel::encode(std::string_view piece, std::vector<TokenId>& ids) const {
  if (piece.empty()) return;
  constexpr std::uint32_t kUnreached = std::numeric_limits<std::uint32_t>::max();
  LLMRUN_CHECK(piece.size() < kUnreached);
  // The best way to cut the bytes before a position: its score and its last token.
  struct Best {
    double score = 0;
    std::uint32_t begin = kUnreached;
    TokenId id = kUnknown;
  };
  std::vector<Best> best(piece.size() + 1);
  for (std::size_t begin = 0; begin < piece.size();) {
    const std::string_view rest = piece.substr(begin);
    const std::size_t character = first_utf8_character(rest).length;
    const double score = best[begin].score;
    const auto offer = [&](std::size_t length, TokenId id, double token_score) {
      Best& end = best[begin + length];
      if (end.begin != kUnreached && score + token_score <= end.score) return;
      end = {score + token_score, static_cast<std::uint32_t>(begin), id};
    };
    bool is_known = false;  // this character is a token
    trie_.for_each_prefix(rest, [&](std::size_t length, TokenId id) {
      is_known = is_known || length == character;
      offer(length, id, scores_[static_cast<std::size_t>(id)]);
    });
    if (!is_known) offer(character, unk_id_.value_or(kUnknown), unk_score_);
    begin += character;
  }
  std::vector<std::string_view> tokens;  // from the end; a run of unknown ones is one
  bool after_unknown = false;
  for (std::size_t end = piece.size(); end > 0;) {
    const Best& last = best[end];
    const std::string_view token = piece.substr(last.begin, end - last.begin);
    const bool unknown = last.id == unk_id_.value_or(kUnknown);
    if (unknown && after_unknown) {
      tokens.back() = {token.data(), token.size() + tokens.back().size()};
    } else {
      tokens.push_back(token);
    }
    after_unknown = unknown;
    end = last.begin;
  }
  for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) {
    const TokenId id = vocabulary_.find(*token);
    if (id == StringIndex::kAbsent) {
      append_unknown(*token, ids);
    } else {
      ids.push_back(id);
    }
  }
}

void UnigramModel::append_unknown(std::string_view text, std::vector<TokenId>& ids) const {
  const auto id_of = [&](char byte) { return byte_token_ids_[static_cast<unsigned char>(byte)]; };
  const bool has_bytes = byte_fallback_ && std::all_of(text.begin(), text.end(), [&](char byte) {
                           return id_of(byte) != StringIndex::kAbsent;
                         });
  if (has_bytes) {
    for (const char byte : text) ids.push_back(id_of(byte));
  } else if (unk_id_) {
    ids.push_back(*unk_id_);
  }
}

}  // namespace llmrun
