#include "engine/prompt_processor.h"

#include <utility>

#include "engine/core/error.h"
#include "engine/weights/model_location.h"

namespace llmrun {

PromptProcessor::Result PromptProcessor::from_text(std::string_view text) const {
  if (tokenizer_ == nullptr) {
    return {.token_ids = {},
            .error = {"no_tokenizer", "this model has no tokenizer; give prompt_token_ids"}};
  }
  return {.token_ids = tokenizer_->encode(text, true), .error = {}};
}

PromptProcessor::Result PromptProcessor::from_messages(
    const nlohmann::ordered_json& messages, const nlohmann::ordered_json& tools,
    const nlohmann::ordered_json& template_arguments) const {
  if (tokenizer_ == nullptr) {
    return {.token_ids = {},
            .error = {"no_tokenizer", "this model has no tokenizer; give prompt_token_ids"}};
  }
  if (!chat_template_) {
    return {.token_ids = {},
            .error = {
                "chat_template",
                "this model has no chat template; use --chat-template NAME or FILE, or a prompt"}};
  }
  ChatTemplateOptions options;
  options.tools = tools;
  options.variables =
      template_arguments.is_object() ? template_arguments : nlohmann::ordered_json::object();
  const auto token_text = [&](const std::optional<TokenId>& id) {
    return id ? std::string(tokenizer_->token_bytes(*id)) : std::string();
  };
  const SpecialTokenIds& special = tokenizer_->special_token_ids();
  options.variables["bos_token"] = token_text(special.bos);
  options.variables["eos_token"] = token_text(special.eos);
  try {
    return {.token_ids = tokenizer_->encode(chat_template_->render(messages, options), false),
            .error = {}};
  } catch (const ChatTemplateError& problem) {
    return {.token_ids = {}, .error = {"chat_template", problem.what()}};
  }
}

std::unique_ptr<Tokenizer> load_model_tokenizer(const std::string& model) {
  const ModelLocation location = find_model(model, ModelCaches::from_environment());
  if (location.is_shape()) {
    throw Error(ErrorKind::kModel, model + " is a shape with random weights; it has no tokenizer");
  }
  return load_tokenizer(location.folder);
}

}  // namespace llmrun
