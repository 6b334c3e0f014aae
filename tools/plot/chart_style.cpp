#include "tools/plot/chart_style.h"

#include <array>

#include <fmt/format.h>

#include "tools/plot/chart.h"

namespace llmrun {
namespace {

struct Color {
  const char* name;
  const char* light;
  const char* dark;
};

// Names are those of the custom properties.
constexpr std::array<Color, 12> kColors = {{{"paper", "#ffffff", "#14171c"},
                                            {"ink", "#1c2128", "#e4e8ee"},
                                            {"faint", "#5b6470", "#9aa4b2"},
                                            {"line", "#dfe3e8", "#313843"},
                                            {"bad", "#b3261e", "#ff8a80"},
                                            {"good", "#00694e", "#5fd3ae"},
                                            {"series0", "#0067a5", "#5ab4f0"},
                                            {"series1", "#c8500a", "#f39a5b"},
                                            {"series2", "#00805f", "#3ccba0"},
                                            {"series3", "#a5488a", "#e49acb"},
                                            {"series4", "#8a6d00", "#e6c34a"},
                                            {"series5", "#4f5b93", "#a9b4f2"}}};
constexpr std::array<const char*, kNumChartColors> kDashes = {"none",    "7 3", "2 3",
                                                              "9 3 2 3", "4 2", "1 2"};

// Rules in which $name stands for a color.
std::string rules() {
  std::string text =
      ".chart{font-family:system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",Arial,"
      "sans-serif;font-size:12px}"
      ".chart text{fill:$ink}"
      ".chart .title{font-size:14px;font-weight:600}"
      ".chart .faint{fill:$faint}"
      ".chart .bad{fill:$bad}"
      ".chart .paper{fill:$paper}"
      ".chart .grid{stroke:$line;stroke-width:1;fill:none}"
      ".chart .axis{stroke:$faint;stroke-width:1;fill:none}"
      ".chart .whisker{stroke:$ink;stroke-width:1.5;fill:none}"
      ".chart .reference{stroke:$faint;stroke-width:1;stroke-dasharray:4 3;fill:none}"
      ".chart .limit{stroke:$faint;stroke-width:1.5;fill:none}"
      ".chart .curve{fill:none;stroke-width:2;stroke-linejoin:round}"
      ".chart .area{opacity:.14;stroke:none}"
      ".chart .hatched{fill-opacity:.25;stroke-width:1.5;stroke-dasharray:3 2}";
  for (int i = 0; i < kNumChartColors; ++i) {
    text += fmt::format(
        ".chart .s{0}{{fill:$series{0};stroke:$series{0}}}"
        ".chart .curve.s{0}{{fill:none;stroke-dasharray:{1}}}",
        i, kDashes[static_cast<std::size_t>(i)]);
  }
  return text + ".chart .bar{stroke:none}.chart .hatched.bar{stroke:$ink}";
}

// Each $name replaced by what `value` makes of the color.
template <typename Value>
std::string with_colors(const std::string& text, Value value) {
  std::string result;
  std::size_t end = 0;
  for (std::size_t at = text.find('$'); at != std::string::npos; at = text.find('$', end)) {
    result += text.substr(end, at - end);
    end = at + 1;
    for (const Color& color : kColors) {
      const std::string name = color.name;
      if (text.compare(at + 1, name.size(), name) != 0) continue;
      result += value(color);
      end = at + 1 + name.size();
      break;
    }
  }
  return result + text.substr(end);
}

std::string light_rules() {
  return with_colors(rules(), [](const Color& color) { return std::string(color.light); });
}
std::string dark_rules() {
  return with_colors(rules(), [](const Color& color) { return std::string(color.dark); });
}

std::string properties(const char* Color::*shade) {
  std::string text;
  for (const Color& color : kColors) text += fmt::format("--{}:{};", color.name, color.*shade);
  return text;
}

}  // namespace

std::string chart_rules() {
  return with_colors(rules(),
                     [](const Color& color) { return fmt::format("var(--{})", color.name); });
}

std::string page_colors() {
  return fmt::format(
      ":root{{color-scheme:light dark;{}}}"
      "@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}",
      properties(&Color::light), properties(&Color::dark));
}

std::string standalone_svg(const std::string& svg) {
  const std::string style = fmt::format(
      "<style>{0}@media screen and (prefers-color-scheme:dark){{{1}}}</style>"
      "<rect class=\"paper\" x=\"{2}\" y=\"{2}\" width=\"100%\" height=\"100%\"/>",
      light_rules(), dark_rules(), -kChartMargin);
  const std::size_t tag_end = svg.find('>') + 1;
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + svg.substr(0, tag_end) + style +
         svg.substr(tag_end) + "\n";
}

}  // namespace llmrun
