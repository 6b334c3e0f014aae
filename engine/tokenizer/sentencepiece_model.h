// Reads and checks a SentencePiece model file (ModelProto of sentencepiece_model.proto) before the
// library gets it: the library reports bad files without a place, and trusts the character map.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llmrun {

struct SentencePieceModel {
  enum class PieceType : std::uint8_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6,
  };
  struct Piece {
    std::string text;
    float score = 0;
    PieceType type = PieceType::kNormal;
  };
  std::vector<Piece> pieces;             // the index is the id
  bool remove_extra_whitespaces = true;  // of the normalizer
};

// Throws Error(kModel): "<name>: byte N: ..." for bytes that are not such a message, and by id for
// pieces that are not UTF-8, empty, repeated or have a score that is not finite.
SentencePieceModel parse_sentencepiece_model(std::string_view bytes, const std::string& name);

}  // namespace llmrun
