#include "tools/input/opened_input.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/utf8.h"

namespace llmrun {
namespace {

constexpr std::size_t kHeadBytes = 4096;

// Characters that no text has many of: what is no UTF-8, and control characters but for white
// space.
std::size_t count_odd_characters(std::string_view text) {
  std::size_t count = 0;
  while (!text.empty()) {
    const Utf8Character character = first_utf8_character(text);
    const bool is_control = character.code_point < 0x20 && character.code_point != 0 &&
                            text.find_first_of("\t\n\v\f\r\b\x1b") != 0;
    if (character.state == Utf8State::kInvalid || is_control) ++count;
    text.remove_prefix(character.length);
  }
  return count;
}

// Files with NUL bytes: most of them stand in lines with one, or every tenth byte is odd besides.
bool is_binary(std::string_view head) {
  head = head.substr(0, kHeadBytes);
  if (head.starts_with('{') || head.starts_with('[')) return false;
  if (head.find('\0') == head.npos) return false;
  std::size_t binary_bytes = 0;
  for (std::string_view rest = head; !rest.empty();) {
    const std::string_view line = rest.substr(0, std::min(rest.find('\n'), rest.size() - 1) + 1);
    if (line.find('\0') != line.npos) binary_bytes += line.size();
    rest.remove_prefix(line.size());
  }
  return 2 * binary_bytes > head.size() || 10 * count_odd_characters(head) > head.size();
}

}  // namespace

OpenedInput open_input(const std::string& path, std::function<bool()> stopped) {
  auto file = std::make_unique<FileSource>(path, std::move(stopped));
  OpenedInput input{.name = path == "-" ? "<stdin>" : path, .file = file.get()};
  input.bytes = std::make_unique<InputBuffer>(std::move(file));
  bool has_ended = false;
  try {
    while (!has_ended && input.bytes->data().size() < kHeadBytes && input.bytes->ready()) {
      has_ended = !input.bytes->fill();
    }
  } catch (const InputInterrupted&) {
    // The first row's reading ends the run.
  }
  if (has_ended && input.bytes->data().empty()) {
    throw Error(ErrorKind::kInput, fmt::format("{}: is empty; expected prompts", input.name));
  }
  refuse_other_than_text(input.bytes->data(), input.name);
  return input;
}

void refuse_other_than_text(std::string_view head, const std::string& name) {
  const auto refuse = [&name](const std::string& what) {
    throw Error(ErrorKind::kInput, fmt::format("{}: {}", name, what));
  };
  if (head.starts_with("\x1f\x8b")) {
    refuse("is compressed by gzip; pass it through zcat: zcat FILE | llmrun generate -");
  }
  if (head.starts_with("\x28\xb5\x2f\xfd")) {
    refuse("is compressed by zstd; pass it through zstdcat: zstdcat FILE | llmrun generate -");
  }
  if (head.starts_with("\xff\xfe") || head.starts_with("\xfe\xff")) {
    refuse("is encoded in UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8 FILE");
  }
  if (is_binary(head)) {
    refuse(
        fmt::format("is a binary file (NUL bytes in the first {}); expected prompts in UTF-8: "
                    "one a line, JSON lines, ShareGPT JSON or an OpenAI batch file",
                    kHeadBytes));
  }
}

}  // namespace llmrun
