// Builds a BpeTokenizer from the parts of a tokenizer.json.

#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/bpe_tokenizer.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/sentencepiece_spelling.h"
#include "engine/tokenizer/token_table.h"
#include "engine/tokenizer/tokenizer_json.h"

namespace llmrun {
namespace {

constexpr std::size_t kMaxAddedTokenBytes = 4096;  // matching takes text bytes times token bytes

StringIndex index_vocabulary(const TokenizerJson& json) {
  StringIndex index(json.vocabulary.size());
  for (const auto& [token, id] : json.vocabulary) index.insert(token, id);
  return index;
}

// Gives added tokens their ids as Hugging Face does: a token of the vocabulary keeps its id, a new
// one gets the next, whatever id the file states.
class AddedTokenNumbering {
 public:
  AddedTokenNumbering(const StringIndex& vocabulary, std::size_t vocabulary_size)
      : vocabulary_(vocabulary), next_id_(static_cast<TokenId>(vocabulary_size)) {}

  TokenId add(AddedToken token, AddedTokens& tokens) {
    TokenId id = tokens.find(token.content);
    if (id == TextSpan::kText) id = vocabulary_.find(token.content);
    if (id == StringIndex::kAbsent) id = std::max(next_id_, tokens.max_id() + 1);
    tokens.add(std::move(token), id);
    return id;
  }

 private:
  const StringIndex& vocabulary_;
  TokenId next_id_;
};

AddedTokens read_added_tokens(const TokenizerJson& json, const std::string& name,
                              const StringIndex& vocabulary, const TokenizerConfig& config) {
  AddedTokens tokens;
  AddedTokenNumbering numbering(vocabulary, json.vocabulary.size());
  const JsonObject root(json.root, name);
  const nlohmann::json* list = root.find_array("added_tokens");
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const JsonObject object((*list)[i], fmt::format("{}: added_tokens[{}]", name, i));
    AddedToken token = parse_added_token((*list)[i], object.place());
    const std::int64_t stated_id = object.get_int("id", 0, kMaxTokenId);
    if (token.content.empty()) object.fail("content", "empty");
    if (token.content.size() > kMaxAddedTokenBytes) {
      object.fail("content", fmt::format("{} bytes, but at most {} are supported",
                                         token.content.size(), kMaxAddedTokenBytes));
    }
    const TokenId id = numbering.add(std::move(token), tokens);
    if (id != stated_id) {
      object.fail("id", fmt::format("{}, but Hugging Face gives this token the id {}: a token of "
                                    "the vocabulary keeps its id, others follow in order",
                                    stated_id, id));
    }
  }
  const std::unordered_set<std::string> special_contents = config.special_contents();
  for (const auto& [stated_id, configured] : config.added_tokens) {
    AddedToken token = configured;
    token.special = token.special || special_contents.count(token.content) != 0;
    if (!token.content.empty()) numbering.add(std::move(token), tokens);
  }
  for (const AddedToken& token : config.special_tokens()) {
    if (!token.content.empty() && tokens.find(token.content) == TextSpan::kText) {
      numbering.add(token, tokens);
    }
  }
  return tokens;
}

Token make_byte_level_token(std::string text, bool special) {
  // A token with a character outside the alphabet stands for its own UTF-8.
  std::string bytes = byte_level_to_bytes(text).value_or(text);
  return {.text = std::move(text),
          .bytes = std::move(bytes),
          .known = true,
          .is_byte = false,
          .special = special};
}

TokenTable build_table(const TokenizerJson& json, const AddedTokens& added_tokens,
                       bool is_byte_level) {
  const auto make_token = is_byte_level ? make_byte_level_token : make_sentencepiece_token;
  TokenId max_id = added_tokens.max_id();
  for (const auto& entry : json.vocabulary) max_id = std::max(max_id, entry.id);
  TokenTable table;
  table.resize(static_cast<std::size_t>(max_id + 1));
  for (const auto& [token, id] : json.vocabulary) table.set(id, make_token(token, false));
  for (const auto& [id, token] : added_tokens.tokens()) {
    table.set(id, make_token(token.content, token.special));
  }
  return table;
}

MergeTable build_merges(const TokenizerJson& json, const std::string& name,
                        const StringIndex& vocabulary) {
  MergeTable merges(json.merges.size());
  std::string merged;
  for (std::size_t rank = 0; rank < json.merges.size(); ++rank) {
    const auto& [left, right] = json.merges[rank];
    merged.assign(left).append(right);
    const auto id_of = [&](const std::string& token) {
      const TokenId id = vocabulary.find(token);
      if (id == StringIndex::kAbsent) {
        throw Error(ErrorKind::kModel,
                    fmt::format("{}: model.merges[{}]: {} is not in the vocabulary", name, rank,
                                describe_json(token)));
      }
      return id;
    };
    const TokenId left_id = id_of(left);
    const TokenId right_id = id_of(right);
    merges.set(left_id, right_id, {static_cast<std::uint32_t>(rank), id_of(merged)});
  }
  return merges;
}

// True when text has no symbol without a token: every byte has one.
bool covers_all_text(const StringIndex& vocabulary, bool is_byte_level, bool byte_fallback) {
  if (!is_byte_level && !byte_fallback) return false;
  for (int value = 0; value < 256; ++value) {
    const char byte = static_cast<char>(value);
    const std::string token =
        is_byte_level ? bytes_to_byte_level({&byte, 1}) : make_byte_token(byte);
    if (vocabulary.find(token) == StringIndex::kAbsent) return false;
  }
  return true;
}

BpeOptions read_options(const JsonObject& model, const StringIndex& vocabulary,
                        bool is_byte_level) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.find_string(key).value_or("").empty()) model.fail(key, "not supported");
  }
  if (model.find_float("dropout", 0, 1).value_or(0) > 0) {
    model.fail("dropout", "only 0 is supported: encoding must not be random");
  }
  BpeOptions options{.characters = !is_byte_level,
                     .ignore_merges = model.find_bool("ignore_merges").value_or(false),
                     .byte_fallback = model.find_bool("byte_fallback").value_or(false),
                     .unk_token = std::nullopt,
                     .fuse_unk = model.find_bool("fuse_unk").value_or(false)};
  if (covers_all_text(vocabulary, is_byte_level, options.byte_fallback)) return options;
  if (is_byte_level && options.byte_fallback) {
    model.fail("byte_fallback", "needs a token for each byte of the byte-level alphabet");
  }
  if (const auto unk = model.find_string("unk_token")) {
    const TokenId id = vocabulary.find(*unk);
    if (id == StringIndex::kAbsent) model.fail("unk_token", "not in the vocabulary");
    options.unk_token = id;
  }
  return options;
}

