// Lines, steps, columns and points over two axes.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/plot/chart.h"
#include "tools/plot/drawing.h"
#include "tools/plot/svg.h"

namespace llmrun {
namespace {

constexpr std::size_t kMostMarks = 100;  // of a line; more would hide it
constexpr double kLineHeight = 15;       // of the texts at lines across

struct Box {
  double left, top, right, bottom;
};

bool overlap(const Box& a, const Box& b) {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

bool can_show(const ChartPoint& point, const XyChart& chart) {
  const auto shows = [](const ChartAxis& axis, double value) {
    return std::isfinite(value) && (axis.kind == ScaleKind::kLinear || value > 0);
  };
  return shows(chart.x, point.x) && shows(chart.y, point.y);
}

Scale axis_scale(const ChartAxis& axis, const ValueRange& range, double first, double last) {
  ValueRange wanted = range;
  if (axis.low) wanted.add(*axis.low);
  if (axis.high) wanted.add(*axis.high);
  const bool is_fixed = axis.low && axis.high && *axis.low < *axis.high &&
                        (axis.kind == ScaleKind::kLinear || *axis.low > 0);
  const double least_step = axis.counts ? 1 : 0;
  if (is_fixed) return {axis.kind, *axis.low, *axis.high, first, last, least_step};
  return {axis.kind, wanted, first, last, least_step};
}

// Draws one chart; the steps of draw() in order.
class XyDrawing {
 public:
  explicit XyDrawing(const XyChart& chart) : chart_(chart) {}

  std::string draw() {
    plot_.top = drawing_.heading(chart_.text, chart_.width);
    plot_.bottom = chart_.height - 44;
    plot_.right = chart_.width - 14;
    draw_legend();
    plot_.top += 26;  // the vertical axis' label
    plot_.bottom = std::max(plot_.bottom, plot_.top + 60);
    make_scales();
    draw_axes();
    for (const ChartSeries& series : chart_.series) draw_area(series);
    for (const ChartSeries& series : chart_.series) draw_series(series);
    for (const ChartMark& mark : chart_.marks) draw_mark(mark);
    for (const ChartSeries& series : chart_.series) reserve_marks(series);
    for (const ChartSeries& series : chart_.series) draw_labels(series);
    if (is_empty_) {
      drawing_.text("faint", (plot_.left + plot_.right) / 2, (plot_.top + plot_.bottom) / 2,
                    TextAnchor::kMiddle, "no data");
    }
    ChartText text = chart_.text;
    if (text.description.empty()) text.description = described();
    return drawing_.finish(text, chart_.width, plot_.bottom + 44);
  }

 private:
  void draw_legend() {
    double x = 2;
    double y = plot_.top + 8;
    std::size_t num_named = 0;
    for (const ChartSeries& series : chart_.series) num_named += series.name.empty() ? 0 : 1;
    if (num_named < 2) return;
    for (const ChartSeries& series : chart_.series) {
      if (series.name.empty()) continue;
      const double width = 30 + text_width(series.name) + 16;
      if (x > 2 && x + width > chart_.width) {
        x = 2;
        y += 18;
      }
      draw_legend_sample(series, x, y);
      drawing_.text("", x + 30, y + 4, TextAnchor::kStart, series.name);
      x += width;
    }
    plot_.top = y + 10;
  }

  void draw_legend_sample(const ChartSeries& series, double x, double y) {
    if (series.kind == SeriesKind::kColumns) {
      drawing_.rectangle(styled("bar", series.color), x + 6, y - 5, 14, 10);
    } else if (series.kind == SeriesKind::kPoints) {
      drawing_.mark(series.color, x + 13, y);
    } else {
      const std::string style = series.is_thin ? "limit" : styled("curve", series.color);
      drawing_.path(style, fmt::format("M{} {}h24", svg_number(x), svg_number(y)));
      if (series.has_marks) drawing_.mark(series.color, x + 12, y);
    }
  }

  void make_scales() {
    ValueRange x_range, y_range;
    for (const ChartSeries& series : chart_.series) {
      for (std::size_t i = 0; i < series.points.size(); ++i) {
        const ChartPoint& point = series.points[i];
        if (!can_show(point, chart_)) continue;
        is_empty_ = false;
        x_range.add(point.x);
        y_range.add(point.y);
        if (i >= series.errors.size()) continue;
        y_range.add(point.y - series.errors[i]);
        y_range.add(point.y + series.errors[i]);
      }
    }
    for (const ChartMark& mark : chart_.marks) x_range.add(mark.x);
    y_ = axis_scale(chart_.y, y_range, plot_.bottom, plot_.top);
    double label_width = 0;
    for (const Tick& tick : y_.ticks()) {
      label_width = std::max(label_width, text_width(tick.label));
    }
    plot_.left = label_width + 10;
    x_ = axis_scale(chart_.x, x_range, plot_.left, plot_.right);
  }

  void draw_axes() {
    for (const Tick& tick : y_.ticks()) {
      const double y = y_.at(tick.value);
      drawing_.line("grid", plot_.left, y, plot_.right, y);
      drawing_.text("faint", plot_.left - 6, y + 4, TextAnchor::kEnd, tick.label);
    }
    double last_label_end = -1e9;
    for (const Tick& tick : x_.ticks()) {
      const double x = x_.at(tick.value);
      drawing_.line("axis", x, plot_.bottom, x, plot_.bottom + 4);
      const double half = text_width(tick.label) / 2;
      if (x - half < last_label_end + 6) continue;
      last_label_end = x + half;
      drawing_.text("faint", std::min(x, chart_.width - half), plot_.bottom + 17,
                    TextAnchor::kMiddle, tick.label);
    }
    drawing_.line("axis", plot_.left, plot_.bottom, plot_.right, plot_.bottom);
    drawing_.text("faint", 2, plot_.top - 12, TextAnchor::kStart, chart_.y.label);
    drawing_.text("faint", (plot_.left + plot_.right) / 2, plot_.bottom + 35, TextAnchor::kMiddle,
                  chart_.x.label);
  }

  std::vector<ChartPoint> shown_points(const ChartSeries& series) const {
    std::vector<ChartPoint> points;
    for (const ChartPoint& point : series.points) {
      if (can_show(point, chart_)) points.push_back(point);
    }
    if (series.kind == SeriesKind::kColumns || series.kind == SeriesKind::kPoints) return points;
    return thinned(points, x_, chart_.width);
  }

  std::string curve(const ChartSeries& series) const {
    std::string commands;
    double last_y = 0;
    for (const ChartPoint& point : shown_points(series)) {
      const double x = x_.at(point.x);
      const double y = y_.at(point.y);
      if (commands.empty()) {
        commands = fmt::format("M{} {}", svg_number(x), svg_number(y));
      } else if (series.kind == SeriesKind::kStep) {
        commands += fmt::format("H{}", svg_number(x));
        if (y != last_y) commands += fmt::format("V{}", svg_number(y));
      } else {
        commands += fmt::format("L{} {}", svg_number(x), svg_number(y));
      }
      last_y = y;
    }
    return commands;
  }

  void draw_area(const ChartSeries& series) {
    if (!series.has_area) return;
    const std::vector<ChartPoint> points = shown_points(series);
    if (points.empty()) return;
    drawing_.path(styled("area", series.color),
                  fmt::format("{}L{} {}H{}z", curve(series), svg_number(x_.at(points.back().x)),
                              svg_number(plot_.bottom), svg_number(x_.at(points.front().x))));
  }

  void draw_series(const ChartSeries& series) {
    if (series.kind == SeriesKind::kColumns) {
      draw_columns(series);
      return;
    }
    if (series.kind != SeriesKind::kPoints) {
      drawing_.path(series.is_thin ? "limit" : styled("curve", series.color), curve(series));
    }
    const bool has_marks = series.has_marks && series.points.size() <= kMostMarks;
    // A single sample is a point, whatever it would be with others.
    const bool is_single = series.points.size() == 1;
    for (std::size_t i = 0; i < series.points.size(); ++i) {
      const ChartPoint& point = series.points[i];
      if (!can_show(point, chart_)) continue;
      const double x = x_.at(point.x);
      if (i < series.errors.size() && series.errors[i] > 0) {
        drawing_.vertical_whisker(x, y_.at(point.y - series.errors[i]),
                                  y_.at(point.y + series.errors[i]));
      }
      if (series.kind == SeriesKind::kPoints || has_marks || is_single) {
        drawing_.mark(series.color, x, y_.at(point.y), tip_of(series, i));
      }
    }
  }

  std::string tip_of(const ChartSeries& series, std::size_t i) const {
    const ChartPoint& point = series.points[i];
    const std::string name = i < series.labels.size() ? series.labels[i] : series.name;
    return fmt::format("{}{}{}: {}, {}: {}", name, name.empty() ? "" : ": ", chart_.x.label,
                       axis_number(point.x), chart_.y.label, axis_number(point.y));
  }

  void draw_columns(const ChartSeries& series) {
    for (std::size_t i = 0; i + 1 < series.points.size(); ++i) {
      const ChartPoint& point = series.points[i];
      if (!can_show(point, chart_) || point.y == 0) continue;
      const double left = x_.at(point.x);
      const double width = x_.at(series.points[i + 1].x) - left;
      const double top = y_.at(point.y);
      drawing_.rectangle(styled("bar", series.color), left, std::min(top, plot_.bottom - 1),
                         std::max(width - 1, 1.0), std::max(plot_.bottom - top, 1.0),
                         fmt::format("{} to {}: {}", axis_number(point.x),
                                     axis_number(series.points[i + 1].x), axis_number(point.y)));
    }
  }

  void draw_mark(const ChartMark& mark) {
    if (!std::isfinite(mark.x) || (chart_.x.kind == ScaleKind::kLog && mark.x <= 0)) return;
    const double x = x_.at(mark.x);
    drawing_.line("reference", x, plot_.top, x, plot_.bottom);
    const bool is_right = x > (plot_.left + plot_.right) / 2;
    const double left = is_right ? x - 5 - text_width(mark.text) : x + 5;
    Box place = {left, plot_.top, left + text_width(mark.text), plot_.top + kLineHeight};
    while (is_taken(place) && place.bottom + kLineHeight < plot_.bottom) {
      place.top += kLineHeight;
      place.bottom += kLineHeight;
    }
    taken_.push_back(place);
    drawing_.text("faint", is_right ? x - 5 : x + 5, place.bottom - 3,
                  is_right ? TextAnchor::kEnd : TextAnchor::kStart, mark.text);
  }

  // Labels keep away from the points that have labels.
  void reserve_marks(const ChartSeries& series) {
    for (std::size_t i = 0; i < std::min(series.labels.size(), series.points.size()); ++i) {
      if (!can_show(series.points[i], chart_)) continue;
      const double x = x_.at(series.points[i].x);
      const double y = y_.at(series.points[i].y);
      taken_.push_back({x - 6, y - 6, x + 6, y + 6});
    }
  }

  // Each label beside its point, where it covers no other.
  void draw_labels(const ChartSeries& series) {
    for (std::size_t i = 0; i < std::min(series.labels.size(), series.points.size()); ++i) {
      if (!can_show(series.points[i], chart_)) continue;
      const double x = x_.at(series.points[i].x);
      const double y = y_.at(series.points[i].y);
      const double width = text_width(series.labels[i]);
      for (const double dy : {0.0, 15.0, -15.0, 30.0, -30.0, 45.0, -45.0}) {
        const Box right = {x + 9, y + dy - 7, x + 9 + width, y + dy + 7};
        const Box left = {x - 9 - width, y + dy - 7, x - 9, y + dy + 7};
        const Box* place = is_free(right) ? &right : is_free(left) ? &left : nullptr;
        if (place == nullptr) continue;
        drawing_.text("", place->left, place->bottom - 3, TextAnchor::kStart, series.labels[i]);
        taken_.push_back(*place);
        break;
      }
    }
  }

  bool is_free(const Box& box) const {
    if (box.left < plot_.left || box.right > chart_.width || box.top < plot_.top - 8 ||
        box.bottom > plot_.bottom) {
      return false;
    }
    return !is_taken(box);
  }

  bool is_taken(const Box& box) const {
    return std::any_of(taken_.begin(), taken_.end(),
                       [&](const Box& other) { return overlap(box, other); });
  }

  std::string described() const {
    std::string text = fmt::format("{} over {}", chart_.y.label, chart_.x.label);
    for (const ChartSeries& series : chart_.series) {
      const std::vector<ChartPoint> points = shown_points(series);
      if (series.is_thin || points.empty()) continue;
      const ChartPoint& last = points.back();
      text += fmt::format("; {}{}{} points, the last at {}, {}", series.name,
                          series.name.empty() ? "" : ": ", points.size(), axis_number(last.x),
                          axis_number(last.y));
    }
    return text;
  }

  const XyChart& chart_;
  Drawing drawing_;
  Box plot_{};
  bool is_empty_ = true;
  Scale x_{ScaleKind::kLinear, 0, 1, 0, 1};
  Scale y_{ScaleKind::kLinear, 0, 1, 0, 1};
  std::vector<Box> taken_;  // by points and texts
};

}  // namespace

std::vector<ChartPoint> thinned(const std::vector<ChartPoint>& points, const Scale& x, int width) {
  if (points.size() <= 4 * static_cast<std::size_t>(std::max(width, 1))) return points;
  std::vector<ChartPoint> kept;
  for (std::size_t begin = 0; begin < points.size();) {
    const double pixel = std::floor(x.at(points[begin].x));
    std::size_t least = begin;
    std::size_t greatest = begin;
    std::size_t end = begin;
    for (; end < points.size() && std::floor(x.at(points[end].x)) == pixel; ++end) {
      if (points[end].y < points[least].y) least = end;
      if (points[end].y > points[greatest].y) greatest = end;
    }
    std::vector<std::size_t> chosen = {begin, least, greatest, end - 1};
    std::sort(chosen.begin(), chosen.end());
    chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
    for (const std::size_t i : chosen) kept.push_back(points[i]);
    begin = end;
  }
  return kept;
}

std::string xy_chart_svg(const XyChart& chart) {
  return XyDrawing(chart).draw();
}

std::string chart_svg(const Chart& chart) {
  if (const auto* rows = std::get_if<RowChart>(&chart)) return row_chart_svg(*rows);
  return xy_chart_svg(std::get<XyChart>(chart));
}

}  // namespace llmrun
