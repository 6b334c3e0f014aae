#include "tools/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "tools/number_text.h"

namespace llmrun {
namespace {

constexpr double kRateWindow = 10;  // seconds
constexpr double kSampleInterval = 0.5;
constexpr std::string_view kEraseLine = "\r\x1b[K";

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80;
  }));
}

// `share` of `width` cells, with eighths where there is Unicode.
std::string draw_cells(double share, std::size_t width, const TerminalStyle& style) {
  constexpr std::array<const char*, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const double filled = std::clamp(share, 0.0, 1.0) * static_cast<double>(width);
  const auto num_full = static_cast<std::size_t>(filled);
  std::string cells;
  std::size_t num_drawn = num_full;
  for (std::size_t i = 0; i < num_full; ++i) cells += style.unicode ? "█" : "#";
  if (style.unicode && num_full < width) {
    const auto eighth = static_cast<std::size_t>((filled - static_cast<double>(num_full)) * 8);
    cells += kEighths[std::min<std::size_t>(eighth, 7)];
    num_drawn += eighth > 0 ? 1 : 0;
  }
  cells.append(width - num_drawn, style.unicode ? ' ' : '.');
  return style.color ? fmt::format("\x1b[36m{}\x1b[0m", cells) : cells;
}

std::optional<double> share_done(const ProgressSnapshot& snapshot) {
  if (!snapshot.num_total || *snapshot.num_total <= 0) return std::nullopt;
  return static_cast<double>(snapshot.num_done) / static_cast<double>(*snapshot.num_total);
}

// The line's parts, in the order in which they stand, with the order in which they are left out:
// the highest rank first.
struct Part {
  int rank;
  std::string text;
};

std::vector<Part> parts_of(const ProgressSnapshot& snapshot, const ProgressRates& rates) {
  std::vector<Part> parts;
  const std::optional<double> share = share_done(snapshot);
  if (share) parts.push_back({2, fmt::format("{:3.0f}%", std::floor(*share * 100))});
  parts.push_back({0, snapshot.num_total ? fmt::format("{}/{}", grouped(snapshot.num_done),
                                                       grouped(*snapshot.num_total))
                                         : fmt::format("{} {}", grouped(snapshot.num_done),
                                                       snapshot.num_done == 1 ? "row" : "rows")});
  if (snapshot.num_failed > 0) {
    parts.push_back({3, fmt::format("{} failed", grouped(snapshot.num_failed))});
  }
  parts.push_back({5, fmt::format("{} running {} waiting", grouped(snapshot.num_running),
                                  grouped(snapshot.num_waiting))});
  const std::string prompt_rate =
      rates.prompt_tokens_per_s ? fmt::format("in {} ", compact(*rates.prompt_tokens_per_s)) : "";
  parts.push_back(
      {4, fmt::format("{}out {} tok/s", prompt_rate, compact(rates.output_tokens_per_s))});
  if (snapshot.kv_use) parts.push_back({6, fmt::format("KV {:.0f}%", *snapshot.kv_use * 100)});
  if (snapshot.draining) {
    parts.push_back({1, "stopping"});
  } else if (rates.eta_s) {
    parts.push_back({1, fmt::format("ETA {}", duration_text(*rates.eta_s))});
  }
  return parts;
}

std::string join(const std::vector<Part>& parts, std::string_view separator) {
  std::string text;
  for (const Part& part : parts) {
    if (!text.empty()) text += separator;
    text += part.text;
  }
  return text;
}

}  // namespace

ProgressRates RateMeter::update(const ProgressSnapshot& snapshot, double now_s) {
  if (!start_s_) start_s_ = now_s;
  if (samples_.empty() || now_s - samples_.back().time_s >= kSampleInterval) {
    samples_.push_back({now_s, snapshot.prompt_tokens, snapshot.output_tokens});
  }
  while (samples_.size() > 1 && now_s - samples_[1].time_s >= kRateWindow) samples_.pop_front();
  ProgressRates rates;
  const Sample& first = samples_.front();
  if (const double seconds = now_s - first.time_s; seconds > 0) {
    if (snapshot.prompt_tokens && first.prompt_tokens) {
      rates.prompt_tokens_per_s =
          static_cast<double>(*snapshot.prompt_tokens - *first.prompt_tokens) / seconds;
    }
    rates.output_tokens_per_s =
        static_cast<double>(snapshot.output_tokens - first.output_tokens) / seconds;
  }
  const double num_rows = static_cast<double>(snapshot.num_done - snapshot.num_earlier);
  const double run_s = now_s - *start_s_;
  if (snapshot.num_total && num_rows > 0 && run_s > 0) {
    const auto num_left = static_cast<double>(*snapshot.num_total - snapshot.num_done);
    rates.eta_s = std::max(0.0, num_left * run_s / num_rows);
  }
  return rates;
}

