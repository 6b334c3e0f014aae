// Whole tokenizers: what load_tokenizer accepts and refuses, and rules that no golden file shows.

#include "engine/tokenizer/tokenizer.h"

#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/utf8.h"
#include "tests/engine/tokenizer/golden_folders.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::TemporaryFolder;

using nlohmann::json;
using Ids = std::vector<TokenId>;

const std::filesystem::path& kData = testing::kTokenizerData;

std::string data(const char* path) {
  return read_file(kData / path, 1 << 20, ErrorKind::kInput);
}

TEST_CASE("special tokens have their roles") {
  const auto llama = load_tokenizer(kData / "llama3");
  const TokenId bos = *llama->token_to_id("<|begin_of_text|>");
  CHECK(llama->special_token_ids().bos == bos);
  CHECK(llama->special_token_ids().eos == llama->token_to_id("<|eot_id|>"));
  CHECK_FALSE(llama->special_token_ids().pad.has_value());
  CHECK(llama->adds_bos());
  CHECK(llama->is_special(bos));
  CHECK_FALSE(llama->is_special(0));
  CHECK(llama->encode("", true) == Ids{bos});
  CHECK(llama->encode("", false).empty());
  CHECK(llama->token_to_id("no such token") == std::nullopt);

  const auto qwen = load_tokenizer(kData / "qwen2");
  CHECK_FALSE(qwen->adds_bos());
  CHECK(qwen->special_token_ids().pad == qwen->token_to_id("<|endoftext|>"));
  CHECK_FALSE(qwen->is_special(*qwen->token_to_id("<tool>")));

  const auto pieces = load_tokenizer(kData / "sentencepiece");
  CHECK(pieces->adds_bos());
  CHECK(pieces->special_token_ids().bos == 1);
  CHECK(pieces->special_token_ids().unk == 0);
  CHECK(pieces->is_special(2));
}

TEST_CASE("ids without a token decode to nothing") {
  for (const char* name : {"llama3", "sentencepiece"}) {
    const auto tokenizer = load_tokenizer(kData / name);
    const std::int32_t size = tokenizer->vocab_size();
    CHECK(tokenizer->decode(Ids{-1, size, size + 1000, 1 << 30}, false) == "");
    CHECK(tokenizer->token_bytes(size).empty());
    CHECK_FALSE(tokenizer->is_special(-5));
    CHECK_FALSE(tokenizer->token_bytes(size - 1).empty());
  }
}

TEST_CASE("pieces are printable") {
  const auto tokenizer = load_tokenizer(kData / "llama3");
  CHECK(tokenizer->piece(*tokenizer->token_to_id("Ġthe")) == " the");
  CHECK(tokenizer->piece(*tokenizer->token_to_id("Ã")) == kReplacementCharacter);
  const auto pieces = load_tokenizer(kData / "sentencepiece");
  CHECK(pieces->piece(*pieces->token_to_id("▁the")) == " the");
  CHECK(pieces->piece(*pieces->token_to_id("<0x0A>")) == "\n");
}

TEST_CASE("the spelling of a special token can be left as text") {
  for (const char* name : {"llama3", "sentencepiece_legacy"}) {
    const auto tokenizer = load_tokenizer(kData / name);
    const std::string spelling(tokenizer->token_bytes(*tokenizer->special_token_ids().eos));
    CHECK(tokenizer->encode(spelling, false) == Ids{*tokenizer->special_token_ids().eos});
    const Ids plain = tokenizer->encode(spelling, false, SpecialTokenText::kPlainText);
    CHECK(plain.size() > 1);
    for (const TokenId id : plain) CHECK_FALSE(tokenizer->is_special(id));
    CHECK(tokenizer->decode(plain, true) == spelling);
  }
}

TEST_CASE("bytes that are not UTF-8 count as U+FFFD") {
  for (const char* name : {"llama3", "qwen2", "sentencepiece"}) {
    const auto tokenizer = load_tokenizer(kData / name);
    for (const char* bytes : {"a\xFFz", "\xE2\x82", "\xF0\x9F\x98 x", "\xC0\x80", "\xED\xA0\x80"}) {
      CHECK(tokenizer->encode(bytes, true) == tokenizer->encode(replace_invalid_utf8(bytes), true));
    }
  }
}

TEST_CASE("long runs of one character are not quadratic, for any family") {
  for (const auto& folder : testing::golden_folders()) {
    CAPTURE(folder.string());
    const auto tokenizer = load_tokenizer(folder);
    for (const std::string unit : {"a", " ", "\n", "!", "的", "e\u0301"}) {
      std::string text;
      while (text.size() < (256 << 10)) text += unit;
      const Ids ids = tokenizer->encode(text, false);
      CHECK(ids.size() <= text.size() + 1);
      tokenizer->decode(ids, false);
    }
  }
}

