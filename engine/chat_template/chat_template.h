// Chat templates: what turns a list of messages into the text a chat model was trained on. A
// template is Jinja source that ships with the checkpoint (or a built-in one); rendering equals
// Hugging Face's apply_chat_template byte for byte. The text already contains the special tokens,
// so it is tokenized without adding any.
#pragma once

#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/chat_template/render_budget.h"

namespace llmrun {

namespace jinja {
struct Template;
}

// One conversation could not be rendered: raise_exception() in the template, an undefined variable,
// a passed limit. It is that request's error, never the run's. what() begins with "name: line L
// column C: ".
class ChatTemplateError : public std::runtime_error {
 public:
  ChatTemplateError(const std::string& message, int line, int column)
      : std::runtime_error(message), line_(line), column_(column) {}
  int line() const { return line_; }
  int column() const { return column_; }

 private:
  int line_;
  int column_;
};

struct ChatTemplateOptions {
  bool add_generation_prompt = true;
  nlohmann::ordered_json tools;      // array of tool descriptions, or null
  nlohmann::ordered_json documents;  // array, or null
  // Further variables, an object: bos_token, eos_token and the other special tokens, and template
  // arguments such as enable_thinking. They win over messages, tools and the rest.
  nlohmann::ordered_json variables;
  std::optional<std::time_t> now;  // for strftime_now(); otherwise the clock
  jinja::RenderLimits limits;
};

class ChatTemplate {
 public:
  // `name` stands in messages: the file, or "chat template 'vicuna'". Throws Error(kModel) with
  // line and column when the source is not a template that llmrun can render.
  static ChatTemplate parse(std::string_view source, const std::string& name);

  // A template with a variant for requests that have tools.
  static ChatTemplate parse(std::string_view source, const std::string& name,
                            std::string_view tool_use_source, const std::string& tool_use_name);

  // The text of a conversation, an array of messages. Safe to call from several threads.
  // Throws ChatTemplateError.
  std::string render(const nlohmann::ordered_json& messages,
                     const ChatTemplateOptions& options) const;

  const std::string& name() const { return default_.name; }

 private:
  // Immutable, so copies of a ChatTemplate share it.
  struct Parsed {
    std::string name;
    std::shared_ptr<const jinja::Template> tree;
  };
  static Parsed parse_one(std::string_view source, const std::string& name);

  Parsed default_;
  std::optional<Parsed> tool_use_;
};

// The chat template of a model folder, by what --chat-template says:
//   auto     chat_template.jinja, else chat_template of tokenizer_config.json; nothing if there is
//   none none     nothing NAME     a built-in template: see built_in_chat_template_names() FILE a
//   file with Jinja source
// Throws Error(kModel) for a file that is no template, Error(kUsage) for an unknown name.
std::optional<ChatTemplate> load_chat_template(const std::filesystem::path& model_dir,
                                               const std::string& choice);

std::vector<std::string> built_in_chat_template_names();
// Nothing if there is none of that name.
std::optional<ChatTemplate> built_in_chat_template(std::string_view name);

}  // namespace llmrun
