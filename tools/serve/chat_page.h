// The page at `/`: chat_page.html, put into the program when it is built.
#pragma once

#include <string_view>

namespace llmrun {

std::string_view chat_page();

}  // namespace llmrun
