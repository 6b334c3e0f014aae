#include "engine/tokenizer/decode_rules.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/tokenizer/sentencepiece_spelling.h"

namespace llmrun {
namespace {

DecodeRules read_metaspace(const JsonObject& decoder) {
  if (decoder.get_string("replacement") != kSpaceSymbol) {
    decoder.fail("replacement", "only \"▁\" is supported");
  }
  const bool never = decoder.find_string("prepend_scheme").value_or("always") == "never" ||
                     !decoder.find_bool("add_prefix_space").value_or(true);
  return {.byte_fallback = false,
          .leading_space = never ? LeadingSpace::kKeep : LeadingSpace::kDropInFirstToken};
}

// The decoders of SentencePiece vocabularies: each at most once, in this order; spaces must be
// replaced, and only a fused text may be stripped.
DecodeRules read_sequence(const JsonObject& decoder) {
  constexpr std::array<std::string_view, 4> kTypes = {"Replace", "ByteFallback", "Fuse", "Strip"};
  const nlohmann::json& parts = decoder.get_array("decoders");
  const auto refuse = [&](std::string_view found) {
    decoder.fail("decoders", fmt::format("expected Replace, ByteFallback, Fuse and maybe Strip, as "
                                         "in Llama's tokenizers; found {}",
                                         found));
  };
  std::array<bool, 4> has{};
  std::size_t next = 0;  // the first of kTypes that may come
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const JsonObject part(parts[i], fmt::format("{}: decoders[{}]", decoder.place(), i));
    const std::string& type = part.get_string("type");
    const auto at =
        std::find(kTypes.begin() + static_cast<std::ptrdiff_t>(next), kTypes.end(), type);
    if (at == kTypes.end()) refuse(describe_json(type));
    next = static_cast<std::size_t>(at - kTypes.begin()) + 1;
    has[next - 1] = true;
    if (type == "Replace" && (part.get_object("pattern").get_string("String") != kSpaceSymbol ||
                              part.get_string("content") != " ")) {
      part.fail("pattern", "only replacing \"▁\" by \" \" is supported");
    }
    if (type == "Strip" && (part.get_string("content") != " " || part.get_int("start", 0, 9) != 1 ||
                            part.get_int("stop", 0, 9) != 0)) {
      part.fail("type", "only stripping one space at the start is supported");
    }
  }
  const auto [replace, byte_fallback, fuse, strip] = has;
  if (!replace) refuse("no Replace");
  if (strip && !fuse) refuse("Strip without Fuse before it");
  return {.byte_fallback = byte_fallback,
          .leading_space = strip ? LeadingSpace::kDropOne : LeadingSpace::kKeep};
}

}  // namespace

DecodeRules read_decode_rules(const nlohmann::json& value, const std::string& place,
                              bool is_byte_level) {
  const JsonObject decoder(value, place);
  const std::string& type = decoder.get_string("type");
  if (is_byte_level && type == "ByteLevel") return {};
  if (!is_byte_level && type == "Metaspace") return read_metaspace(decoder);
  if (!is_byte_level && type == "Sequence") return read_sequence(decoder);
  decoder.fail("type", fmt::format("decoder {} is not supported with this pre-tokenizer "
                                   "(supported: {})",
                                   describe_json(type),
                                   is_byte_level ? "ByteLevel" : "Metaspace, Sequence"));
}

}  // namespace llmrun
