#include "tools/plot/text_chart.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "tools/terminal.h"

namespace llmrun {
namespace {

constexpr int kMinColumns = 40;
constexpr std::size_t kMaxLabel = 32;

std::size_t num_characters(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

// One line of what a terminal can show, cut where it is too long.
std::string label_of(const std::string& text) {
  std::string label = printable(text);
  std::replace(label.begin(), label.end(), '\n', ' ');
  std::size_t count = 0;
  for (std::size_t i = 0; i < label.size(); ++i) {
    if ((static_cast<unsigned char>(label[i]) & 0xC0) == 0x80) continue;
    if (++count > kMaxLabel) return label.substr(0, i);
  }
  return label;
}

std::string padded(const std::string& text, std::size_t width) {
  const std::size_t length = num_characters(text);
  return text + std::string(width > length ? width - length : 0, ' ');
}

std::string without_unicode(std::string text) {
  for (const auto& [from, to] :
       {std::pair<const char*, const char*>{"\u00b1", "+-"}, {"\u00d7", "x"}, {"\u2026", "..."}}) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos;) {
      text.replace(at, std::string(from).size(), to);
    }
  }
  return text;
}

// A bar of `share` of `width` cells, in eighths of a cell where there are such characters.
std::string bar(double share, int width, bool unicode) {
  constexpr std::array<const char*, 8> kEighths = {"",       "\u258f", "\u258e", "\u258d",
                                                   "\u258c", "\u258b", "\u258a", "\u2589"};
  const auto eighths =
      static_cast<std::size_t>(std::lround(std::clamp(share, 0.0, 1.0) * 8 * width));
  std::string text;
  for (std::size_t i = 0; i < eighths / 8; ++i) text += unicode ? "\u2588" : "#";
  if (unicode) return text + kEighths[eighths % 8];
  return eighths % 8 >= 4 ? text + "#" : text;
}

// "   |--o--|  " on `scale`, with the reference as ":".
std::string interval(const ChartRow& row, const RowChart& chart, const Scale& scale, int width) {
  std::string text(static_cast<std::size_t>(width), ' ');
  const auto cell = [&](double value) {
    return static_cast<std::size_t>(std::clamp(std::lround(scale.at(value)), 0L, width - 1L));
  };
  if (row.low && row.high) {
    for (std::size_t i = cell(*row.low); i <= cell(*row.high); ++i) text[i] = '-';
    text[cell(*row.low)] = '|';
    text[cell(*row.high)] = '|';
  }
  if (chart.reference) text[cell(*chart.reference)] = ':';
  text[cell(row.value)] = 'o';
  return text;
}

std::string row_chart_text(const RowChart& chart, int columns, bool unicode) {
  std::size_t label_width = 0;
  std::size_t value_width = 0;
  ValueRange range;
  if (chart.has_bars) range.add(0);
  if (chart.reference) range.add(*chart.reference);
  for (const ChartRow& row : chart.rows) {
    label_width = std::max(label_width, num_characters(label_of(row.label)));
    value_width = std::max(value_width, num_characters(row.value_text));
    range.add(row.value);
    if (row.low) range.add(*row.low);
    if (row.high) range.add(*row.high);
  }
  const int width = std::clamp(columns - static_cast<int>(label_width + value_width) - 6, 8, 48);
  const Scale scale(ScaleKind::kLinear, range, 0, width - 1);
  const double end = chart.axis_end.value_or(std::max(range.high(), 1e-300));
  std::string text = chart.text.title + "\n";
  for (const ChartRow& row : chart.rows) {
    const std::string drawn = !std::isfinite(row.value) ? ""
                              : chart.has_bars          ? bar(row.value / end, width, unicode)
                                                        : interval(row, chart, scale, width);
    text += fmt::format("  {}  {}  {}\n", padded(label_of(row.label), label_width),
                        padded(drawn, static_cast<std::size_t>(width)), row.value_text);
  }
  return text;
}

// The last point of the series at or before x; of points and lines, the value between.
double height_at(const ChartSeries& series, double x) {
  const auto after =
      std::upper_bound(series.points.begin(), series.points.end(), x,
                       [](double value, const ChartPoint& p) { return value < p.x; });
  if (after == series.points.begin()) return std::nan("");
  const ChartPoint& before = *(after - 1);
  if (after == series.points.end() || series.kind == SeriesKind::kStep || after->x <= before.x) {
    return before.y;
  }
  return before.y + (after->y - before.y) * (x - before.x) / (after->x - before.x);
}

std::string xy_chart_text(const XyChart& chart, int columns, bool unicode) {
  constexpr std::array<const char*, 9> kBlocks = {" ",      "\u2581", "\u2582", "\u2583", "\u2584",
                                                  "\u2585", "\u2586", "\u2587", "\u2588"};
  constexpr std::array<const char*, 9> kAscii = {" ", ".", ":", "-", "=", "+", "*", "%", "#"};
  ValueRange x_range, y_range;
  std::size_t label_width = 0;
  for (const ChartSeries& series : chart.series) {
    label_width = std::max(label_width, num_characters(label_of(series.name)));
    for (const ChartPoint& point : series.points) {
      if (chart.x.kind == ScaleKind::kLog && point.x <= 0) continue;
      x_range.add(point.x);
      y_range.add(point.y);
    }
  }
  if (chart.y.low) y_range.add(*chart.y.low);
  if (chart.y.high) y_range.add(*chart.y.high);
  if (x_range.is_empty()) return "";
  const int width = std::clamp(columns - static_cast<int>(label_width) - 6, 8, 60);
  std::string text =
      fmt::format("{}: {}, {} to {}; {}, {} to {}\n", chart.text.title, chart.y.label,
                  axis_number(y_range.low()), axis_number(y_range.high()), chart.x.label,
                  axis_number(x_range.low()), axis_number(x_range.high()));
  const double height = std::max(y_range.high() - y_range.low(), 1e-300);
  for (const ChartSeries& series : chart.series) {
    if (series.points.empty()) continue;
    std::string line;
    for (int i = 0; i < width; ++i) {
      const double share = static_cast<double>(i) / (width - 1);
      const double x = chart.x.kind == ScaleKind::kLog
                           ? x_range.low() * std::pow(x_range.high() / x_range.low(), share)
                           : x_range.low() + share * (x_range.high() - x_range.low());
      const double y = height_at(series, i == width - 1 ? x_range.high() : x);
      const double level = std::isfinite(y) ? (y - y_range.low()) / height : 0;
      const auto step = static_cast<std::size_t>(std::lround(std::clamp(level, 0.0, 1.0) * 8));
      line += unicode ? kBlocks[step] : kAscii[step];
    }
    text += fmt::format("  {}{}{}\n", padded(label_of(series.name), label_width),
                        label_width == 0 ? "" : "  ", line);
  }
  return text;
}

}  // namespace

std::string chart_text(const Chart& chart, int columns, bool unicode) {
  columns = std::max(columns, kMinColumns);
  const auto* rows = std::get_if<RowChart>(&chart);
  std::string text = rows != nullptr ? row_chart_text(*rows, columns, unicode)
                                     : xy_chart_text(std::get<XyChart>(chart), columns, unicode);
  return unicode ? text : without_unicode(std::move(text));
}

}  // namespace llmrun
