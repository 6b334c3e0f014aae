// Charts as SVG: bars and points with intervals in rows, and lines, steps, columns and points over
// two axes. Every chart has a title, named axes with their units, and a text that says in words
// what it shows (role="img" with a label); its colors come from the style sheet beside it
// (chart_style.h). Values that are not finite are not drawn; a chart without any says so.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tools/plot/scale.h"

namespace llmrun {

// What every chart has. Texts are plain; they are escaped here.
struct ChartText {
  std::string title;
  std::string note = {};         // small, below the title; may be empty
  std::string description = {};  // for those who do not see it; empty: the title and the note
};

// The colors and dashes of the style sheet: series 0 to kNumChartColors - 1, then from the start.
inline constexpr int kNumChartColors = 6;

// Around every chart, in pixels; its picture begins at minus this.
inline constexpr int kChartMargin = 6;

// ---- rows: a figure each, with its interval ----

struct ChartRow {
  std::string label;
  double value = 0;
  std::optional<double> low = std::nullopt;  // of the interval; both or none
  std::optional<double> high = std::nullopt;
  std::string value_text;  // behind the bar
  int color = 0;
  bool is_marked = false;  // as not to be trusted: hatched
};

struct RowChart {
  ChartText text;
  std::string axis;  // what the values are, with the unit
  std::vector<ChartRow> rows;
  bool has_bars = true;                            // from zero; otherwise points
  std::optional<double> reference = std::nullopt;  // a vertical line there
  std::string reference_text = {};
  std::optional<double> axis_end = std::nullopt;  // such as 100 for percent
  int width = 720;
};
std::string row_chart_svg(const RowChart& chart);

// ---- two axes ----

struct ChartPoint {
  double x = 0;
  double y = 0;
};

enum class SeriesKind {
  kLine,
  kStep,     // y holds from its x to the next point's
  kPoints,   // marks only
  kColumns,  // a column from each point's x to the next point's; the last point ends the last
};

struct ChartSeries {
  std::string name;  // in the legend; empty: not there
  SeriesKind kind = SeriesKind::kLine;
  std::vector<ChartPoint> points;
  std::vector<double> errors = {};       // half the height of each point's interval; empty: none
  std::vector<std::string> labels = {};  // beside each point; empty: none
  int color = 0;
  bool has_area = false;   // the space below is tinted
  bool has_marks = false;  // a line whose points are also marked
  bool is_thin = false;    // a limit rather than a measurement: thin and gray
};

struct ChartAxis {
  std::string label;  // with the unit
  ScaleKind kind = ScaleKind::kLinear;
  // Ends of the axis; unset: by the values.
  std::optional<double> low = std::nullopt;
  std::optional<double> high = std::nullopt;
  bool counts = false;  // of things: no ticks between whole numbers
};

// A line across the plot at a value of the horizontal axis, with a text.
struct ChartMark {
  double x = 0;
  std::string text;
};

struct XyChart {
  ChartText text;
  ChartAxis x, y;
  std::vector<ChartSeries> series;
  std::vector<ChartMark> marks = {};
  int width = 720;
  int height = 300;
};
std::string xy_chart_svg(const XyChart& chart);

using Chart = std::variant<RowChart, XyChart>;
std::string chart_svg(const Chart& chart);

// At most a few points a pixel of `width`, so that a chart of many points looks the same and stays
// small: of each pixel's column the first, the least, the greatest and the last.
// REQUIRES: points ascend in x; the scale shows them.
std::vector<ChartPoint> thinned(const std::vector<ChartPoint>& points, const Scale& x, int width);

}  // namespace llmrun
