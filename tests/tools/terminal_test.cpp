#include "tools/terminal.h"

#include <cstdlib>
#include <map>
#include <string>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace llmrun {
namespace {

Environment environment(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> const char* {
    const auto it = values.find(name);
    return it == values.end() ? nullptr : it->second.c_str();
  };
}

// Both ends of a terminal.
class PseudoTerminal {
 public:
  PseudoTerminal() {
    main_ = ::posix_openpt(O_RDWR | O_NOCTTY);
    if (main_ < 0 || ::grantpt(main_) != 0 || ::unlockpt(main_) != 0) return;
    fd_ = ::open(::ptsname(main_), O_RDWR | O_NOCTTY);
    const winsize size{.ws_row = 24, .ws_col = 132, .ws_xpixel = 0, .ws_ypixel = 0};
    ::ioctl(main_, TIOCSWINSZ, &size);
  }
  ~PseudoTerminal() {
    ::close(fd_);
    ::close(main_);
  }
  PseudoTerminal(const PseudoTerminal&) = delete;
  PseudoTerminal& operator=(const PseudoTerminal&) = delete;
  int fd() const { return fd_; }

 private:
  int main_ = -1;
  int fd_ = -1;
};

TEST_CASE("a file is plain") {
  const int fd = ::open("/dev/null", O_WRONLY);
  TerminalStyle style = terminal_style(fd, ColorMode::kAuto, environment({{"TERM", "xterm"}}));
  CHECK(!style.redraws);
  CHECK(!style.color);
  CHECK(!style.unicode);
  CHECK(style.columns == 80);
  CHECK(terminal_style(fd, ColorMode::kAlways, environment({})).color);
  CHECK(terminal_style(fd, ColorMode::kAuto, environment({{"CLICOLOR_FORCE", "1"}})).color);
  CHECK(!terminal_style(fd, ColorMode::kAuto, environment({{"CLICOLOR_FORCE", "0"}})).color);
  ::close(fd);
}

TEST_CASE("a terminal is drawn on as its user wants") {
  const PseudoTerminal terminal;
  if (terminal.fd() < 0) return;  // no pseudo terminals here
  const auto style = [&](std::map<std::string, std::string> values,
                         ColorMode mode = ColorMode::kAuto) {
    return terminal_style(terminal.fd(), mode, environment(std::move(values)));
  };
  CHECK(style({{"TERM", "xterm"}}).redraws);
  CHECK(style({{"TERM", "xterm"}}).color);
  CHECK(!style({{"TERM", "xterm"}}, ColorMode::kNever).color);
  CHECK(!style({{"TERM", "xterm"}, {"NO_COLOR", "1"}}).color);
  CHECK(style({{"TERM", "xterm"}, {"NO_COLOR", "1"}}).redraws);
  CHECK(style({{"TERM", "xterm"}, {"NO_COLOR", ""}}).color);
  CHECK(style({{"TERM", "xterm"}, {"NO_COLOR", "1"}}, ColorMode::kAlways).color);
  CHECK(!style({{"TERM", "dumb"}}).redraws);
  CHECK(!style({{"TERM", "dumb"}}).color);
  CHECK(!style({}).redraws);
  CHECK(style({}).columns == 132);
  CHECK(style({{"COLUMNS", "100"}}).columns == 100);
  CHECK(style({{"COLUMNS", "wide"}}).columns == 132);
  CHECK(style({{"COLUMNS", "0"}}).columns == 132);
  CHECK(style({{"COLUMNS", "1"}}).columns == 10);
}

TEST_CASE("unicode is what the locale says") {
  const auto unicode = [](std::map<std::string, std::string> values) {
    return terminal_style(-1, ColorMode::kAuto, environment(std::move(values))).unicode;
  };
  CHECK(unicode({{"LANG", "en_US.UTF-8"}}));
  CHECK(unicode({{"LANG", "C.utf8"}}));
  CHECK(!unicode({{"LANG", "C"}}));
  CHECK(!unicode({{"LANG", "en_US.UTF-8"}, {"LC_ALL", "C"}}));
  CHECK(unicode({{"LANG", "C"}, {"LC_CTYPE", "UTF-8"}}));
  CHECK(unicode({{"LANG", "en_US.UTF-8"}, {"LC_ALL", ""}}));
}

TEST_CASE("control characters cannot pass") {
  CHECK(printable("plain \xE2\x82\xAC\n\ttext") == "plain \xE2\x82\xAC\n\ttext");
  CHECK(printable("a\x1b[2Jb\rc\x07") == "a?[2Jb?c?");
  CHECK(printable("\x7f\xC2\x9B[\xC2\xA0") == "??[\xC2\xA0");
  CHECK(printable(std::string("\0", 1)) == "?");
}

TEST_CASE("names of modes") {
  CHECK(color_mode_from("auto") == ColorMode::kAuto);
  CHECK(color_mode_from("always") == ColorMode::kAlways);
  CHECK(color_mode_from("never") == ColorMode::kNever);
  CHECK(!color_mode_from("yes"));
}

}  // namespace
}  // namespace llmrun
