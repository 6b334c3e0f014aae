// How far a run is, on standard error: a line that is drawn over on a terminal, else a line every
// ten seconds. Log lines go through it, so that the two share the terminal.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "tools/terminal.h"

namespace llmrun {

struct ProgressSnapshot {
  std::int64_t num_done = 0;     // rows with a record, those of an earlier run included
  std::int64_t num_earlier = 0;  // of them, by an earlier run
  std::int64_t num_failed = 0;
  std::optional<std::int64_t> num_total;  // rows of the input, as far as known
  std::int64_t num_running = 0;           // sequences
  std::int64_t num_waiting = 0;
  std::optional<std::int64_t> prompt_tokens;  // computed since the start, where that is known
  std::int64_t output_tokens = 0;
  std::optional<double> kv_use;  // share of the KV blocks in use, 0 to 1, where it is known
  bool draining = false;         // a signal asked to stop
};

struct ProgressRates {
  std::optional<double> prompt_tokens_per_s;
  double output_tokens_per_s = 0;
  std::optional<double> eta_s;
};

// Rates over the last seconds, so that they show what happens now; the time left from the rows per
// second since the start.
class RateMeter {
 public:
  ProgressRates update(const ProgressSnapshot& snapshot, double now_s);

 private:
  struct Sample {
    double time_s = 0;
    std::optional<std::int64_t> prompt_tokens;
    std::int64_t output_tokens = 0;
  };
  std::optional<double> start_s_;
  std::deque<Sample> samples_;
};

// One line, at most style.columns - 1 characters wide: what does not fit is left out, the least
// important first.
std::string progress_bar(const ProgressSnapshot& snapshot, const ProgressRates& rates,
                         const TerminalStyle& style);
// One line of plain words. In both, what is not known does not appear.
std::string progress_line(const ProgressSnapshot& snapshot, const ProgressRates& rates);

class Progress {
 public:
  struct Options {
    TerminalStyle style;
    bool quiet = false;  // log lines only
    double redraw_interval_s = 0.15;
    double line_interval_s = 10;
    std::function<void(std::string_view)> write{};  // default: to standard error
    std::function<int()> columns{};  // asked before each drawing; default: style.columns
  };

  explicit Progress(Options options);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Shows the snapshot, if it is time to. `now_s` is on any steady clock.
  void update(const ProgressSnapshot& snapshot, double now_s);
  // Writes a line of its own, without its newline. Control characters are replaced.
  void log(std::string_view line);
  // One such line for each line of `text`.
  void log_lines(std::string_view text);
  // Removes the line that is drawn and forgets the rates: what comes next is another run.
  void finish();

 private:
  Options options_;
  RateMeter meter_;
  std::optional<double> last_shown_s_;
  std::string drawn_;  // what stands on the terminal's last line
};

}  // namespace llmrun
