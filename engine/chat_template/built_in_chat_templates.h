// Sources of the chat templates that ship with llmrun, for models whose checkpoint has none.
#pragma once

#include <span>
#include <string_view>

namespace llmrun {

struct BuiltInChatTemplate {
  std::string_view name;
  std::string_view source;
};

std::span<const BuiltInChatTemplate> built_in_chat_templates();

}  // namespace llmrun
