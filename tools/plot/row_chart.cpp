// Bars or points in rows, a label before and a value behind each.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/plot/chart.h"
#include "tools/plot/drawing.h"
#include "tools/plot/svg.h"

namespace llmrun {
namespace {

constexpr double kRowHeight = 27;
constexpr double kBarHeight = 16;
constexpr double kMaxLabelShare = 0.5;  // of the width

bool is_drawn(const ChartRow& row) {
  return std::isfinite(row.value);
}

bool has_interval(const ChartRow& row) {
  return row.low && row.high && std::isfinite(*row.low) && std::isfinite(*row.high);
}

Scale value_scale(const RowChart& chart, double left, double right) {
  ValueRange range;
  if (chart.has_bars) range.add(0);
  if (chart.reference) range.add(*chart.reference);
  for (const ChartRow& row : chart.rows) {
    if (!is_drawn(row)) continue;
    range.add(row.value);
    if (!has_interval(row)) continue;
    range.add(*row.low);
    range.add(*row.high);
  }
  if (chart.axis_end && range.low() < *chart.axis_end && range.high() <= *chart.axis_end) {
    return {ScaleKind::kLinear, chart.has_bars ? std::min(range.low(), 0.0) : range.low(),
            *chart.axis_end, left, right};
  }
  return {ScaleKind::kLinear, range, left, right};
}

std::string tip_of(const ChartRow& row) {
  std::string tip = fmt::format("{}: {}", row.label, row.value_text);
  if (has_interval(row)) {
    tip += fmt::format(" (95 % interval {} to {})", axis_number(*row.low), axis_number(*row.high));
  }
  return tip;
}

void draw_row(const RowChart& chart, const ChartRow& row, const Scale& scale, double middle,
              Drawing& drawing) {
  const double value = scale.at(row.value);
  if (chart.has_bars) {
    const double zero = scale.at(0);
    const std::string style = styled("bar", row.color) + (row.is_marked ? " hatched" : "");
    drawing.rectangle(style, std::min(zero, value), middle - kBarHeight / 2,
                      std::max(std::abs(value - zero), 1.0), kBarHeight, tip_of(row));
  }
  if (has_interval(row)) {
    drawing.horizontal_whisker(middle, scale.at(*row.low), scale.at(*row.high));
  }
  if (!chart.has_bars) drawing.mark(row.color, value, middle, tip_of(row));
}

}  // namespace

std::string row_chart_svg(const RowChart& chart) {
  double label_width = 0;
  double value_width = 0;
  for (const ChartRow& row : chart.rows) {
    label_width = std::max(label_width, text_width(row.label));
    value_width = std::max(value_width, text_width(row.value_text));
  }
  const double max_label_width = kMaxLabelShare * chart.width;
  const double left = std::min(label_width, max_label_width) + 12;
  const double right = std::max(chart.width - value_width - 14, left + 40);

  Drawing drawing;
  double top = drawing.heading(chart.text, chart.width);
  if (chart.reference && !chart.reference_text.empty()) top += 16;
  const auto num_rows = static_cast<double>(std::max<std::size_t>(chart.rows.size(), 1));
  const double bottom = top + num_rows * kRowHeight;
  const Scale scale = value_scale(chart, left, right);
  double last_label_end = -1e9;
  for (const Tick& tick : scale.ticks()) {
    const double x = scale.at(tick.value);
    drawing.line("grid", x, top, x, bottom);
    if (x - text_width(tick.label) / 2 < last_label_end + 6) continue;
    last_label_end = x + text_width(tick.label) / 2;
    drawing.text("faint", x, bottom + 16, TextAnchor::kMiddle, tick.label);
  }
  if (chart.reference) {
    const double x = scale.at(*chart.reference);
    drawing.line("reference", x, top, x, bottom);
    drawing.text("faint", x, top - 4, TextAnchor::kMiddle, chart.reference_text);
  }
  bool is_empty = true;
  for (std::size_t i = 0; i < chart.rows.size(); ++i) {
    const ChartRow& row = chart.rows[i];
    const double middle = top + (static_cast<double>(i) + 0.5) * kRowHeight;
    drawing.text("", left - 8, middle + 4, TextAnchor::kEnd, fitted(row.label, max_label_width));
    drawing.text(row.is_marked ? "bad" : "", right + 8, middle + 4, TextAnchor::kStart,
                 row.value_text);
    if (!is_drawn(row)) continue;
    is_empty = false;
    draw_row(chart, row, scale, middle, drawing);
  }
  if (is_empty) {
    drawing.text("faint", (left + right) / 2, (top + bottom) / 2 + 4, TextAnchor::kMiddle,
                 "no data");
  }
  drawing.line("axis", left, bottom, right, bottom);
  drawing.text("faint", (left + right) / 2, bottom + 34, TextAnchor::kMiddle, chart.axis);

  ChartText text = chart.text;
  for (const ChartRow& row : chart.rows) {
    text.description += fmt::format("{}{}", text.description.empty() ? "" : "; ", tip_of(row));
  }
  return drawing.finish(text, chart.width, bottom + 42);
}

}  // namespace llmrun
