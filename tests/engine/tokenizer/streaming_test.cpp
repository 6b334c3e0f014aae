// Decoding token by token against decoding at once, for the tokenizers of all families.

#include <algorithm>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "engine/core/utf8.h"
#include "engine/tokenizer/incremental_decoder.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/engine/tokenizer/golden_folders.h"

namespace llmrun {
namespace {

using testing::golden_folders;

// Cut after any token, what has come plus what is held back is the text of the tokens so far; and
// what has come never changes.
void check_every_split(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                       bool skip_special_tokens) {
  IncrementalDecoder decoder(tokenizer,
                             {.skip_special_tokens = skip_special_tokens, .continues_text = false});
  std::string text;
  for (std::size_t split = 0;; ++split) {
    IncrementalDecoder ended = decoder;
    const std::string whole =
        tokenizer.decode(std::span(ids).subspan(0, split), skip_special_tokens);
    if (text + ended.finish() != whole || !is_valid_utf8(text)) {
      FAIL_CHECK("split at " << split << " of " << nlohmann::json(ids).dump());
      return;
    }
    if (split == ids.size()) return;
    text += decoder.append(ids[split]);
  }
}

TEST_CASE("streamed text equals whole text at every split, for every family") {
  for (const auto& folder : golden_folders()) {
    CAPTURE(folder.string());
    const auto tokenizer = load_tokenizer(folder);
    std::ifstream lines(folder / "golden.jsonl");
    for (std::string line; std::getline(lines, line);) {
      const auto ids = nlohmann::json::parse(line).at("ids").get<std::vector<TokenId>>();
      for (const bool skip : {false, true}) check_every_split(*tokenizer, ids, skip);
    }
    // Mostly bytes, so that characters begin, end and break everywhere.
    std::mt19937 random(1);
    for (int round = 0; round < 300; ++round) {
      std::vector<TokenId> ids(1 + random() % 24);
      for (TokenId& id : ids) {
        const std::int32_t size = tokenizer->vocab_size() + 1;  // one without a token
        id = static_cast<TokenId>(random() % (random() % 4 == 0 ? size : std::min(size, 260)));
      }
      for (const bool skip : {false, true}) check_every_split(*tokenizer, ids, skip);
    }
  }
}

TEST_CASE("text cut anywhere and encoded in two pieces decodes to itself") {
  // Of the families whose decoders keep every space.
  for (const char* name : {"llama3", "qwen2", "qwen3", "gpt2", "deepseek", "deepseek_v3"}) {
    CAPTURE(name);
    const auto tokenizer = load_tokenizer(testing::kTokenizerData / name);
    const std::string text = "Stra\u00dfe \u65e5\u672c\u8a9e  \U0001f600\n\n x1234 \u0441\u043b";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
      if (incomplete_utf8_tail(text.substr(0, cut)) != 0) continue;
      std::vector<TokenId> ids = tokenizer->encode(text.substr(0, cut), false);
      const std::vector<TokenId> rest = tokenizer->encode(text.substr(cut), false);
      ids.insert(ids.end(), rest.begin(), rest.end());
      CHECK(tokenizer->decode(ids, false) == text);
    }
  }
}

}  // namespace
}  // namespace llmrun
