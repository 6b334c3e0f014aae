// The page at `/`: chat_page.html, put into the program when it is built.
#pragma once

#include <string>
#include <string_view>

namespace llmrun {

std::string_view chat_page();

// The page's Content-Security-Policy: only its own script and style, known by their digests, and
// nothing from elsewhere; but any endpoint may be asked, that is what the page is for.
std::string chat_page_policy();

}  // namespace llmrun
