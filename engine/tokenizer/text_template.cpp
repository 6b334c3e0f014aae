#include "engine/tokenizer/text_template.h"

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/tokenizer/token_table.h"

namespace llmrun {
namespace {

class TextTemplateReader {
 public:
  explicit TextTemplateReader(const std::function<bool(TokenId)>& is_token) : is_token_(is_token) {}

  void read(const nlohmann::json& value, const std::string& place) {
    if (value.is_null()) return;
    const JsonObject object(value, place);
    const std::string& type = object.get_string("type");
    if (type == "ByteLevel") return;  // only moves offsets
    if (type == "Sequence") {
      for (const nlohmann::json& element : object.get_array("processors")) {
        read(element, place + ": processors");
      }
    } else if (type == "TemplateProcessing") {
      read_template(object);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      template_.prefix.push_back(read_pair(object, "cls"));
      template_.suffix.push_back(read_pair(object, "sep"));
    } else {
      object.fail("type", fmt::format("post-processor {} is not supported (supported: ByteLevel, "
                                      "TemplateProcessing, BertProcessing, RobertaProcessing, "
                                      "Sequence)",
                                      describe_json(type)));
    }
  }

  TextTemplate take() { return std::move(template_); }

 private:
  TokenId read_id(const JsonObject& object, const char* key, const nlohmann::json& id) const {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > kMaxTokenId ||
        !is_token_(id.get<TokenId>())) {
      object.fail(key, fmt::format("expected ids of tokens, found {}", describe_json(id)));
    }
    return id.get<TokenId>();
  }

  // ["<s>", 0]
  TokenId read_pair(const JsonObject& object, const char* key) const {
    const nlohmann::json& pair = object.get_array(key);
    if (pair.size() != 2) object.fail(key, "expected a token and its id");
    return read_id(object, key, pair[1]);
  }

  void read_template(const JsonObject& object) {
    const auto special_tokens = object.find_object("special_tokens");
    bool after_text = false;
    for (const nlohmann::json& element : object.get_array("single")) {
      const JsonObject item(element, object.place() + ": single");
      if (item.has("Sequence")) {
        if (after_text) item.fail("Sequence", "the text is there twice");
        after_text = true;
        continue;
      }
      const std::string token = item.get_object("SpecialToken").get_string("id");
      if (!special_tokens) object.fail("special_tokens", "missing");
      const JsonObject special = special_tokens->get_object(token);
      for (const nlohmann::json& id : special.get_array("ids")) {
        (after_text ? template_.suffix : template_.prefix).push_back(read_id(special, "ids", id));
      }
    }
    if (!after_text) object.fail("single", "does not contain the text");
  }

  const std::function<bool(TokenId)>& is_token_;
  TextTemplate template_;
};

}  // namespace

TextTemplate read_text_template(const nlohmann::json& value, const std::string& place,
                                const std::function<bool(TokenId)>& is_token) {
  TextTemplateReader reader(is_token);
  reader.read(value, place);
  return reader.take();
}

}  // namespace llmrun
