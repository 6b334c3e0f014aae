#include "engine/prompt_processor.h"

#include <filesystem>
#include <system_error>
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
  // A token that the model does not have is an undefined variable, as in Hugging Face.
  const auto set_token = [&](const char* name, const std::optional<TokenId>& id) {
    if (id && !options.variables.contains(name)) {
      options.variables[name] = std::string(tokenizer_->token_bytes(*id));
    }
  };
  const SpecialTokenIds& special = tokenizer_->special_token_ids();
  set_token("bos_token", special.bos);
  set_token("eos_token", special.eos);
  set_token("pad_token", special.pad);
  set_token("unk_token", special.unk);
  try {
    return {.token_ids = tokenizer_->encode(chat_template_->render(messages, options), false),
            .error = {}};
  } catch (const ChatTemplateError& problem) {
    return {.token_ids = {}, .error = {"chat_template", problem.what()}};
  }
}

std::unique_ptr<Tokenizer> load_model_tokenizer(const std::string& model) {
  std::error_code ignored;
  if (std::filesystem::is_directory(model, ignored)) return load_tokenizer(model);
  const ModelLocation location = find_model(model, ModelCaches::from_environment());
  if (location.is_shape()) {
    throw Error(ErrorKind::kModel, model + " is a shape with random weights; it has no tokenizer");
  }
  return load_tokenizer(location.folder);
}

}  // namespace llmrun
