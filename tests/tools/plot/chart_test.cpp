#include "tools/plot/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include <doctest/doctest.h>

#include "tools/plot/chart_style.h"
#include "tools/plot/svg.h"
#include "tools/plot/text_chart.h"

namespace llmrun {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++count;
  return count;
}

// No coordinate that is none, every tag closed. (Tests of the whole program parse it as XML.)
void check_sound(const std::string& svg) {
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>"));
  CHECK(contains(svg, "role=\"img\" aria-label=\""));
  for (const char* bad : {"nan", "inf", "NaN", "e+"}) {
    for (const char* before : {"=\"", " ", "M", "L", "H", "V"}) {
      CHECK(!contains(svg, std::string(before) + bad));
    }
  }
  CHECK(count_of(svg, "<text") == count_of(svg, "</text>"));
}

XyChart line_of(std::vector<ChartPoint> points, SeriesKind kind = SeriesKind::kLine) {
  return {.text = {.title = "T"},
          .x = {.label = "s"},
          .y = {.label = "ms"},
          .series = {{.name = "a", .kind = kind, .points = std::move(points)}}};
}

const double kNan = std::nan("");
const double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("text is escaped, and what XML cannot hold is replaced") {
  CHECK(xml_escaped("a<b>&\"'") == "a&lt;b&gt;&amp;&quot;&#39;");
  CHECK(xml_escaped(std::string("a\0b\x1b[0m", 7)) ==
        "a\xEF\xBF\xBD"
        "b\xEF\xBF\xBD[0m");
  CHECK(xml_escaped("\xff\xEF\xBF\xBE!") == "\xEF\xBF\xBD\xEF\xBF\xBD!");
  CHECK(xml_escaped("1\n2\t3 \u00b1") == "1\n2\t3 \u00b1");
}

TEST_CASE("coordinates are short") {
  CHECK(svg_number(1.005) == "1");
  CHECK(svg_number(-0.001) == "0");
  CHECK(svg_number(12.340) == "12.34");
  CHECK(svg_number(100) == "100");
}

TEST_CASE("text is fitted and wrapped") {
  CHECK(fitted("short", 100) == "short");
  const std::string cut =
      fitted("\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4", 50);
  CHECK(cut.ends_with("\u2026"));
  CHECK(text_width(cut) <= 50);
  CHECK(wrapped("", 100).empty());
  CHECK(wrapped("one two three", text_width("one two")) ==
        std::vector<std::string>{"one two", "three"});
  CHECK(wrapped("longword", 1) == std::vector<std::string>{"longword"});
}

TEST_CASE("a chart has its title, axes and text; all escaped") {
  XyChart chart = line_of({{0, 1}, {1, 3}});
  chart.text = {.title = "a<b", .note = "n&m"};
  chart.x.label = "x>y";
  const std::string svg = xy_chart_svg(chart);
  check_sound(svg);
  for (const char* part : {">a&lt;b</text>", ">n&amp;m</text>", ">x&gt;y</text>", ">ms</text>",
                           "aria-label=\"a&lt;b. n&amp;m. "}) {
    CHECK(contains(svg, part));
  }
  CHECK(!contains(svg, "<b"));
}

TEST_CASE("no samples, one sample, samples that are none") {
  for (const SeriesKind kind :
       {SeriesKind::kLine, SeriesKind::kStep, SeriesKind::kPoints, SeriesKind::kColumns}) {
    const std::string empty = xy_chart_svg(line_of({}, kind));
    check_sound(empty);
    CHECK(contains(empty, "no data"));
    const std::string bad =
        xy_chart_svg(line_of({{kNan, 1}, {1, kNan}, {kInfinity, 2}, {2, -kInfinity}}, kind));
    check_sound(bad);
    CHECK(contains(bad, "no data"));
    XyChart one = line_of({{5, 5}}, kind);
    one.series[0].errors = {kNan};
    one.series[0].has_area = true;
    check_sound(xy_chart_svg(one));
    CHECK(!contains(xy_chart_svg(one), "no data"));
    XyChart log = line_of({{0, 1}, {-1, 1}, {10, 0}, {10, 10}}, kind);
    log.x.kind = log.y.kind = ScaleKind::kLog;
    log.marks = {{0, "zero"}, {kNan, "none"}};
    check_sound(xy_chart_svg(log));
  }
  RowChart rows{.text = {.title = "T"}, .axis = "s", .rows = {}};
  CHECK(contains(row_chart_svg(rows), "no data"));
  rows.rows = {{.label = "none", .value = kNan, .value_text = "?"}};
  check_sound(row_chart_svg(rows));
  CHECK(contains(row_chart_svg(rows), "no data"));
  rows.rows.push_back(
      {.label = "one", .value = 3, .low = kNan, .high = kInfinity, .value_text = "3"});
  rows.rows.push_back({.label = "negative", .value = -3, .value_text = "-3"});
  check_sound(row_chart_svg(rows));
  CHECK(!contains(row_chart_svg(rows), "no data"));
}