BpeModel build_model(const TokenizerJson& json, const std::string& name, const JsonObject& model,
                     const StringIndex& vocabulary, const TokenTable& table, bool is_byte_level) {
  std::vector<BpeModel::Entry> entries;
  entries.reserve(json.vocabulary.size());
  for (const auto& [token, id] : json.vocabulary) {
    if (!is_byte_level) {
      entries.push_back({table[id].text, id});
    } else if (byte_level_to_bytes(token)) {
      // Pieces are spelled in the byte-level alphabet; a token that is not never occurs in one.
      entries.push_back({table[id].bytes, id});
    }
  }
  return {entries, table.size(), build_merges(json, name, vocabulary),
          read_options(model, vocabulary, is_byte_level)};
}

void read_template(const nlohmann::json& value, const std::string& place, const TokenTable& table,
                   TextTemplate& out) {
  if (value.is_null()) return;
  const JsonObject object(value, place);
  const std::string& type = object.get_string("type");
  if (type == "ByteLevel") return;  // only moves offsets
  if (type == "Sequence") {
    for (const nlohmann::json& element : object.get_array("processors")) {
      read_template(element, place + ": processors", table, out);
    }
    return;
  }
  if (type != "TemplateProcessing") {
    object.fail("type", fmt::format("post-processor {} is not supported (supported: ByteLevel, "
                                    "TemplateProcessing, Sequence)",
                                    describe_json(type)));
  }
  const auto special_tokens = object.find_object("special_tokens");
  bool after_text = false;
  for (const nlohmann::json& element : object.get_array("single")) {
    const JsonObject item(element, place + ": single");
    if (item.has("Sequence")) {
      if (after_text) item.fail("Sequence", "the text is there twice");
      after_text = true;
      continue;
    }
    const std::string token = item.get_object("SpecialToken").get_string("id");
    if (!special_tokens) object.fail("special_tokens", "missing");
    const JsonObject special = special_tokens->get_object(token);
    for (const nlohmann::json& id : special.get_array("ids")) {
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() > kMaxTokenId ||
          !table[id.get<TokenId>()].known) {
        special.fail("ids", fmt::format("expected ids of tokens, found {}", describe_json(id)));
      }
      (after_text ? out.suffix : out.prefix).push_back(id.get<TokenId>());
    }
  }
  if (!after_text) object.fail("single", "does not contain the text");
}

