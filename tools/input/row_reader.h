// Rows as one format has them. RequestReader numbers them and sees to their ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tools/input/input_buffer.h"
#include "tools/input/input_item.h"
#include "tools/input/request_fields.h"

namespace llmrun {

// How a conversation of a ShareGPT file becomes a prompt.
enum class ShareGptTurns : std::uint8_t {
  // The first turn "from" a "human" or "user" is the prompt; the turn after it, if there is one,
  // the expected completion. Everything before it (a system turn) and after that is left out.
  kFirstHuman,
  // The rule of vLLM's ShareGPTDataset: at least two turns; turn 0 is the prompt and turn 1 the
  // expected completion, whoever speaks.
  kFirstTwo,
};

struct RowReaderOptions {
  RequestRules rules;
  ShareGptTurns sharegpt_turns = ShareGptTurns::kFirstHuman;
  std::size_t max_row_bytes = std::size_t{64} << 20;
};

class RowReader {
 public:
  virtual ~RowReader() = default;
  // The next row: everything but `index`, and `id` only when the row has one.
  virtual std::optional<InputItem> next() = 0;
  // Whether next() would return at once, as far as can be told.
  virtual bool ready() const = 0;

  IgnoredFields ignored;                            // so far
  std::map<std::string, std::int64_t> num_skipped;  // so far, by reason
};

// `input` must outlive the reader; `options` is copied.
std::unique_ptr<RowReader> make_text_rows(InputBuffer& input, const RowReaderOptions& options);
std::unique_ptr<RowReader> make_jsonl_rows(InputBuffer& input, const RowReaderOptions& options);
std::unique_ptr<RowReader> make_batch_rows(InputBuffer& input, const RowReaderOptions& options);
// One JSON array. Elements without "conversations" may be requests as in JSONL when
// `allow_requests`; otherwise they are skipped.
std::unique_ptr<RowReader> make_sharegpt_rows(InputBuffer& input, const RowReaderOptions& options,
                                              bool allow_requests);

}  // namespace llmrun