TEST_CASE("a folder without a tokenizer") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH_AS(load_tokenizer(folder.path()),
                       doctest::Contains("expected tokenizer.json, tokenizer.model, or vocab.json"),
                       Error);
  CHECK_THROWS_AS(load_tokenizer(folder.path() / "missing"), Error);
}

// Loads llama3's tokenizer.json after a change of its JSON.
std::unique_ptr<Tokenizer> load_changed(const std::function<void(json&)>& change) {
  const TemporaryFolder folder;
  json value = json::parse(data("llama3/tokenizer.json"));
  change(value);
  folder.write("tokenizer.json", value.dump());
  return load_tokenizer(folder.path());
}

// Gives the id of the token of byte 0 to one that no text can spell.
void take_byte_zero_away(json& value) {
  json& vocabulary = value["model"]["vocab"];
  vocabulary["的"] = vocabulary["Ā"];
  vocabulary.erase("Ā");
}

TEST_CASE("tokenizer.json: what is malformed or not supported is named") {
  const auto refused = [](const std::function<void(json&)>& change, const char* message) {
    CHECK_THROWS_WITH_AS(load_changed(change), doctest::Contains(message), Error);
  };
  refused([](json& v) { v.erase("model"); }, "model: missing");
  refused([](json& v) { v["model"]["type"] = "WordPiece"; },
          "model: type: \"WordPiece\" is not supported");
  refused([](json& v) { v["model"]["type"] = "Unigram"; },
          "model: vocab: expected a list of pairs");
  refused(
      [](json& v) {
        v["model"]["vocab"] = {{"a", -1.5}, {"b"}};
      },
      "model.vocab[1]: expected [token, score]");
  refused([](json& v) { v["model"]["vocab"] = json::object(); }, "model: vocab: missing or empty");
  refused(
      [](json& v) {
        v["model"]["merges"].push_back({"a", "zzz"});
      },
      "model.merges[607]: \"zzz\" is not in the vocabulary");
  refused(
      [](json& v) {
        v["model"]["merges"].push_back({"q", "j"});
      },
      "\"qj\" is not in the vocabulary");
  refused([](json& v) { v["model"]["dropout"] = 0.5; }, "model: dropout: only 0 is supported");
  refused(
      [](json& v) {
        take_byte_zero_away(v);
        v["model"]["byte_fallback"] = true;
      },
      "model: byte_fallback: needs a token for each byte");
  refused([](json& v) { v["model"]["end_of_word_suffix"] = "</w>"; }, "model: end_of_word_suffix");
  refused([](json& v) { v["model"]["continuing_subword_prefix"] = "##"; },
          "continuing_subword_prefix");
  refused(
      [](json& v) {
        take_byte_zero_away(v);
        v["model"]["unk_token"] = "zzz";
      },
      "model: unk_token: not in the vocabulary");
  refused(
      [](json& v) {
        v["normalizer"] = {{"type", "BertNormalizer"}};
      },
      "normalizer \"BertNormalizer\" is not supported");
  refused(
      [](json& v) {
        v["pre_tokenizer"] = {{"type", "Punctuation"}};
      },
      "\"Punctuation\" is not supported");
  refused([](json& v) { v["pre_tokenizer"] = nullptr; }, "decoder \"ByteLevel\" is not supported");
  refused(
      [](json& v) {
        v["decoder"] = {{"type", "WordPiece"}};
      },
      "decoder \"WordPiece\" is not supported");
  refused([](json& v) { v["decoder"] = nullptr; }, "decoder: missing");
  refused(
      [](json& v) {
        v["post_processor"] = {{"type", "PairProcessing"}};
      },
      "post-processor \"PairProcessing\" is not supported");
  refused([](json& v) { v["post_processor"]["processors"][1]["single"] = json::array(); },
          "single: does not contain the text");
  refused([](json& v) { v["post_processor"]["processors"][1]["special_tokens"] = json::object(); },
          "special_tokens: <|begin_of_text|>: missing");
  for (const json& id : {json(-1), json(5000), json(1ULL << 40), json("x")}) {
    refused(
        [&](json& v) {
          v["post_processor"]["processors"][1]["special_tokens"]["<|begin_of_text|>"]["ids"] = {id};
        },
        "ids: expected ids of tokens");
  }
  refused([](json& v) { v["added_tokens"][0]["id"] = 7; },
          "added_tokens[0]: id: 7, but Hugging Face gives this token the id 900");
  refused([](json& v) { v["added_tokens"][0]["content"] = ""; }, "added_tokens[0]: content: empty");
  refused([](json& v) { v["added_tokens"][0]["content"] = std::string(5000, 'x'); },
          "at most 4096");
  refused([](json& v) { v["added_tokens"] = 5; }, "added_tokens: expected an array");
  refused([](json& v) { v = json::array(); }, "expected an object");
}

