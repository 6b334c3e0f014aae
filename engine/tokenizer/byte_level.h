// The alphabet of byte-level BPE: each byte is one printable character (GPT-2's bytes_to_unicode).
// Printable Latin-1 stands for itself; the other 68 bytes, in order, are U+0100 and up.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace llmrun {

// The spelling of `bytes` in the alphabet.
std::string bytes_to_byte_level(std::string_view bytes);

// The bytes that `text` spells; nothing when a character is not of the alphabet.
// REQUIRES: text is UTF-8.
std::optional<std::string> byte_level_to_bytes(std::string_view text);

}  // namespace llmrun
