// A SentencePiece character map (precompiled_charsmap): a double array of strings and what each
// becomes. The "Precompiled" normalizer of a tokenizer.json is such a map in base64.
// Source: google/sentencepiece, normalizer.cc; s-yata/darts-clone; huggingface/spm_precompiled.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmrun {

// Throws Error(kModel) that begins with `place` when `map` is cut or a walk through it, or a value,
// would leave its bounds. An empty map is fine.
void check_character_map(std::string_view map, const std::string& place);

class CharacterMap {
 public:
  // `base64` as in tokenizer.json. Throws Error(kModel) that begins with `place`.
  CharacterMap(std::string_view base64, const std::string& place);

  // `text` with short graphemes, else single characters, replaced. REQUIRES: text is UTF-8.
  std::string apply(std::string_view text) const;

 private:
  // What the shortest string of the map that `text` begins with becomes; nothing without one.
  std::optional<std::string_view> find(std::string_view text) const;

  std::vector<std::uint32_t> units_;
  std::string strings_;  // each ends with NUL
};

}  // namespace llmrun
