// The "decoder" of a tokenizer.json, as DecodeRules.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "engine/tokenizer/tokenizer.h"

namespace llmrun {

// `place` names the value in errors. Supported: ByteLevel for byte-level tokens; for others
// Metaspace, or a Sequence of Replace ("▁" by " "), ByteFallback, Fuse and Strip as far as they are
// there. Throws Error(kModel) that names anything else.
DecodeRules read_decode_rules(const nlohmann::json& value, const std::string& place,
                              bool is_byte_level);

}  // namespace llmrun
