#include "engine/chat_template/chat_template.h"

#include <utility>

#include <fmt/format.h>

#include "engine/chat_template/built_in_chat_templates.h"
#include "engine/chat_template/jinja_interpreter.h"
#include "engine/chat_template/jinja_parser.h"
#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kMaxTokenizerConfigBytes = 64U << 20;

jinja::Value to_value(const nlohmann::ordered_json& json, jinja::RenderBudget& budget) {
  using jinja::Value;
  using Type = nlohmann::ordered_json::value_t;
  const jinja::RenderBudget::Depth depth(budget);
  budget.charge_steps();
  switch (json.type()) {
    case Type::boolean: return json.get<bool>();
    case Type::number_integer: return json.get<std::int64_t>();
    case Type::number_unsigned: {
      // Python has integers of any size; those past 64 bits lose digits here.
      const auto number = json.get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>(INT64_MAX)) return static_cast<double>(number);
      return static_cast<std::int64_t>(number);
    }
    case Type::number_float: return json.get<double>();
    case Type::string: return Value::string(json.get_ref<const std::string&>(), budget);
    case Type::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(to_value(item, budget));
      return Value::list(std::move(items), budget);
    }
    case Type::object: {
      std::vector<std::pair<Value, Value>> items;
      items.reserve(json.size());
      for (const auto& [key, item] : json.items()) {
        Value name = Value::string(key, budget);
        items.emplace_back(std::move(name), to_value(item, budget));
      }
      return Value::dict(std::move(items), budget);
    }
    default: return Value::none();
  }
}

// Reasoning goes by three names. As Hugging Face does, a message that has one gets the standard
// name, which templates read, and the one that the template of gpt-oss reads.
// Nothing for a message without reasoning.
std::optional<nlohmann::ordered_json> with_standard_reasoning(
    const nlohmann::ordered_json& message) {
  if (!message.is_object()) return std::nullopt;
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const auto reasoning = message.find(name);
    if (reasoning == message.end() || reasoning->is_null()) continue;
    nlohmann::ordered_json result = {{"thinking", *reasoning}};
    result.update(message);
    result["reasoning_content"] = *reasoning;
    return result;
  }
  return std::nullopt;
}

jinja::Value conversation_value(const nlohmann::ordered_json& messages,
                                jinja::RenderBudget& budget) {
  std::vector<jinja::Value> items;
  items.reserve(messages.size());
  for (const auto& message : messages) {
    const auto standard = with_standard_reasoning(message);
    items.push_back(to_value(standard ? *standard : message, budget));
  }
  return jinja::Value::list(std::move(items), budget);
}

// "default" and "tool_use" of a chat_template that is a list of {"name", "template"}.
ChatTemplate parse_named_templates(const nlohmann::json& list, const std::string& place) {
  std::optional<std::string> default_source;
  std::string tool_use_source;
  for (const auto& entry : list) {
    const JsonObject object(entry, place);
    const std::string& name = object.get_string("name");
    if (name == "default") default_source = object.get_string("template");
    if (name == "tool_use") tool_use_source = object.get_string("template");
  }
  if (!default_source) {
    throw Error(ErrorKind::kModel, fmt::format("{}: there is no template named 'default'", place));
  }
  return ChatTemplate::parse(*default_source, place + " 'default'", tool_use_source,
                             place + " 'tool_use'");
}

std::optional<ChatTemplate> load_from_model(const std::filesystem::path& model_dir) {
  const std::filesystem::path file = model_dir / "chat_template.jinja";
  if (const auto source = read_file_if_exists(file, jinja::kMaxTemplateBytes, ErrorKind::kModel)) {
    const std::filesystem::path tool_file =
        model_dir / "additional_chat_templates" / "tool_use.jinja";
    const auto tool_source =
        read_file_if_exists(tool_file, jinja::kMaxTemplateBytes, ErrorKind::kModel);
    return ChatTemplate::parse(*source, file.string(), tool_source.value_or(""),
                               tool_file.string());
  }
  const std::filesystem::path config_file = model_dir / "tokenizer_config.json";
  const auto text = read_file_if_exists(config_file, kMaxTokenizerConfigBytes, ErrorKind::kModel);
  if (!text) return std::nullopt;
  const nlohmann::json json = parse_json(*text, config_file.string());
  const JsonObject config(json, config_file.string());
  const nlohmann::json* entry = config.find("chat_template");
  if (entry == nullptr) return std::nullopt;
  const std::string place = config_file.string() + ": chat_template";
  if (entry->is_array()) return parse_named_templates(*entry, place);
  return ChatTemplate::parse(config.get_string("chat_template"), place);
}

}  // namespace

