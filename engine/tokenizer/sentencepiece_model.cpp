#include "engine/tokenizer/sentencepiece_model.h"

#include <bit>
#include <cmath>
#include <unordered_set>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/core/utf8.h"
#include "engine/tokenizer/character_map.h"

namespace llmrun {
namespace {

[[noreturn]] void fail(const std::string& name, std::size_t offset, std::string_view what) {
  throw Error(ErrorKind::kModel, fmt::format("{}: byte {}: {}", name, offset, what));
}

// Reads the fields of one protobuf message.
// Source: protobuf.dev/programming-guides/encoding.
class MessageReader {
 public:
  enum class WireType : std::uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  struct Field {
    std::uint64_t number;
    WireType type;
    std::uint64_t value;     // varint, or the bits of a fixed field
    std::string_view bytes;  // of kBytes
    std::size_t offset;      // of what follows the tag, in the file
  };

  // `offset` is where `message` lies in the file.
  MessageReader(std::string_view message, std::size_t offset, const std::string& name)
      : message_(message), offset_(offset), name_(name) {}

  // False at the end of the message.
  bool next(Field& field) {
    if (position_ == message_.size()) return false;
    const std::size_t tag_at = position_;
    const std::uint64_t tag = varint();
    field = {tag >> 3, static_cast<WireType>(tag & 7U), 0, {}, offset_ + position_};
    if (field.number == 0) fail(name_, offset_ + tag_at, "field number 0");
    switch (field.type) {
      case WireType::kVarint: field.value = varint(); break;
      case WireType::kFixed64: field.value = fixed<std::uint64_t>(); break;
      case WireType::kFixed32: field.value = fixed<std::uint32_t>(); break;
      case WireType::kBytes: {
        const std::uint64_t length = varint();
        field.offset = offset_ + position_;
        field.bytes = take(length);
        break;
      }
      default:
        fail(name_, offset_ + tag_at, fmt::format("wire type {} is not supported", tag & 7U));
    }
    return true;
  }

 private:
  std::string_view take(std::uint64_t count) {
    const std::size_t left = message_.size() - position_;
    if (count > left) {
      fail(name_, offset_ + position_,
           fmt::format("a field of {} bytes, but its message ends after {}", count, left));
    }
    const std::string_view taken = message_.substr(position_, static_cast<std::size_t>(count));
    position_ += taken.size();
    return taken;
  }
  template <typename T>
  T fixed() {
    T value = 0;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::uint64_t varint() {
    const std::size_t begin = position_;
    std::uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
      if (position_ == message_.size()) fail(name_, offset_ + begin, "cut varint");
      const auto byte = static_cast<std::uint8_t>(message_[position_++]);
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if (byte < 0x80) return value;
    }
    fail(name_, offset_ + begin, "varint of more than 10 bytes");
  }

  std::string_view message_;
  std::size_t offset_;
  const std::string& name_;
  std::size_t position_ = 0;
};
using Field = MessageReader::Field;
using WireType = MessageReader::WireType;

SentencePieceModel::Piece read_piece(const Field& message, std::size_t id,
                                     const std::string& name) {
  SentencePieceModel::Piece piece;
  MessageReader reader(message.bytes, message.offset, name);
  Field field{};
  while (reader.next(field)) {
    if (field.number == 1 && field.type == WireType::kBytes) {
      piece.text = field.bytes;
    } else if (field.number == 2 && field.type == WireType::kFixed32) {
      piece.score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    } else if (field.number == 3 && field.type == WireType::kVarint) {
      if (field.value < 1 || field.value > 6) {
        fail(name, field.offset, fmt::format("piece {}: unknown type {}", id, field.value));
      }
      piece.type = static_cast<SentencePieceModel::PieceType>(field.value);
    }
  }
  const auto refuse = [&](std::string_view what) {
    fail(name, message.offset, fmt::format("piece {}: {}", id, what));
  };
  if (piece.text.empty()) refuse("empty");
  if (!is_valid_utf8(piece.text)) refuse("not UTF-8");
  if (piece.text.find('\0') != piece.text.npos) refuse("holds a NUL byte");
  if (!std::isfinite(piece.score)) refuse("its score is not finite");
  return piece;
}

void read_normalizer(const Field& message, const std::string& name,
                     bool& remove_extra_whitespaces) {
  MessageReader reader(message.bytes, message.offset, name);
  Field field{};
  while (reader.next(field)) {
    if (field.number == 2 && field.type == WireType::kBytes) {
      check_character_map(field.bytes,
                          fmt::format("{}: byte {}: precompiled_charsmap", name, field.offset));
    }
    if (field.number == 4 && field.type == WireType::kVarint) {
      remove_extra_whitespaces = field.value != 0;
    }
  }
}

void read_trainer(const Field& message, const std::string& name) {
  constexpr std::uint64_t kUnigram = 1;
  constexpr std::uint64_t kBpe = 2;
  MessageReader reader(message.bytes, message.offset, name);
  Field field{};
  while (reader.next(field)) {
    if (field.number == 3 && field.type == WireType::kVarint && field.value != kUnigram &&
        field.value != kBpe) {
      fail(
          name, field.offset,
          fmt::format("model type {} is not supported (supported: 1 unigram, 2 BPE)", field.value));
    }
  }
}

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& name) {
  SentencePieceModel model;
  MessageReader reader(bytes, 0, name);
  Field field{};
  while (reader.next(field)) {
    if (field.type != WireType::kBytes) continue;
    if (field.number == 1) model.pieces.push_back(read_piece(field, model.pieces.size(), name));
    if (field.number == 2) read_trainer(field, name);
    if (field.number == 3) read_normalizer(field, name, model.remove_extra_whitespaces);
    bool unused = false;
    if (field.number == 5) read_normalizer(field, name, unused);  // the denormalizer
  }
  std::unordered_set<std::string_view> texts;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    if (!texts.insert(model.pieces[id].text).second) {
      throw Error(ErrorKind::kModel, fmt::format("{}: piece {}: {} is there twice", name, id,
                                                 describe_json(model.pieces[id].text)));
    }
  }
  if (model.pieces.empty()) {
    throw Error(ErrorKind::kModel, fmt::format("{}: no pieces: not a SentencePiece model", name));
  }
  return model;
}

}  // namespace llmrun
