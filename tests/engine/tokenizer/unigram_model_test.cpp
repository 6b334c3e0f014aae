#include "engine/tokenizer/unigram_model.h"

#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

using Ids = std::vector<TokenId>;
using Vocabulary = std::vector<UnigramModel::Entry>;

Ids encode(const UnigramModel& model, std::string_view text) {
  Ids ids;
  model.encode(text, ids);
  return ids;
}

// The best sum of scores over all cuts, by trying all.
double best_score(const Vocabulary& vocabulary, std::string_view text) {
  if (text.empty()) return 0;
  double best = -std::numeric_limits<double>::infinity();
  for (const auto& [token, score] : vocabulary) {
    if (!text.starts_with(token)) continue;
    best = std::max(best, score + best_score(vocabulary, text.substr(token.size())));
  }
  return best;
}

TEST_CASE("the cut with the highest sum of scores") {
  const Vocabulary vocabulary = {{"a", -1.5},   {"b", -2.25}, {"ab", -3.0},
                                 {"abb", -5.5}, {"ba", -3.5}, {"bba", -4.125}};
  const UnigramModel model(vocabulary, std::nullopt, false);
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (std::size_t length = 1 + random() % 12; text.size() < length;) text += "ab"[random() % 2];
    std::string joined;
    double score = 0;
    for (const TokenId id : encode(model, text)) {
      joined += vocabulary[static_cast<std::size_t>(id)].text;
      score += vocabulary[static_cast<std::size_t>(id)].score;
    }
    CHECK(joined == text);
    CHECK(score == best_score(vocabulary, text));
  }
  CHECK(encode(model, "").empty());
}

TEST_CASE("characters without a token") {
  const Vocabulary vocabulary = {{"<unk>", 0}, {"a", -1}, {"é", -1}};
  const UnigramModel model(vocabulary, 0, false);
  CHECK(encode(model, "axya的éx") == Ids{1, 0, 1, 0, 2, 0});
  CHECK(encode(UnigramModel(vocabulary, std::nullopt, false), "axya") == Ids{1, 1});
  const Vocabulary with_bytes = {{"<unk>", 0}, {"a", -1}, {"<0x78>", -2}, {"<0x79>", -2}};
  const UnigramModel fallback(with_bytes, 0, true);
  CHECK(encode(fallback, "axya") == Ids{1, 2, 3, 1});
  CHECK(encode(fallback, "axz") == Ids{1, 0});  // all bytes of the run or none
}

TEST_CASE("a long run takes linear time") {
  const UnigramModel model({{"<unk>", 0}, {"a", -1}, {"aa", -1.5}}, 0, false);
  CHECK(encode(model, std::string(1 << 20, 'a')).size() == 1 << 19);
  CHECK(encode(model, std::string(1 << 20, 'x')) == Ids{0});
}

}  // namespace
}  // namespace llmrun
