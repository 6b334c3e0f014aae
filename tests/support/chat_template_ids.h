// What apply_chat_template(tokenize=True) gives for templates, tokenizers and conversations of the
// tests' data (scripts/make_chat_template_goldens.py).
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "engine/core/sha256.h"
#include "engine/core/token_id.h"

namespace llmrun::testing {

inline const std::string kChatTemplateData = LLMRUN_SOURCE_DIR "/tests/data/chat_template/";

inline nlohmann::ordered_json read_chat_template_data(const std::string& name) {
  std::ifstream file(kChatTemplateData + name);
  return nlohmann::ordered_json::parse(file);
}

// Ids as ids.json has them: their number, and 16 digits of a digest.
inline nlohmann::ordered_json digest_of_ids(const std::vector<TokenId>& ids) {
  const Sha256Digest digest = sha256(fmt::format("{}", fmt::join(ids, ",")));
  return {ids.size(), to_hex(digest).substr(0, 16)};
}

}  // namespace llmrun::testing
