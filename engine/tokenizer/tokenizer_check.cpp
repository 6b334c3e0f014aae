#include "engine/tokenizer/tokenizer_check.h"

#include <algorithm>
#include <ctime>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/tokenizer/incremental_decoder.h"

namespace llmrun {
namespace {

std::vector<TokenId> read_ids(const JsonObject& object) {
  std::vector<TokenId> ids;
  for (const nlohmann::json& id : object.get_array("ids")) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::numeric_limits<TokenId>::max()) {
      object.fail("ids", fmt::format("expected token ids, found {}", describe_json(id)));
    }
    ids.push_back(id.get<TokenId>());
  }
  return ids;
}

// The ids around the first difference: whole lists may be long.
std::string describe_ids(const std::vector<TokenId>& expected, const std::vector<TokenId>& found) {
  const auto [at, unused] =
      std::mismatch(expected.begin(), expected.end(), found.begin(), found.end());
  const auto index = static_cast<std::size_t>(at - expected.begin());
  const auto excerpt = [&](const std::vector<TokenId>& ids) {
    const std::size_t begin = index < 3 ? 0 : index - 3;
    const std::size_t end = std::min(ids.size(), index + 5);
    return std::vector<TokenId>(ids.begin() + static_cast<std::ptrdiff_t>(std::min(begin, end)),
                                ids.begin() + static_cast<std::ptrdiff_t>(end));
  };
  return fmt::format("ids differ at index {}: expected {} with {} there, found {} with {}", index,
                     counted(std::ssize(expected), "id"), excerpt(expected), found.size(),
                     excerpt(found));
}

std::string decode_by_token(const Tokenizer& tokenizer, const std::vector<TokenId>& ids,
                            bool skip_special_tokens) {
  IncrementalDecoder decoder(tokenizer,
                             {.skip_special_tokens = skip_special_tokens, .continues_text = false});
  std::string text;
  for (const TokenId id : ids) text += decoder.append(id);
  return text + decoder.finish();
}

// How one line differs; empty when it does not.
std::string compare(const Tokenizer& tokenizer, const JsonObject& line, TokenizerCheck& check) {
  const std::vector<TokenId> ids = read_ids(line);
  if (const auto text = line.find_string("text")) {
    const bool add_special_tokens = line.find_bool("add_special_tokens").value_or(false);
    const std::clock_t start = std::clock();
    const std::vector<TokenId> found = tokenizer.encode(*text, add_special_tokens);
    check.encode_seconds += static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    check.text_bytes += static_cast<std::int64_t>(text->size());
    if (found != ids) {
      return fmt::format("text {}: {}", describe_json(*text), describe_ids(ids, found));
    }
  }
  const auto decoded = line.find_string("decoded");
  if (!decoded) return {};
  for (const bool skip_special_tokens : {false, true}) {
    const std::string expected =
        skip_special_tokens ? line.find_string("decoded_without_special").value_or(*decoded)
                            : *decoded;
    const std::string whole = tokenizer.decode(ids, skip_special_tokens);
    if (whole != expected) {
      return fmt::format("ids {}: expected text {}, found {}", ids, describe_json(expected),
                         describe_json(whole));
    }
    const std::string by_token = decode_by_token(tokenizer, ids, skip_special_tokens);
    if (by_token != expected) {
      return fmt::format("ids {}: expected text {}, found {} token by token", ids,
                         describe_json(expected), describe_json(by_token));
    }
  }
  return {};
}

}  // namespace

TokenizerCheck check_tokenizer(const Tokenizer& tokenizer, std::istream& lines,
                               const std::string& name) {
  TokenizerCheck check;
  std::string text;
  for (std::int64_t number = 1; std::getline(lines, text); ++number) {
    if (text.find_first_not_of(" \t\r") == text.npos) continue;
    const std::string place = fmt::format("{}:{}", name, number);
    const nlohmann::json value = parse_json(text, place, kRequestJson);
    const JsonObject line(value, place, ErrorKind::kInput);
    const std::string difference = compare(tokenizer, line, check);
    ++check.num_lines;
    if (difference.empty()) continue;
    if (++check.num_differences == 1)
      check.first_difference = fmt::format("{}: {}", place, difference);
  }
  return check;
}

}  // namespace llmrun
