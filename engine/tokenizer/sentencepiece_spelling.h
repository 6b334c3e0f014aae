// How SentencePiece vocabularies spell spaces and single bytes: "▁the", "<0xE4>".
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/tokenizer/token_table.h"

namespace llmrun {

inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

// The byte that a token stands for; nothing for tokens that are text.
std::optional<char> parse_byte_token(std::string_view token);

// The token that stands for a byte.
std::string make_byte_token(char byte);

// A token of such a vocabulary, with the bytes it adds to decoded text.
Token make_sentencepiece_token(std::string text, bool special);

// `text` with every `from`, left to right, replaced; or appends it. REQUIRES: from is not empty.
void append_replaced(std::string& out, std::string_view text, std::string_view from,
                     std::string_view to);
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace llmrun
