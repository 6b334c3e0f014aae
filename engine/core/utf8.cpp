#include "engine/core/utf8.h"

#include <algorithm>
#include <cstring>

namespace llmrun {
namespace {

// What may follow a lead byte. The second byte's range is narrower after E0, ED, F0 and F4.
struct LeadByte {
  std::uint8_t length;  // 0: not a lead byte
  std::uint8_t second_min;
  std::uint8_t second_max;
};

constexpr LeadByte classify(std::uint8_t byte) {
  if (byte < 0xC2 || byte > 0xF4) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  return {4, 0x80, 0x8F};
}

// Length of the ASCII run at the beginning of `text`.
std::size_t ascii_prefix(std::string_view text) {
  std::size_t i = 0;
  for (; i + 8 <= text.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + i, 8);
    if ((word & 0x8080808080808080U) != 0) break;
  }
  while (i < text.size() && static_cast<std::uint8_t>(text[i]) < 0x80) ++i;
  return i;
}

}  // namespace

Utf8Character first_utf8_character(std::string_view text) {
  const auto first = static_cast<std::uint8_t>(text[0]);
  if (first < 0x80) return {Utf8State::kValid, 1, first};
  const LeadByte lead = classify(first);
  if (lead.length == 0) return {Utf8State::kInvalid, 1, 0};
  char32_t code_point = first & (0x7FU >> lead.length);
  std::uint8_t min = lead.second_min;
  std::uint8_t max = lead.second_max;
  for (std::uint8_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {Utf8State::kIncomplete, i, 0};
    const auto byte = static_cast<std::uint8_t>(text[i]);
    if (byte < min || byte > max) return {Utf8State::kInvalid, i, 0};
    code_point = (code_point << 6) | (byte & 0x3FU);
    min = 0x80;
    max = 0xBF;
  }
  return {Utf8State::kValid, lead.length, code_point};
}

std::size_t first_invalid_utf8(std::string_view text) {
  std::size_t position = 0;
  while (true) {
    position += ascii_prefix(text.substr(position));
    if (position == text.size()) return std::string_view::npos;
    const Utf8Character character = first_utf8_character(text.substr(position));
    if (character.state != Utf8State::kValid) return position;
    position += character.length;
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t good = std::min(first_invalid_utf8(text), text.size());
    out.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) break;
    out.append(kReplacementCharacter);
    text.remove_prefix(first_utf8_character(text).length);
  }
  return out;
}

std::size_t incomplete_utf8_tail(std::string_view text) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(3, text.size()); ++length) {
    const std::string_view tail = text.substr(text.size() - length);
    if ((static_cast<std::uint8_t>(tail[0]) & 0xC0U) == 0x80) continue;  // a continuation byte
    const Utf8Character character = first_utf8_character(tail);
    return character.state == Utf8State::kIncomplete ? length : 0;
  }
  return 0;
}

void append_utf8(std::string& out, char32_t code_point) {
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0U | (code_point >> 6));
    put(0x80U | (code_point & 0x3FU));
  } else if (code_point < 0x10000) {
    put(0xE0U | (code_point >> 12));
    put(0x80U | ((code_point >> 6) & 0x3FU));
    put(0x80U | (code_point & 0x3FU));
  } else {
    put(0xF0U | (code_point >> 18));
    put(0x80U | ((code_point >> 12) & 0x3FU));
    put(0x80U | ((code_point >> 6) & 0x3FU));
    put(0x80U | (code_point & 0x3FU));
  }
}

}  // namespace llmrun
