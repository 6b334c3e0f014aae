#include "engine/tokenizer/bpe_model.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/sentencepiece_spelling.h"

namespace llmrun {
namespace {

// Up to this many symbols, looking for the lowest rank again after each merge beats a heap.
constexpr std::size_t kMaxShortPiece = 48;
constexpr std::uint32_t kNoMerge = std::numeric_limits<std::uint32_t>::max();

}  // namespace

MergeTable::MergeTable(std::size_t num_merges)
    : slots_(std::bit_ceil(2 * num_merges + 2)),
      mask_(slots_.size() - 1),
      shift_(64 - std::countr_zero(slots_.size())) {}

void MergeTable::set(TokenId left, TokenId right, Merge merge) {
  const std::uint64_t key = make_key(left, right);
  std::size_t i = hash(key);
  while (slots_[i].key != kEmpty && slots_[i].key != key) i = (i + 1) & mask_;
  slots_[i] = {key, merge};
}

BpeModel::BpeModel(const std::vector<Entry>& vocabulary, std::int32_t num_ids, MergeTable merges,
                   BpeOptions options)
    : vocabulary_(vocabulary.size()),
      merges_(std::move(merges)),
      options_(options),
      self_encoding_(new std::atomic<SelfEncoding>[static_cast<std::size_t>(num_ids)]()) {
  byte_ids_.fill(StringIndex::kAbsent);
  for (const Entry& entry : vocabulary) {
    LLMRUN_CHECK(entry.id >= 0 && entry.id < num_ids);
    LLMRUN_CHECK(vocabulary_.insert(entry.bytes, entry.id));
    if (entry.bytes.size() == 1) byte_ids_[static_cast<unsigned char>(entry.bytes[0])] = entry.id;
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    byte_token_ids_[byte] = vocabulary_.find(make_byte_token(static_cast<char>(byte)));
  }
}

void BpeModel::encode(std::string_view piece, std::vector<TokenId>& ids) const {
  const TokenId whole = vocabulary_.find(piece);
  std::atomic<SelfEncoding>* self_encoding = nullptr;
  if (whole != StringIndex::kAbsent) {
    // Most pieces of a text are tokens; for them the merges need not be played through again.
    self_encoding = &self_encoding_[static_cast<std::size_t>(whole)];
    if (options_.ignore_merges ||
        self_encoding->load(std::memory_order_relaxed) == SelfEncoding::kYes) {
      ids.push_back(whole);
      return;
    }
  }
  const std::size_t begin = ids.size();
  if (options_.characters) {
    append_characters(piece, ids);
  } else {
    append_bytes(piece, ids);
  }
  if (ids.size() - begin <= kMaxShortPiece) {
    merge_short(ids, begin);
  } else {
    merge_long(ids, begin);
  }
  if (self_encoding != nullptr) {
    const bool is_whole = ids.size() == begin + 1 && ids.back() == whole;
    self_encoding->store(is_whole ? SelfEncoding::kYes : SelfEncoding::kNo,
                         std::memory_order_relaxed);
  }
}

void BpeModel::append_bytes(std::string_view piece, std::vector<TokenId>& symbols) const {
  bool after_unknown = false;
  for (const char byte : piece) {
    const TokenId id = byte_ids_[static_cast<unsigned char>(byte)];
    if (id != StringIndex::kAbsent) {
      symbols.push_back(id);
      after_unknown = false;
    } else if (options_.unk_token && !(after_unknown && options_.fuse_unk)) {
      symbols.push_back(*options_.unk_token);
      after_unknown = true;
    }
  }
}

void BpeModel::append_characters(std::string_view piece, std::vector<TokenId>& symbols) const {
  bool unknown_is_due = false;  // appended when the next known character comes
  const auto append_unknown = [&] {
    if (unknown_is_due) symbols.push_back(*options_.unk_token);
    unknown_is_due = false;
  };
  while (!piece.empty()) {
    const std::string_view character = piece.substr(0, first_utf8_character(piece).length);
    piece.remove_prefix(character.size());
    const TokenId id = vocabulary_.find(character);
    if (id != StringIndex::kAbsent) {
      append_unknown();
      symbols.push_back(id);
    } else if (options_.byte_fallback && append_byte_tokens(character, symbols)) {
      // An unknown token that is due stays so, and comes after the byte tokens: so does it in the
      // library this follows.
    } else if (options_.unk_token) {
      if (!options_.fuse_unk) append_unknown();
      unknown_is_due = true;
    }
  }
  append_unknown();
}

// False when one of the bytes has no token; then none is appended.
bool BpeModel::append_byte_tokens(std::string_view character, std::vector<TokenId>& symbols) const {
  const auto id_of = [&](char byte) { return byte_token_ids_[static_cast<unsigned char>(byte)]; };
  for (const char byte : character) {
    if (id_of(byte) == StringIndex::kAbsent) return false;
  }
  for (const char byte : character) symbols.push_back(id_of(byte));
  return true;
}

// Merges ids[begin, end) by scanning for the lowest rank; leftmost among equals.
void BpeModel::merge_short(std::vector<TokenId>& ids, std::size_t begin) const {
  std::size_t size = ids.size() - begin;
  if (size < 2) return;
  TokenId* symbols = ids.data() + begin;
  // merges[i]: of symbols i and i + 1.
  std::array<MergeTable::Merge, kMaxShortPiece> merges;
  const auto look_up = [&](std::size_t i) {
    const MergeTable::Merge* merge = merges_.find(symbols[i], symbols[i + 1]);
    merges[i] = merge != nullptr ? *merge : MergeTable::Merge{kNoMerge, 0};
  };
  for (std::size_t i = 0; i + 1 < size; ++i) look_up(i);
  while (size > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < size; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoMerge) break;
    symbols[best] = merges[best].id;
    std::copy(symbols + best + 2, symbols + size, symbols + best + 1);
    std::copy(merges.begin() + static_cast<std::ptrdiff_t>(best) + 1,
              merges.begin() + static_cast<std::ptrdiff_t>(size) - 1,
              merges.begin() + static_cast<std::ptrdiff_t>(best));
    --size;
    if (best > 0) look_up(best - 1);
    if (best + 1 < size) look_up(best);
  }
  ids.resize(begin + size);
}