TEST_CASE("many samples become few points that keep the extremes") {
  std::vector<ChartPoint> points;
  for (int i = 0; i < 100'000; ++i) points.push_back({i / 1e3, i == 54'321 ? 9.0 : (i % 7) / 7.0});
  const Scale x(ScaleKind::kLinear, 0, 100, 0, 700);
  const std::vector<ChartPoint> kept = thinned(points, x, 700);
  CHECK(kept.size() <= 4 * 701);
  CHECK(kept.front().x == points.front().x);
  CHECK(kept.back().x == points.back().x);
  CHECK(std::any_of(kept.begin(), kept.end(), [](const ChartPoint& p) { return p.y == 9; }));
  CHECK(std::is_sorted(kept.begin(), kept.end(),
                       [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; }));
  const std::string svg = xy_chart_svg(line_of(points, SeriesKind::kStep));
  check_sound(svg);
  CHECK(svg.size() < 100'000);
  const std::vector<ChartPoint> few(points.begin(), points.begin() + 10);
  CHECK(thinned(few, x, 700).size() == 10);
}

TEST_CASE("bars: lengths are proportional, intervals and marks are drawn") {
  const RowChart chart{
      .text = {.title = "T"},
      .axis = "requests/s",
      .rows = {{.label = "a", .value = 40, .low = 38, .high = 42, .value_text = "40"},
               {.label = "b", .value = 20, .value_text = "20", .is_marked = true}}};
  const std::string svg = row_chart_svg(chart);
  check_sound(svg);
  const auto width_of = [&](std::size_t from) {
    const std::size_t at = svg.find(" width=\"", svg.find("class=\"bar", from)) + 8;
    return std::stod(svg.substr(at));
  };
  const double first = width_of(0);
  const double second = width_of(svg.find("class=\"bar") + 1);
  CHECK(first == doctest::Approx(2 * second).epsilon(0.01));
  CHECK(count_of(svg, "class=\"whisker\"") == 3);
  CHECK(count_of(svg, "hatched") == 1);
  CHECK(contains(svg, "<title>a: 40 (95 % interval 38 to 42)</title>"));
}

TEST_CASE("texts at lines across that are near each other stand below each other") {
  XyChart chart = line_of({{0, 1}, {10, 2}});
  chart.marks = {{4, "knee of paged: 4"}, {4, "knee of naive: 4"}, {0, "far"}};
  const std::string svg = xy_chart_svg(chart);
  const auto height_of = [&](const std::string& text) {
    const std::size_t end = svg.find(">" + text + "<");
    REQUIRE(end != std::string::npos);
    const std::size_t at = svg.find(" y=\"", svg.rfind("<text", end));
    return std::atof(svg.c_str() + at + 4);
  };
  CHECK(height_of("knee of naive: 4") >= height_of("knee of paged: 4") + 12);
  CHECK(height_of("far") == height_of("knee of paged: 4"));
}

TEST_CASE("a figure as a file brings its style, in colors and for dark screens") {
  const std::string file = standalone_svg(xy_chart_svg(line_of({{0, 1}, {1, 2}})));
  CHECK(file.starts_with("<?xml"));
  CHECK(contains(file, "<style>"));
  CHECK(contains(file, "prefers-color-scheme:dark"));
  CHECK(!contains(file, "var("));
  CHECK(!contains(file, "$"));
  CHECK(contains(chart_rules(), "var(--series0)"));
  CHECK(!contains(chart_rules(), "$"));
}

TEST_CASE("charts as text") {
  const RowChart rows{.text = {.title = "Rates"},
                      .axis = "requests/s",
                      .rows = {{.label = "paged", .value = 40, .value_text = "40 \u00b1 1"},
                               {.label = "na\x1bve", .value = 20, .value_text = "20"}}};
  const std::string bars = chart_text(rows, 40, false);
  CHECK(bars == "Rates\n  paged  " + std::string(23, '#') + "  40 +- 1\n  na?ve  " +
                    std::string(12, '#') + std::string(11, ' ') + "  20\n");
  CHECK(contains(chart_text(rows, 40, true), "\u2588"));
  const std::string line = chart_text(line_of({{0, 0}, {100, 8}}), 40, false);
  CHECK(contains(line, "T: ms, 0 to 8; s, 0 to 100\n"));
  CHECK(contains(line, " .:-=+*%#") == false);  // each height several times
  CHECK(line.substr(line.size() - 2) == "#\n");
  for (const bool unicode : {false, true}) {
    CHECK(chart_text(line_of({}), 10, unicode).empty());
    CHECK(!chart_text(line_of({{1, 1}}), 10, unicode).empty());
    CHECK(!chart_text(RowChart{.text = {.title = "T"},
                               .axis = "",
                               .rows = {{.label = "x", .value = kNan, .value_text = ""}}},
                      10, unicode)
               .empty());
  }
}

}  // namespace llmrun
