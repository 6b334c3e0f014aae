// Readings of whole texts, for the tests of what a RequestReader makes of them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/tools/input/text_source.h"
#include "tools/input/request_reader.h"

namespace llmrun {

inline std::vector<InputItem> read_all(RequestReader& reader) {
  std::vector<InputItem> items;
  while (auto item = reader.next()) items.push_back(std::move(*item));
  return items;
}

inline std::vector<InputItem> read_text(const std::string& text,
                                        const std::string& name = "prompts.jsonl",
                                        const ReaderOptions& options = {},
                                        std::size_t piece = 1 << 20) {
  RequestReader reader(std::make_unique<TextSource>(text, piece), name, options);
  return read_all(reader);
}

// The one row of a text.
inline InputItem read_one(const std::string& text, const std::string& name = "prompts.jsonl",
                          const ReaderOptions& options = {}) {
  std::vector<InputItem> items = read_text(text, name, options);
  REQUIRE(items.size() == 1);
  return std::move(items[0]);
}

inline std::string error_code(const InputItem& item) {
  return item.error ? item.error->code : "";
}

// What two readings of the same bytes must agree in.
inline std::string describe(const InputItem& item) {
  return fmt::format("{} {} {} {} {} [{}] {} {} {}", item.index, item.line, item.byte_offset,
                     item.id, item.has_id, item.prompt, item.messages.dump(),
                     item.prompt_token_ids.size(), error_code(item)) +
         item.content_hash;
}

}  // namespace llmrun
