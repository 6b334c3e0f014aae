#include "engine/tokenizer/bpe_model.h"

#include <atomic>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

// A random vocabulary over a few letters, and byte pair encoding as its definition states it.
class Reference {
 public:
  Reference(std::uint32_t seed, int num_letters, int num_merges) {
    std::mt19937 random(seed);
    for (int i = 0; i < num_letters; ++i) add(std::string(1, static_cast<char>('a' + i)));
    for (int rank = 0; rank < num_merges; ++rank) {
      const std::string left = tokens_[random() % tokens_.size()];
      const std::string right = tokens_[random() % tokens_.size()];
      if (left.size() + right.size() > 12) continue;
      if (ranks_.count({left, right}) != 0) continue;
      add(left + right);
      ranks_[{left, right}] = static_cast<std::uint32_t>(ranks_.size());
    }
  }

  std::vector<TokenId> encode(const std::string& piece, bool ignore_merges) const {
    if (ignore_merges && ids_.count(piece) != 0) return {ids_.at(piece)};
    std::vector<std::string> symbols;
    for (const char c : piece) symbols.emplace_back(1, c);
    while (true) {
      auto best = ranks_.end();
      std::size_t at = 0;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto merge = ranks_.find({symbols[i], symbols[i + 1]});
        if (merge == ranks_.end()) continue;
        if (best == ranks_.end() || merge->second < best->second) {
          best = merge;
          at = i;
        }
      }
      if (best == ranks_.end()) break;
      symbols[at] += symbols[at + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    std::vector<TokenId> ids;
    for (const std::string& symbol : symbols) ids.push_back(ids_.at(symbol));
    return ids;
  }

  BpeModel model(BpeOptions options) const {
    std::vector<BpeModel::Entry> entries;
    for (const auto& [token, id] : ids_) entries.push_back({token, id});
    MergeTable merges(ranks_.size());
    for (const auto& [pair, rank] : ranks_) {
      merges.set(ids_.at(pair.first), ids_.at(pair.second),
                 {rank, ids_.at(pair.first + pair.second)});
    }
    return {entries, static_cast<std::int32_t>(tokens_.size()), std::move(merges), options};
  }

 private:
  void add(const std::string& token) {
    if (ids_.emplace(token, static_cast<TokenId>(tokens_.size())).second) tokens_.push_back(token);
  }

  std::vector<std::string> tokens_;
  std::map<std::string, TokenId> ids_;
  std::map<std::pair<std::string, std::string>, std::uint32_t> ranks_;
};

std::vector<TokenId> encode(const BpeModel& model, std::string_view piece) {
  std::vector<TokenId> ids = {-7};  // what is there already stays
  model.encode(piece, ids);
  CHECK(ids.front() == -7);
  return {ids.begin() + 1, ids.end()};
}

std::string random_piece(std::mt19937& random, std::size_t length, int num_letters) {
  std::string piece;
  for (std::size_t i = 0; i < length; ++i) {
    piece +=
        static_cast<char>('a' + static_cast<int>(random() % static_cast<unsigned>(num_letters)));
  }
  return piece;
}

TEST_CASE("short and long pieces are merged as the definition states") {
  std::mt19937 random(5);
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    const int num_letters = 1 + static_cast<int>(seed % 4);
    const Reference reference(seed, num_letters, 4 + static_cast<int>(seed) * 2);
    for (const bool ignore_merges : {false, true}) {
      const BpeModel model = reference.model({.ignore_merges = ignore_merges, .unk_token = {}});
      for (std::size_t length = 1; length < 120; length += 1 + length / 8) {
        for (int i = 0; i < 6; ++i) {
          const std::string piece = random_piece(random, length, num_letters);
          const std::vector<TokenId> expected = reference.encode(piece, ignore_merges);
          // Twice: the second time the answer may be remembered.
          if (encode(model, piece) != expected || encode(model, piece) != expected) {
            FAIL_CHECK("seed " << seed << " piece " << piece);
          }
        }
      }
    }
  }
}

TEST_CASE("unknown bytes are dropped, or become one token each or together") {
  const std::vector<BpeModel::Entry> entries = {{"a", 0}, {"b", 1}, {"ab", 2}, {"?", 3}};
  const auto make = [&](BpeOptions options) {
    MergeTable merges(1);
    merges.set(0, 1, {0, 2});
    return BpeModel(entries, 4, std::move(merges), options);
  };
  using Ids = std::vector<TokenId>;
  CHECK(encode(make({.unk_token = {}}), "axybz") == Ids{2});
  CHECK(encode(make({.unk_token = 3}), "axybz") == Ids{0, 3, 3, 1, 3});
  CHECK(encode(make({.unk_token = 3, .fuse_unk = true}), "axybz") == Ids{0, 3, 1, 3});
  CHECK(encode(make({.unk_token = {}}), "xyz").empty());
  CHECK(encode(make({.unk_token = {}}), "").empty());
}

TEST_CASE("of a merge given twice the last counts") {
  const std::vector<BpeModel::Entry> entries = {{"a", 0}, {"b", 1}, {"ab", 2}, {"bb", 3}};
  MergeTable merges(3);
  merges.set(0, 1, {0, 2});
  merges.set(1, 1, {1, 3});
  merges.set(0, 1, {2, 2});
  const BpeModel model(entries, 4, std::move(merges), {.unk_token = {}});
  CHECK(encode(model, "abb") == std::vector<TokenId>{0, 3});
}

TEST_CASE("one piece of a mebibyte is not quadratic") {
  const Reference reference(3, 1, 40);
  const BpeModel model = reference.model({.unk_token = {}});
  CHECK(encode(model, std::string(1 << 20, 'a')).size() < (1 << 20));
}

TEST_CASE("threads share a model") {
  const Reference reference(11, 3, 60);
  const BpeModel model = reference.model({.unk_token = {}});
  std::atomic<int> num_wrong = 0;
  std::vector<std::thread> threads;
  for (std::uint32_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed % 2);
      for (int i = 0; i < 500; ++i) {
        const std::string piece = random_piece(random, 1 + random() % 6, 3);
        std::vector<TokenId> ids;
        model.encode(piece, ids);
        if (ids != reference.encode(piece, false)) ++num_wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(num_wrong == 0);
}

}  // namespace
}  // namespace llmrun
