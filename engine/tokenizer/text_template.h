// The "post_processor" of a tokenizer.json: the special tokens around a plain text.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/core/token_id.h"

namespace llmrun {

struct TextTemplate {
  std::vector<TokenId> prefix;
  std::vector<TokenId> suffix;
};

// `place` names the value in errors, `is_token` tells the ids that have a token. Supported: none,
// ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing, and a Sequence of them.
// Throws Error(kModel) that names anything else.
TextTemplate read_text_template(const nlohmann::json& value, const std::string& place,
                                const std::function<bool(TokenId)>& is_token);

}  // namespace llmrun