TEST_CASE("tokenizer.json: the decoder must be Llama's when symbols are characters") {
  const auto refused = [](const std::function<void(json&)>& change, const char* message) {
    const TemporaryFolder folder;
    json value = json::parse(data("llama2/tokenizer.json"));
    change(value["decoder"]);
    folder.write("tokenizer.json", value.dump());
    CHECK_THROWS_WITH_AS(load_tokenizer(folder.path()), doctest::Contains(message), Error);
  };
  refused([](json& v) { v["decoders"][1]["type"] = "CTC"; },
          "expected Replace, ByteFallback, Fuse");
  refused([](json& v) { v["decoders"].erase(2); }, "Strip without Fuse");
  refused([](json& v) { v["decoders"] = json::array(); }, "no Replace");
  refused([](json& v) { v["decoders"][0]["content"] = "x"; }, "only replacing");
  refused([](json& v) { v["decoders"][3]["start"] = 2; }, "only stripping one space");
  refused([](json& v) { v = {{"type", "ByteLevel"}}; }, "decoder \"ByteLevel\" is not supported");
}

TEST_CASE("tokenizer.json: odd but valid") {
  CHECK(load_changed([](json& v) { v["model"]["unk_token"] = "zzz"; })->vocab_size() == 906);
  CHECK(load_changed([](json& v) { v["model"].erase("type"); })->vocab_size() == 906);
  CHECK(load_changed([](json& v) { v["model"]["dropout"] = 0.0; })->vocab_size() == 906);
  CHECK(load_changed([](json& v) {
          v["truncation"] = {{"max_length", 2}};
        })
            ->encode("one two three", false)
            .size() > 2);
  CHECK_FALSE(load_changed([](json& v) { v["post_processor"] = nullptr; })->adds_bos());
  CHECK(load_changed([](json& v) {
          v.erase("added_tokens");
          v["post_processor"] = nullptr;
        })->vocab_size() == 900);
  // Two spellings of the same merges.
  const auto pairs = load_changed([](json&) {});
  const auto strings = load_changed([](json& v) {
    for (json& merge : v["model"]["merges"]) {
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    }
  });
  CHECK(pairs->encode("The quick brown fox", false) ==
        strings->encode("The quick brown fox", false));
}

// Loads and uses a folder; anything but Error(kModel) is a failure of the test.
void load_and_use(const TemporaryFolder& folder) {
  try {
    const auto tokenizer = load_tokenizer(folder.path());
    const Ids ids = tokenizer->encode("Hello, 世界! <s>[INST] é 123\n\n  x <|eot_id|>", true);
    tokenizer->decode(ids, false);
    for (TokenId id = -1; id <= tokenizer->vocab_size(); ++id) tokenizer->piece(id);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
  }
}

TEST_CASE("damaged bytes are an error or another tokenizer, never a crash") {
  std::mt19937 random(1);
  const TemporaryFolder folder;
  for (const auto& [source, name] :
       {std::pair("llama3/tokenizer.json", "tokenizer.json"),
        std::pair("sentencepiece/tokenizer.model", "tokenizer.model")}) {
    const std::string good = data(source);
    for (int round = 0; round < 300; ++round) {
      std::string bad = good;
      if (round % 3 == 0) bad.resize(random() % bad.size());
      for (std::size_t i = 0; i < 1 + random() % 4 && !bad.empty(); ++i) {
        bad[random() % bad.size()] = static_cast<char>(random());
      }
      folder.write(name, bad);
      load_and_use(folder);
    }
    std::filesystem::remove(folder.path() / name);
  }
}

// Every place in a JSON tree.
void collect(json& value, std::vector<json*>& places) {
  places.push_back(&value);
  if (value.is_structured() && value.size() < 60) {
    for (json& element : value) collect(element, places);
  }
}

TEST_CASE("a wrong value at any place of tokenizer.json is an error or ignored, never a crash") {
  const TemporaryFolder folder;
  const json good = json::parse(data("qwen2/tokenizer.json"));
  const std::vector<json> values = {nullptr,
                                    true,
                                    -1,
                                    1e300,
                                    4294967296,
                                    "",
                                    "x",
                                    "(",
                                    json::array(),
                                    json::object(),
                                    json::array({json::array()})};
  json copy = good;
  std::vector<json*> places;
  collect(copy, places);
  CHECK(places.size() > 60);
  for (std::size_t i = 0; i < places.size(); ++i) {
    for (std::size_t j = i % 2; j < values.size(); j += 2) {
      json bad = good;
      std::vector<json*> bad_places;
      collect(bad, bad_places);
      *bad_places[i] = values[j];
      folder.write("tokenizer.json", bad.dump());
      load_and_use(folder);
    }
  }
}

}  // namespace
}  // namespace llmrun
