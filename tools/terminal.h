// What the terminal behind a file descriptor can do, and what its user wants.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace llmrun {

enum class ColorMode : std::uint8_t { kAuto, kAlways, kNever };

// "auto", "always", "never"; nothing for any other name.
std::optional<ColorMode> color_mode_from(std::string_view name);

struct TerminalStyle {
  bool redraws = false;  // it is a terminal whose lines can be drawn over
  bool color = false;
  bool unicode = false;  // otherwise only ASCII is drawn
  int columns = 80;
};

// The value of an environment variable; null when it is not set.
using Environment = std::function<const char*(const char*)>;

// Color: the mode; when auto, CLICOLOR_FORCE, then NO_COLOR, then whether it is a terminal.
// TERM=dumb cannot redraw. Unicode: what LC_ALL, LC_CTYPE, LANG (the first that is set) say.
TerminalStyle terminal_style(int fd, ColorMode mode, const Environment& environment);
TerminalStyle terminal_style(int fd, ColorMode mode);  // with the process's environment

// Opens what of the descriptors 0 to 2 the caller has closed, so that no file gets their numbers
// and then the lines that belong on standard error: standard input that cannot be read, standard
// output that cannot be written, and a standard error that takes everything.
void open_standard_descriptors();

// What standard error does not take is lost: nobody looks.
void write_to_stderr(std::string_view text);

// COLUMNS, else what the terminal says, else 80.
int terminal_columns(int fd, const Environment& environment);
int terminal_columns(int fd);

// Without what would move the cursor or change colors: control characters become "?"; newlines and
// tabs stay. For text that comes from elsewhere.
std::string printable(std::string_view text);

}  // namespace llmrun
