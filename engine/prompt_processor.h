// PromptProcessor: from what a user writes (text, chat messages) to the token ids a model reads.
// Thread-safe; holds the tokenizer and the chat template of one model.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/chat_template/chat_template.h"
#include "engine/core/token_id.h"
#include "engine/sequence/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

class PromptProcessor {
 public:
  struct Result {
    std::vector<TokenId> token_ids;
    RequestError error;
  };

  PromptProcessor(std::shared_ptr<const Tokenizer> tokenizer,
                  std::optional<ChatTemplate> chat_template)
      : tokenizer_(std::move(tokenizer)), chat_template_(std::move(chat_template)) {}

  // Plain text, with the special tokens the model wants around it (BOS).
  Result from_text(std::string_view text) const;
  // Messages through the chat template, which writes the special tokens itself: none are added, so
  // that BOS is never doubled. `tools` (an array) and `template_arguments` (an object) may be null.
  Result from_messages(const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
                       const nlohmann::ordered_json& template_arguments) const;

  bool has_chat_template() const { return chat_template_.has_value(); }
  const std::shared_ptr<const Tokenizer>& tokenizer() const { return tokenizer_; }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
};

// The tokenizer of a model given as on the command line. Throws Error(kModel).
std::unique_ptr<Tokenizer> load_model_tokenizer(const std::string& model);

}  // namespace llmrun
