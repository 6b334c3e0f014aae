// An input that can be read: opened, and not something else than text by mistake.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "tools/input/input_buffer.h"

namespace llmrun {

struct OpenedInput {
  std::string name;                      // for messages
  std::unique_ptr<InputBuffer> bytes{};  // nothing of it is consumed
  const FileSource* file = nullptr;      // owned by bytes; null for other sources
};

// `path` is a file, a pipe, or "-" for standard input. What is there already is looked at; the
// writer of a pipe is not waited for. `stopped` as FileSource's. Throws Error(kInput), also for an
// input that is known to be empty.
OpenedInput open_input(const std::string& path, std::function<bool()> stopped = {});

// Throws Error(kInput) for an input that begins with `head` and is no text: compressed, in UTF-16,
// or binary, that is, with NUL bytes in the lines that make up most of its first 4096 bytes. A
// text with a few bad lines passes, and JSON always does: these are errors of their rows.
void refuse_other_than_text(std::string_view head, const std::string& name);

}  // namespace llmrun
