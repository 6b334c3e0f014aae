#include "tools/terminal.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <system_error>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace llmrun {
namespace {

constexpr int kDefaultColumns = 80;
constexpr int kMinColumns = 10;
constexpr int kMaxColumns = 1000;

std::string_view value_of(const Environment& environment, const char* name) {
  const char* value = environment(name);
  return value == nullptr ? std::string_view() : value;
}

bool is_utf8_locale(const Environment& environment) {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = value_of(environment, name);
    if (value.empty()) continue;
    std::string lower(value);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return lower.find("utf-8") != lower.npos || lower.find("utf8") != lower.npos;
  }
  return false;
}

const char* process_environment(const char* name) {
  return std::getenv(name);
}

}  // namespace

std::optional<ColorMode> color_mode_from(std::string_view name) {
  if (name == "auto") return ColorMode::kAuto;
  if (name == "always") return ColorMode::kAlways;
  if (name == "never") return ColorMode::kNever;
  return std::nullopt;
}

TerminalStyle terminal_style(int fd, ColorMode mode, const Environment& environment) {
  TerminalStyle style;
  const std::string_view term = value_of(environment, "TERM");
  style.redraws = ::isatty(fd) == 1 && !term.empty() && term != "dumb";
  const std::string_view force = value_of(environment, "CLICOLOR_FORCE");
  switch (mode) {
    case ColorMode::kAlways: style.color = true; break;
    case ColorMode::kNever: style.color = false; break;
    case ColorMode::kAuto:
      style.color = (!force.empty() && force != "0") ||
                    (style.redraws && value_of(environment, "NO_COLOR").empty());
      break;
  }
  style.unicode = is_utf8_locale(environment);
  style.columns = terminal_columns(fd, environment);
  return style;
}

TerminalStyle terminal_style(int fd, ColorMode mode) {
  return terminal_style(fd, mode, process_environment);
}

void open_standard_descriptors() {
  constexpr int kModes[] = {O_WRONLY, O_RDONLY, O_WRONLY};
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    // The lowest free number is the one that is missing.
    if (::fcntl(fd, F_GETFD) == -1 && errno == EBADF) (void)::open("/dev/null", kModes[fd]);
  }
}

void write_to_stderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

int terminal_columns(int fd, const Environment& environment) {
  const std::string_view text = value_of(environment, "COLUMNS");
  int columns = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), columns);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (!is_number || columns <= 0) {
    winsize size{};
    columns = ::ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
  }
  return columns <= 0 ? kDefaultColumns : std::clamp(columns, kMinColumns, kMaxColumns);
}

int terminal_columns(int fd) {
  return terminal_columns(fd, process_environment);
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
    if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {  // U+0080 to U+009F
      out += '?';
      ++i;
    } else if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) {
      out += '?';
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace llmrun
