#include "engine/tokenizer/character_map.h"

#include <cstring>

#include <fmt/format.h>
#include <utf8proc.h>

#include "engine/core/error.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

// Graphemes of at least this many bytes are looked up character by character.
constexpr std::size_t kLongGrapheme = 6;

std::uint32_t read_u32(std::string_view bytes, std::size_t index) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + 4 * index, 4);
  return value;
}

std::uint32_t offset_of(std::uint32_t unit) {
  return (unit >> 10) << ((unit & 0x200U) >> 6);
}
bool has_value(std::uint32_t unit) {
  return (unit & 0x100U) != 0;
}
constexpr std::uint32_t kValueMask = 0x7FFFFFFFU;

std::string decode_base64(std::string_view text, const std::string& place) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t bits = 0;
  int num_bits = 0;
  for (const char c : text) {
    const std::size_t digit = kDigits.find(c);
    if (digit == kDigits.npos) throw Error(ErrorKind::kModel, place + ": not base64");
    bits = (bits << 6) | static_cast<std::uint32_t>(digit);
    num_bits += 6;
    if (num_bits >= 8) {
      num_bits -= 8;
      bytes += static_cast<char>(bits >> num_bits);
      bits &= (1U << num_bits) - 1;
    }
  }
  return bytes;
}

// Bytes of the first extended grapheme cluster.
std::size_t first_grapheme(std::string_view text) {
  std::size_t length = 0;
  utf8proc_int32_t state = 0;
  utf8proc_int32_t previous = -1;
  while (length < text.size()) {
    const Utf8Character character = first_utf8_character(text.substr(length));
    const auto current = static_cast<utf8proc_int32_t>(character.code_point);
    if (length > 0 && utf8proc_grapheme_break_stateful(previous, current, &state)) break;
    previous = current;
    length += character.length;
  }
  return length;
}

}  // namespace

void check_character_map(std::string_view map, const std::string& place) {
  if (map.empty()) return;
  const auto refuse = [&](std::string_view what) {
    throw Error(ErrorKind::kModel, fmt::format("{}: {}", place, what));
  };
  if (map.size() < 4) refuse("cut");
  const std::uint64_t trie_bytes = read_u32(map, 0);
  if (trie_bytes % 4 != 0 || trie_bytes > map.size() - 4) refuse("its trie is cut");
  const std::string_view trie = map.substr(4, static_cast<std::size_t>(trie_bytes));
  const std::string_view strings = map.substr(4 + trie.size());
  if (strings.empty() || strings.back() != '\0') refuse("its strings do not end with NUL");
  const std::size_t num_units = trie.size() / 4;
  if (num_units == 0) refuse("its trie is empty");
  if ((read_u32(trie, 0) >> 31) != 0) refuse("its trie has no root");
  for (std::size_t i = 0; i < num_units; ++i) {
    const std::uint32_t unit = read_u32(trie, i);
    if ((unit >> 31) != 0) continue;  // a value, looked at through its parent
    const std::size_t child = i ^ offset_of(unit);
    if ((child | 0xFFU) >= num_units) refuse(fmt::format("unit {} leads out of the trie", i));
    if (has_value(unit) && (read_u32(trie, child) & kValueMask) >= strings.size()) {
      refuse(fmt::format("unit {} leads out of the strings", i));
    }
  }
}

CharacterMap::CharacterMap(std::string_view base64, const std::string& place) {
  const std::string map = decode_base64(base64, place);
  check_character_map(map, place);
  if (map.empty()) return;
  units_.resize(read_u32(map, 0) / 4);
  std::memcpy(units_.data(), map.data() + 4, 4 * units_.size());
  strings_ = map.substr(4 + 4 * units_.size());
  if (!is_valid_utf8(strings_)) throw Error(ErrorKind::kModel, place + ": its strings: not UTF-8");
}

std::optional<std::string_view> CharacterMap::find(std::string_view text) const {
  if (units_.empty()) return std::nullopt;
  std::size_t node = offset_of(units_[0]);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) return std::nullopt;
    node ^= byte;
    const std::uint32_t unit = units_[node];
    if ((unit & 0x800000FFU) != byte) return std::nullopt;
    node ^= offset_of(unit);
    if (!has_value(unit)) continue;
    // The value may point into the middle of a character only in a broken file.
    const std::string_view value(strings_.c_str() + (units_[node] & kValueMask));
    return is_valid_utf8(value) ? std::optional(value) : std::nullopt;
  }
  return std::nullopt;
}

std::string CharacterMap::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    std::string_view grapheme = text.substr(0, first_grapheme(text));
    text.remove_prefix(grapheme.size());
    if (grapheme.size() < kLongGrapheme) {
      if (const auto mapped = find(grapheme)) {
        out.append(*mapped);
        continue;
      }
    }
    while (!grapheme.empty()) {
      const std::string_view character = grapheme.substr(0, first_utf8_character(grapheme).length);
      out.append(find(character).value_or(character));
      grapheme.remove_prefix(character.size());
    }
  }
  return out;
}

}  // namespace llmrun
