#include "engine/tokenizer/sentencepiece_model.h"

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

// Writes the wire format by hand.
std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string message(std::uint64_t number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string integer(std::uint64_t number, std::uint64_t value) {
  return varint(number << 3) + varint(value);
}
std::string number32(std::uint64_t number, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return varint(number << 3 | 5) + bytes;
}
std::string piece(const std::string& text, float score = 0, std::uint64_t type = 1) {
  return message(1, message(1, text) + number32(2, score) + integer(3, type));
}

void refused(const std::string& bytes, const char* text) {
  CHECK_THROWS_WITH_AS(parse_sentencepiece_model(bytes, "t.model"), doctest::Contains(text), Error);
}

TEST_CASE("pieces and the normalizer's flag") {
  const SentencePieceModel model = parse_sentencepiece_model(
      piece("<unk>", 0, 2) + piece("a", -1.5F) + message(2, integer(3, 2) + integer(4, 32000)) +
          message(3, integer(4, 0)) + message(99, "unknown fields are skipped") + integer(98, 5),
      "t.model");
  REQUIRE(model.pieces.size() == 2);
  CHECK(model.pieces[0].text == "<unk>");
  CHECK(model.pieces[0].type == SentencePieceModel::PieceType::kUnknown);
  CHECK(model.pieces[1].score == -1.5F);
  CHECK_FALSE(model.remove_extra_whitespaces);
  CHECK(parse_sentencepiece_model(piece("a"), "t").remove_extra_whitespaces);
}

TEST_CASE("bytes that are no such message") {
  refused("", "t.model: no pieces");
  refused("\x0A", "t.model: byte 1: cut varint");
  refused(
      "\x0A\x05"
      "abc",
      "t.model: byte 2: a field of 5 bytes, but its message ends after 3");
  refused("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "a field of 18446744073709551615 bytes");
  refused("\x0B", "t.model: byte 0: wire type 3 is not supported");
  refused(std::string("\x02\x00", 2), "field number 0");
  refused(std::string(11, '\xFF'), "varint of more than 10 bytes");
  refused("\x0D\x01\x02", "a field of 4 bytes, but its message ends after 2");
  refused(piece("a") + message(1, "\x0A\x09z"), "t.model: byte 16: a field of 9 bytes");
}

TEST_CASE("bad pieces") {
  refused(piece(""), "piece 0: empty");
  refused(piece("a") + piece("\xFF"), "piece 1: not UTF-8");
  refused(piece(std::string("a\0", 2)), "piece 0: holds a NUL byte");
  refused(piece("a", std::numeric_limits<float>::quiet_NaN()), "its score is not finite");
  refused(piece("a", std::numeric_limits<float>::infinity()), "its score is not finite");
  refused(piece("a", 0, 9), "piece 0: unknown type 9");
  refused(piece("a") + piece("b") + piece("a"), "piece 2: \"a\" is there twice");
  refused(piece("a") + message(2, integer(3, 4)), "model type 4 is not supported");
}

TEST_CASE("a character map may not lead out of itself") {
  const auto map = [](const std::vector<std::uint32_t>& units, const std::string& strings) {
    std::string bytes(4 + 4 * units.size(), '\0');
    const auto size = static_cast<std::uint32_t>(4 * units.size());
    std::memcpy(bytes.data(), &size, 4);
    if (size > 0) std::memcpy(bytes.data() + 4, units.data(), size);
    return piece("a") + message(3, message(2, bytes + strings));
  };
  std::vector<std::uint32_t> units(256, 0);
  const std::string end(1, '\0');
  CHECK(parse_sentencepiece_model(map(units, end), "t").pieces.size() == 1);
  refused(map(units, "x"), "precompiled_charsmap: its strings do not end with NUL");
  refused(map(units, ""), "do not end with NUL");
  refused(map({}, end), "its trie is empty");
  refused(map(std::vector<std::uint32_t>(8, 0), end), "unit 0 leads out of the trie");
  units[7] = 256U << 10;
  refused(map(units, end), "unit 7 leads out of the trie");
  units[7] = 0x100U | 5U << 10;  // has a value: in unit 7 ^ 5 = 2
  units[2] = 0x80000001U;
  refused(map(units, end), "unit 7 leads out of the strings");
  CHECK(parse_sentencepiece_model(map(units, "x" + end), "t").pieces.size() == 1);
  refused(piece("a") + message(3, message(2, std::string("\xFF\xFF\xFF\xFFxx", 6))), "trie is cut");
}

}  // namespace
}  // namespace llmrun
