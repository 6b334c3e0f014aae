#include "engine/tokenizer/byte_level.h"

#include <array>
#include <cstdint>

#include "engine/core/utf8.h"

namespace llmrun {
namespace {

constexpr bool stands_for_itself(std::uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    characters[byte] = stands_for_itself(byte) ? byte : next++;
  }
  return characters;
}
constexpr std::array<char32_t, 256> kCharacterOfByte = make_alphabet();

constexpr char32_t kAlphabetEnd = 0x100 + 68;
constexpr std::int16_t kNotInAlphabet = -1;

constexpr std::array<std::int16_t, kAlphabetEnd> invert_alphabet() {
  std::array<std::int16_t, kAlphabetEnd> bytes{};
  for (std::int16_t& byte : bytes) byte = kNotInAlphabet;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    bytes[kCharacterOfByte[byte]] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}
constexpr std::array<std::int16_t, kAlphabetEnd> kByteOfCharacter = invert_alphabet();

}  // namespace

std::string bytes_to_byte_level(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes)
    append_utf8(text, kCharacterOfByte[static_cast<std::uint8_t>(byte)]);
  return text;
}

std::optional<std::string> byte_level_to_bytes(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const Utf8Character character = first_utf8_character(text);
    if (character.code_point >= kAlphabetEnd) return std::nullopt;
    const std::int16_t byte = kByteOfCharacter[character.code_point];
    if (byte == kNotInAlphabet) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    text.remove_prefix(character.length);
  }
  return bytes;
}

}  // namespace llmrun
