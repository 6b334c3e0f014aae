#include "engine/tokenizer/tokenizer_json.h"

#include <cmath>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/json_tree_builder.h"
#include "engine/tokenizer/token_table.h"

namespace llmrun {
namespace {

// Takes model.vocab and model.merges for itself; everything else becomes a tree.
class TokenizerJsonHandler final : public JsonHandler {
 public:
  TokenizerJsonHandler(const std::string& name, TokenizerJson& out) : name_(name), out_(out) {}

  bool null() override { return part_ == Part::kTree ? tree_.null() : refuse("null"); }
  bool boolean(bool value) override {
    return part_ == Part::kTree ? tree_.boolean(value) : refuse("a boolean");
  }
  bool number_float(double value, const std::string& token) override {
    return part_ == Part::kTree ? tree_.number_float(value, token) : refuse(token);
  }
  bool number_integer(std::int64_t value) override {
    return part_ == Part::kTree ? tree_.number_integer(value) : refuse(std::to_string(value));
  }
  bool number_unsigned(std::uint64_t value) override {
    if (part_ == Part::kTree) return tree_.number_unsigned(value);
    if (part_ != Part::kVocabulary || value > kMaxTokenId) return refuse(std::to_string(value));
    out_.vocabulary.push_back({std::move(key_), static_cast<TokenId>(value)});
    return true;
  }
  bool string(std::string& value) override {
    if (part_ == Part::kTree) return tree_.string(value);
    if (part_ == Part::kMerges) {
      add_merge(value);
    } else if (part_ == Part::kMergePair) {
      pair_.push_back(std::move(value));
    } else {
      refuse("a string");
    }
    return true;
  }
  bool key(std::string& value) override {
    key_ = value;
    return part_ == Part::kTree ? tree_.key(value) : true;
  }
  bool start_object(std::size_t size) override {
    if (part_ != Part::kTree) return refuse("an object");
    if (at_model_key("vocab")) {
      part_ = Part::kVocabulary;
      return true;
    }
    ++depth_;
    if (depth_ == 2) in_model_ = key_ == "model";
    return tree_.start_object(size);
  }
  bool end_object() override {
    if (part_ == Part::kVocabulary) {
      part_ = Part::kTree;
      return tree_.null();
    }
    if (depth_ == 2) in_model_ = false;
    --depth_;
    return tree_.end_object();
  }
  bool start_array(std::size_t size) override {
    if (part_ == Part::kMerges) {
      part_ = Part::kMergePair;
      return true;
    }
    if (part_ != Part::kTree) return refuse("an array");
    if (at_model_key("merges")) {
      part_ = Part::kMerges;
      return true;
    }
    ++depth_;
    return tree_.start_array(size);
  }
  bool end_array() override {
    if (part_ == Part::kMergePair) {
      if (pair_.size() != 2) refuse(fmt::format("a list of {} strings", pair_.size()));
      out_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
      pair_.clear();
      part_ = Part::kMerges;
      return true;
    }
    if (part_ == Part::kMerges) {
      part_ = Part::kTree;
      return tree_.null();
    }
    --depth_;
    return tree_.end_array();
  }

  nlohmann::json take_tree() { return tree_.take(); }

 private:
  enum class Part { kTree, kVocabulary, kMerges, kMergePair };

  bool at_model_key(std::string_view key) const { return in_model_ && depth_ == 2 && key_ == key; }

  // "a b"; a part that holds a space can only be written as a pair.
  void add_merge(const std::string& text) {
    if (text.starts_with("#version")) return;  // the first line of an old merges.txt
    const std::size_t space = text.find(' ');
    if (space == text.npos || text.find(' ', space + 1) != text.npos) {
      refuse(describe_json(text));
    }
    out_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }

  [[noreturn]] bool refuse(std::string_view found) const {
    const std::string where =
        part_ == Part::kVocabulary
            ? fmt::format("model.vocab: {}: expected an id from 0 to {}", describe_json(key_),
                          kMaxTokenId)
            : fmt::format("model.merges[{}]: expected \"left right\" or [\"left\", \"right\"]",
                          out_.merges.size());
    throw Error(ErrorKind::kModel, fmt::format("{}: {}, found {}", name_, where, found));
  }

  const std::string& name_;
  TokenizerJson& out_;
  JsonTreeBuilder<nlohmann::json> tree_{false};
  Part part_ = Part::kTree;
  int depth_ = 0;          // of the tree
  bool in_model_ = false;  // inside the top-level object "model"
  std::string key_;        // the last one
  std::vector<std::string> pair_;
};

// The [token, score] pairs of a unigram model leave the tree for the lists.
void take_scored_vocabulary(TokenizerJson& json, const std::string& name) {
  if (!json.root.is_object()) return;
  const auto model = json.root.find("model");
  if (model == json.root.end() || !model->is_object()) return;
  const auto pairs = model->find("vocab");
  if (pairs == model->end() || !pairs->is_array()) return;
  for (nlohmann::json& pair : *pairs) {
    const std::size_t id = json.vocabulary.size();
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_number() ||
        !std::isfinite(pair[1].get<double>()) || id > static_cast<std::size_t>(kMaxTokenId)) {
      throw Error(ErrorKind::kModel, fmt::format("{}: model.vocab[{}]: expected [token, score], "
                                                 "found {}",
                                                 name, id, describe_json(pair)));
    }
    json.vocabulary.push_back(
        {std::move(pair[0].get_ref<std::string&>()), static_cast<TokenId>(id)});
    json.scores.push_back(pair[1].get<double>());
  }
  *pairs = nullptr;
}

}  // namespace

// Ids may have gaps, but not so many that tables indexed by id outgrow the file.
void check_token_ids(const TokenizerJson& json, const std::string& name) {
  const std::size_t max_id = 4 * json.vocabulary.size() + 65536;
  std::vector<bool> seen;
  std::unordered_set<std::string_view> tokens;
  tokens.reserve(json.vocabulary.size());
  for (const auto& [token, id] : json.vocabulary) {
    const auto fail = [&, &text = token](std::string_view what) {
      throw Error(ErrorKind::kModel,
                  fmt::format("{}: model.vocab: {}: {}", name, describe_json(text), what));
    };
    const auto index = static_cast<std::size_t>(id);
    if (index > max_id) {
      fail(fmt::format("id {} is far above the number of tokens, {}", id, json.vocabulary.size()));
    }
    if (index >= seen.size()) seen.resize(index + 1);
    if (seen[index]) fail(fmt::format("id {} belongs to another token, too", id));
    seen[index] = true;
    if (!tokens.insert(token).second) fail("the token is there twice");
  }
}

TokenizerJson parse_tokenizer_json(std::string_view text, const std::string& name) {
  TokenizerJson json;
  TokenizerJsonHandler handler(name, json);
  parse_json_events(text, name, kFileJson, handler);
  json.root = handler.take_tree();
  take_scored_vocabulary(json, name);
  check_token_ids(json, name);
  return json;
}

AddedToken parse_added_token(const nlohmann::json& value, const std::string& place) {
  const JsonObject object(value, place);
  const bool special = object.find_bool("special").value_or(false);
  return {.content = object.get_string("content"),
          .single_word = object.find_bool("single_word").value_or(false),
          .lstrip = object.find_bool("lstrip").value_or(false),
          .rstrip = object.find_bool("rstrip").value_or(false),
          .normalized = object.find_bool("normalized").value_or(!special),
          .special = special};
}

}  // namespace llmrun