// The decoder of Llama's tokenizers: Replace "▁" by " ", ByteFallback, Fuse and maybe Strip.
DecodeRules read_decoder_sequence(const JsonObject& decoder) {
  constexpr std::array<std::string_view, 4> kTypes = {"Replace", "ByteFallback", "Fuse", "Strip"};
  const nlohmann::json& parts = decoder.get_array("decoders");
  const auto refuse = [&](std::string_view found) {
    decoder.fail("decoders", fmt::format("expected Replace, ByteFallback, Fuse and maybe Strip, as "
                                         "in Llama's tokenizers; found {}",
                                         found));
  };
  if (parts.size() != 3 && parts.size() != 4) refuse(fmt::format("{} decoders", parts.size()));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const JsonObject part(parts[i], fmt::format("{}: decoders[{}]", decoder.place(), i));
    const std::string& type = part.get_string("type");
    if (type != kTypes[i]) refuse(describe_json(type));
    if (type == "Replace" && (part.get_object("pattern").get_string("String") != kSpaceSymbol ||
                              part.get_string("content") != " ")) {
      part.fail("pattern", "only replacing \"▁\" by \" \" is supported");
    }
    if (type == "Strip" && (part.get_string("content") != " " || part.get_int("start", 0, 9) != 1 ||
                            part.get_int("stop", 0, 9) != 0)) {
      part.fail("type", "only stripping one space at the start is supported");
    }
  }
  return {.byte_fallback = true, .strip_leading_space = parts.size() == 4};
}

DecodeRules read_decoder(const JsonObject& root, bool is_byte_level) {
  const JsonObject decoder = root.get_object("decoder");
  const std::string& type = decoder.get_string("type");
  if (is_byte_level && type == "ByteLevel") return {};
  if (!is_byte_level && type == "Sequence") return read_decoder_sequence(decoder);
  decoder.fail("type",
               fmt::format("decoder {} is not supported with this pre-tokenizer (supported: "
                           "{})",
                           describe_json(type), is_byte_level ? "ByteLevel" : "Sequence"));
}

SpecialTokenIds find_special_ids(const TokenizerConfig& config, const AddedTokens& added_tokens) {
  const auto id_of = [&](const std::optional<AddedToken>& token) -> std::optional<TokenId> {
    if (!token) return std::nullopt;
    const TokenId id = added_tokens.find(token->content);
    return id == TextSpan::kText ? std::nullopt : std::optional(id);
  };
  return {.bos = id_of(config.bos_token),
          .eos = id_of(config.eos_token),
          .pad = id_of(config.pad_token),
          .unk = id_of(config.unk_token)};
}

void check_model_type(const JsonObject& model) {
  const std::string type = model.find_string("type").value_or("BPE");
  if (type != "BPE") {
    model.fail("type", fmt::format("{} is not supported (supported: BPE)", describe_json(type)));
  }
}

const nlohmann::json& member(const JsonObject& object, const char* key) {
  static const nlohmann::json kNull;
  const nlohmann::json* value = object.find(key);
  return value == nullptr ? kNull : *value;
}

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(std::string_view text, const std::string& name,
                                              const TokenizerConfig& config) {
  const TokenizerJson json = parse_tokenizer_json(text, name);
  const JsonObject root(json.root, name);
  const JsonObject model = root.get_object("model");
  check_model_type(model);
  if (json.vocabulary.empty()) model.fail("vocab", "missing or empty");
  Normalizer normalizer(member(root, "normalizer"), name + ": normalizer");
  PreTokenizer pre_tokenizer(member(root, "pre_tokenizer"), name + ": pre_tokenizer");
  const bool is_byte_level = pre_tokenizer.is_byte_level();
  const DecodeRules decode_rules = read_decoder(root, is_byte_level);

  const StringIndex vocabulary = index_vocabulary(json);
  AddedTokens added_tokens = read_added_tokens(json, name, vocabulary, config);
  added_tokens.build([&](std::string_view content) {
    std::string buffer;
    return std::string(normalizer.normalize(content, buffer));
  });
  TokenTable table = build_table(json, added_tokens, is_byte_level);
  TextTemplate text_template;
  read_template(member(root, "post_processor"), name + ": post_processor", table, text_template);
  BpeModel bpe = build_model(json, name, model, vocabulary, table, is_byte_level);
  const SpecialTokenIds special_token_ids = find_special_ids(config, added_tokens);
  return std::make_unique<BpeTokenizer>(
      BpeTokenizer::Parts{.tokens = std::move(table),
                          .added_tokens = std::move(added_tokens),
                          .normalizer = normalizer,
                          .pre_tokenizer = std::move(pre_tokenizer),
                          .model = std::move(bpe),
                          .text_template = std::move(text_template),
                          .special_token_ids = special_token_ids,
                          .decode_rules = decode_rules});
}

}  // namespace llmrun