std::string progress_bar(const ProgressSnapshot& snapshot, const ProgressRates& rates,
                         const TerminalStyle& style) {
  constexpr std::size_t kMinCells = 8;
  constexpr std::size_t kMaxCells = 30;
  const std::string separator = style.unicode ? " · " : " | ";
  // The last column stays free: writing there would begin a new line on some terminals.
  const auto width = static_cast<std::size_t>(std::max(style.columns - 1, 1));
  const std::optional<double> share = share_done(snapshot);
  const std::size_t reserved = share ? kMinCells + 1 : 0;

  std::vector<Part> parts = parts_of(snapshot, rates);
  const auto by_rank = [](const Part& a, const Part& b) { return a.rank < b.rank; };
  while (parts.size() > 1 && width_of(join(parts, separator)) + reserved > width) {
    parts.erase(std::max_element(parts.begin(), parts.end(), by_rank));
  }
  std::string text = join(parts, separator);
  const std::size_t text_width = width_of(text);
  if (text_width > width) return text.substr(0, width);  // one part, of ASCII
  if (!share || text_width + kMinCells + 1 > width) return text;
  const std::size_t num_cells = std::min(kMaxCells, width - text_width - 1);
  return draw_cells(*share, num_cells, style) + " " + text;
}

std::string progress_line(const ProgressSnapshot& snapshot, const ProgressRates& rates) {
  std::string line = fmt::format("{}", snapshot.num_done);
  if (snapshot.num_total) line += fmt::format(" of {}", *snapshot.num_total);
  line += " rows";
  if (snapshot.num_failed > 0) line += fmt::format(" ({} failed)", snapshot.num_failed);
  line += fmt::format(", {} running, {} waiting", snapshot.num_running, snapshot.num_waiting);
  if (rates.prompt_tokens_per_s)
    line += fmt::format(", {:.1f} tok/s in", *rates.prompt_tokens_per_s);
  line += fmt::format(", {:.1f} tok/s out", rates.output_tokens_per_s);
  if (snapshot.kv_use) line += fmt::format(", KV {:.0f} %", *snapshot.kv_use * 100);
  if (snapshot.draining) {
    line += ", stopping";
  } else if (rates.eta_s) {
    line += fmt::format(", ETA {}", duration_text(*rates.eta_s));
  }
  return line;
}

Progress::Progress(Options options) : options_(std::move(options)) {
  if (!options_.write) options_.write = write_to_stderr;
}

Progress::~Progress() {
  finish();
}

void Progress::update(const ProgressSnapshot& snapshot, double now_s) {
  if (options_.quiet) return;
  const ProgressRates rates = meter_.update(snapshot, now_s);
  const bool redraws = options_.style.redraws;
  const double interval = redraws ? options_.redraw_interval_s : options_.line_interval_s;
  if (!last_shown_s_ && !redraws) last_shown_s_ = now_s;  // the first line comes after an interval
  if (last_shown_s_ && now_s - *last_shown_s_ < interval) return;
  last_shown_s_ = now_s;
  if (!redraws) {
    options_.write(progress_line(snapshot, rates) + "\n");
    return;
  }
  TerminalStyle style = options_.style;
  if (options_.columns) style.columns = options_.columns();
  drawn_ = progress_bar(snapshot, rates, style);
  options_.write(fmt::format("{}{}", kEraseLine, drawn_));
}

void Progress::log(std::string_view line) {
  const std::string text = printable(line);
  if (drawn_.empty()) {
    options_.write(text + "\n");
  } else {
    options_.write(fmt::format("{}{}\n{}", kEraseLine, text, drawn_));
  }
}

void Progress::log_lines(std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    log(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void Progress::finish() {
  meter_ = {};
  last_shown_s_.reset();
  if (drawn_.empty()) return;
  options_.write(kEraseLine);
  drawn_.clear();
}

}  // namespace llmrun