ChatTemplate::Parsed ChatTemplate::parse_one(std::string_view source, const std::string& name) {
  if (const std::size_t offset = first_invalid_utf8(source); offset != std::string_view::npos) {
    throw Error(
        ErrorKind::kModel,
        fmt::format("{}: byte {} is not UTF-8; a chat template is UTF-8 text", name, offset));
  }
  try {
    return {name, std::make_shared<const jinja::Template>(jinja::parse_template(source))};
  } catch (const jinja::SyntaxError& error) {
    const jinja::SourcePosition position =
        jinja::locate(jinja::normalize_newlines(source), error.offset());
    throw Error(ErrorKind::kModel, fmt::format("{}: line {} column {}: {}", name, position.line,
                                               position.column, error.what()));
  }
}

ChatTemplate ChatTemplate::parse(std::string_view source, const std::string& name) {
  ChatTemplate result;
  result.default_ = parse_one(source, name);
  return result;
}

ChatTemplate ChatTemplate::parse(std::string_view source, const std::string& name,
                                 std::string_view tool_use_source,
                                 const std::string& tool_use_name) {
  ChatTemplate result = parse(source, name);
  if (!tool_use_source.empty()) result.tool_use_ = parse_one(tool_use_source, tool_use_name);
  return result;
}

std::string ChatTemplate::render(const nlohmann::ordered_json& messages,
                                 const ChatTemplateOptions& options) const {
  const Parsed& parsed = tool_use_ && !options.tools.is_null() ? *tool_use_ : default_;
  jinja::Interpreter interpreter(*parsed.tree, options.limits,
                                 options.now.value_or(std::time(nullptr)));
  try {
    jinja::RenderBudget& budget = interpreter.budget();
    interpreter.set_variable("messages", conversation_value(messages, budget));
    interpreter.set_variable("tools", to_value(options.tools, budget));
    interpreter.set_variable("documents", to_value(options.documents, budget));
    interpreter.set_variable("add_generation_prompt", options.add_generation_prompt);
    for (const auto& [name, value] : options.variables.items()) {
      interpreter.set_variable(name, to_value(value, budget));
    }
    return interpreter.render();
  } catch (const jinja::RenderError& error) {
    const auto [line, column] = jinja::locate(parsed.tree->source, interpreter.offset());
    throw ChatTemplateError(
        fmt::format("{}: line {} column {}: {}", parsed.name, line, column, error.what()), line,
        column);
  }
}

std::vector<std::string> built_in_chat_template_names() {
  std::vector<std::string> names;
  for (const BuiltInChatTemplate& entry : built_in_chat_templates()) names.emplace_back(entry.name);
  return names;
}

std::optional<ChatTemplate> built_in_chat_template(std::string_view name) {
  for (const BuiltInChatTemplate& entry : built_in_chat_templates()) {
    if (entry.name != name) continue;
    return ChatTemplate::parse(entry.source, fmt::format("chat template '{}'", name));
  }
  return std::nullopt;
}

std::optional<ChatTemplate> load_chat_template(const std::filesystem::path& model_dir,
                                               const std::string& choice) {
  if (choice == "none") return std::nullopt;
  if (choice == "auto") return load_from_model(model_dir);
  if (auto built_in = built_in_chat_template(choice)) return built_in;
  const auto source = read_file_if_exists(choice, jinja::kMaxTemplateBytes, ErrorKind::kModel);
  if (!source) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--chat-template {}: neither a file nor one of auto, none, {}", choice,
                            fmt::join(built_in_chat_template_names(), ", ")));
  }
  return ChatTemplate::parse(*source, choice);
}

}  // namespace llmrun