// Merges ids[begin, end) with a heap of (rank, position): n log n for any text.
void BpeModel::merge_long(std::vector<TokenId>& ids, std::size_t begin) const {
  constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  struct Symbol {
    TokenId id;
    std::uint32_t previous;
    std::uint32_t next;
  };
  // A merge seen when the heap entry was made. The pair may be gone when its turn comes: then the
  // symbols at its position no longer merge to `id`.
  struct Candidate {
    std::uint32_t rank;
    std::uint32_t position;
    TokenId id;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  const std::size_t size = ids.size() - begin;
  LLMRUN_CHECK(size < kNone);
  std::vector<Symbol> symbols(size);
  for (std::uint32_t i = 0; i < size; ++i) {
    symbols[i] = {ids[begin + i], i == 0 ? kNone : i - 1, i + 1 == size ? kNone : i + 1};
  }
  std::vector<Candidate> storage;
  storage.reserve(size);
  const auto candidate_at = [&](std::uint32_t i) -> std::optional<Candidate> {
    const std::uint32_t next = symbols[i].next;
    if (next == kNone) return std::nullopt;
    const MergeTable::Merge* merge = merges_.find(symbols[i].id, symbols[next].id);
    if (merge == nullptr) return std::nullopt;
    return Candidate{merge->rank, i, merge->id};
  };
  for (std::uint32_t i = 0; i + 1 < size; ++i) {
    if (const auto candidate = candidate_at(i)) storage.push_back(*candidate);
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>{},
                                                                               std::move(storage));
  constexpr TokenId kRemoved = -1;
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = symbols[top.position];
    if (left.id == kRemoved) continue;
    const auto current = candidate_at(top.position);
    if (!current || current->id != top.id) continue;
    Symbol& right = symbols[left.next];
    left.id = top.id;
    left.next = right.next;
    right.id = kRemoved;
    if (left.next != kNone) symbols[left.next].previous = top.position;
    if (left.previous != kNone) {
      if (const auto candidate = candidate_at(left.previous)) queue.push(*candidate);
    }
    if (const auto candidate = candidate_at(top.position)) queue.push(*candidate);
  }
  std::size_t end = begin;
  for (const Symbol& symbol : symbols) {
    if (symbol.id != kRemoved) ids[end++] = symbol.id;
  }
  ids.resize(end);
}

}  // namespace llmrun
