// Builds a PipelineTokenizer from the parts of a tokenizer.json.

#include <algorithm>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/decode_rules.h"
#include "engine/tokenizer/pipeline_tokenizer.h"
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

// A token that adds its spelling to the text, but for spaces.
Token make_text_token(std::string text, bool special) {
  std::string bytes = replace_all(text, kSpaceSymbol, " ");
  return {.text = std::move(text),
          .bytes = std::move(bytes),
          .known = true,
          .is_byte = false,
          .special = special};
}

TokenTable build_table(const TokenizerJson& json, const AddedTokens& added_tokens,
                       bool is_byte_level, bool has_byte_tokens) {
  const auto make_token = is_byte_level     ? make_byte_level_token
                          : has_byte_tokens ? make_sentencepiece_token
                                            : make_text_token;
  TokenId max_id = added_tokens.max_id();
  for (const auto& entry : json.vocabulary) max_id = std::max(max_id, entry.id);
  TokenTable table;
  table.resize(static_cast<std::size_t>(max_id) + 1);
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

BpeModel build_bpe(const TokenizerJson& json, const std::string& name, const JsonObject& model,
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

UnigramModel build_unigram(const TokenizerJson& json, const JsonObject& model,
                           const TokenTable& table) {
  std::vector<UnigramModel::Entry> entries;
  entries.reserve(json.vocabulary.size());
  for (std::size_t i = 0; i < json.vocabulary.size(); ++i) {
    entries.push_back({table[json.vocabulary[i].id].text, json.scores[i]});
  }
  std::optional<TokenId> unk_id;
  if (const nlohmann::json* value = model.find("unk_id"); value != nullptr && !value->is_null()) {
    unk_id = static_cast<TokenId>(
        model.get_int("unk_id", 0, static_cast<std::int64_t>(entries.size()) - 1));
  }
  return {entries, unk_id, model.find_bool("byte_fallback").value_or(false)};
}

bool is_unigram(const TokenizerJson& json, const JsonObject& model) {
  const std::string type =
      model.find_string("type").value_or(json.scores.empty() ? "BPE" : "Unigram");
  if (type != "BPE" && type != "Unigram") {
    model.fail("type",
               fmt::format("{} is not supported (supported: BPE, Unigram)", describe_json(type)));
  }
  if ((type == "Unigram") == json.scores.empty()) {
    model.fail("vocab", type == "BPE" ? "expected an object" : "expected a list of pairs");
  }
  return type == "Unigram";
}

// True when no token has a "▁" after another character.
bool spaces_begin_tokens(const TokenizerJson& json) {
  return std::none_of(json.vocabulary.begin(), json.vocabulary.end(), [](const auto& entry) {
    std::string_view token = entry.token;
    while (token.starts_with(kSpaceSymbol)) token.remove_prefix(kSpaceSymbol.size());
    return token.find(kSpaceSymbol) != token.npos;
  });
}

// As transformers does: what tokenizer_config.json says about BOS and EOS wins, and says all where
// tokenizer.json says nothing.
TextTemplate build_text_template(const nlohmann::json& post_processor, const std::string& place,
                                 const TokenTable& table, const TokenizerConfig& config,
                                 const SpecialTokenIds& special) {
  if (!post_processor.is_null() && !config.add_bos_token && !config.add_eos_token) {
    return read_text_template(post_processor, place, [&](TokenId id) { return table[id].known; });
  }
  TextTemplate text_template;
  if (config.add_bos_token.value_or(false) && special.bos) {
    text_template.prefix.push_back(*special.bos);
  }
  if (config.add_eos_token.value_or(false) && special.eos) {
    text_template.suffix.push_back(*special.eos);
  }
  return text_template;
}

const nlohmann::json& member(const JsonObject& object, const char* key) {
  static const nlohmann::json kNull;
  const nlohmann::json* value = object.find(key);
  return value == nullptr ? kNull : *value;
}

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline_tokenizer(const TokenizerJson& json,
                                                   const std::string& name,
                                                   const TokenizerConfig& config) {
  const JsonObject root(json.root, name);
  const JsonObject model = root.get_object("model");
  if (json.vocabulary.empty()) model.fail("vocab", "missing or empty");
  const bool unigram = is_unigram(json, model);
  Normalizer normalizer(member(root, "normalizer"), name + ": normalizer");
  PreTokenizer pre_tokenizer(member(root, "pre_tokenizer"), name + ": pre_tokenizer");
  const bool is_byte_level = pre_tokenizer.is_byte_level();
  if (unigram && is_byte_level) model.fail("type", "Unigram with ByteLevel is not supported");
  const DecodeRules decode_rules =
      read_decode_rules(root.get_object("decoder").json(), name + ": decoder", is_byte_level);

  const StringIndex vocabulary = index_vocabulary(json);
  AddedTokens added_tokens = read_added_tokens(json, name, vocabulary, config);
  added_tokens.build([&](std::string_view content) {
    std::string buffer;
    return std::string(normalizer.normalize(content, buffer));
  });
  TokenTable table = build_table(json, added_tokens, is_byte_level, decode_rules.byte_fallback);
  const SpecialTokenIds special_token_ids = find_special_ids(config, added_tokens);
  TextTemplate text_template = build_text_template(
      member(root, "post_processor"), name + ": post_processor", table, config, special_token_ids);
  using Model = std::variant<BpeModel, UnigramModel>;
  const bool cut_before_spaces = !unigram && !is_byte_level && spaces_begin_tokens(json) &&
                                 vocabulary.find(kSpaceSymbol) != StringIndex::kAbsent &&
                                 !model.find_bool("ignore_merges").value_or(false);
  Model token_model = unigram
                          ? Model(build_unigram(json, model, table))
                          : Model(build_bpe(json, name, model, vocabulary, table, is_byte_level));
  return std::make_unique<PipelineTokenizer>(
      PipelineTokenizer::Parts{.tokens = std::move(table),
                               .added_tokens = std::move(added_tokens),
                               .normalizer = std::move(normalizer),
                               .pre_tokenizer = std::move(pre_tokenizer),
                               .model = std::move(token_model),
                               .cut_before_spaces = cut_before_spaces,
                               .text_template = std::move(text_template),
                               .special_token_ids = special_token_ids,
                               .decode_rules = decode_rules});
}

}  // namespace llmrun
