#include "tools/plot/drawing.h"

#include <fmt/format.h>

#include "tools/plot/svg.h"

namespace llmrun {
namespace {

std::string with_tip(const std::string& element, const std::string& tip) {
  const std::size_t name_end = element.find(' ');
  if (tip.empty()) return element + "/>";
  return fmt::format("{}><title>{}</title></{}>", element, xml_escaped(tip),
                     element.substr(1, name_end - 1));
}

}  // namespace

std::string styled(const char* style, int color) {
  return fmt::format("{} s{}", style, color % kNumChartColors);
}

void Drawing::line(const char* style, double x1, double y1, double x2, double y2) {
  svg_ += fmt::format("<path class=\"{}\" d=\"M{} {}L{} {}\"/>", style, svg_number(x1),
                      svg_number(y1), svg_number(x2), svg_number(y2));
}

void Drawing::rectangle(const std::string& style, double x, double y, double width, double height,
                        const std::string& tip) {
  svg_ +=
      with_tip(fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"", style,
                           svg_number(x), svg_number(y), svg_number(width), svg_number(height)),
               tip);
}

void Drawing::text(const char* style, double x, double y, TextAnchor anchor,
                   std::string_view text) {
  if (text.empty()) return;
  const char* name = anchor == TextAnchor::kStart    ? ""
                     : anchor == TextAnchor::kMiddle ? " text-anchor=\"middle\""
                                                     : " text-anchor=\"end\"";
  const std::string classes = *style == '\0' ? "" : fmt::format(" class=\"{}\"", style);
  svg_ += fmt::format("<text{} x=\"{}\" y=\"{}\"{}>{}</text>", classes, svg_number(x),
                      svg_number(y), name, xml_escaped(text));
}

void Drawing::path(const std::string& style, const std::string& commands) {
  if (!commands.empty()) {
    svg_ += fmt::format("<path class=\"{}\" d=\"{}\"/>", style, commands);
  }
}

void Drawing::mark(int color, double x, double y, const std::string& tip) {
  constexpr double kSize = 4.5;
  const auto at = [&](double dx, double dy) {
    return fmt::format("{} {}", svg_number(x + dx * kSize), svg_number(y + dy * kSize));
  };
  std::string shape;
  switch (color % kNumChartColors) {
    case 0:
      shape = fmt::format("M{}a{} {} 0 1 0 {} 0a{} {} 0 1 0 -{} 0z", at(-1, 0), kSize, kSize,
                          2 * kSize, kSize, kSize, 2 * kSize);
      break;
    case 1:
      shape =
          fmt::format("M{}L{}L{}L{}z", at(-0.9, -0.9), at(0.9, -0.9), at(0.9, 0.9), at(-0.9, 0.9));
      break;
    case 2: shape = fmt::format("M{}L{}L{}z", at(0, -1.2), at(1.1, 0.8), at(-1.1, 0.8)); break;
    case 3:
      shape = fmt::format("M{}L{}L{}L{}z", at(0, -1.3), at(1.3, 0), at(0, 1.3), at(-1.3, 0));
      break;
    case 4: shape = fmt::format("M{}L{}L{}z", at(0, 1.2), at(1.1, -0.8), at(-1.1, -0.8)); break;
    default: shape = fmt::format("M{}L{}M{}L{}", at(-1, -1), at(1, 1), at(-1, 1), at(1, -1));
  }
  svg_ += with_tip(fmt::format("<path class=\"{}\" d=\"{}\"", styled("mark", color), shape), tip);
}

void Drawing::vertical_whisker(double x, double y1, double y2) {
  constexpr double kCap = 4;
  line("whisker", x, y1, x, y2);
  line("whisker", x - kCap, y1, x + kCap, y1);
  line("whisker", x - kCap, y2, x + kCap, y2);
}

void Drawing::horizontal_whisker(double y, double x1, double x2) {
  constexpr double kCap = 4;
  line("whisker", x1, y, x2, y);
  line("whisker", x1, y - kCap, x1, y + kCap);
  line("whisker", x2, y - kCap, x2, y + kCap);
}

double Drawing::heading(const ChartText& text, double width) {
  double y = 20;
  this->text("title", 2, y, TextAnchor::kStart, text.title);
  for (const std::string& line : wrapped(text.note, width - 4)) {
    y += 17;
    this->text("faint", 2, y, TextAnchor::kStart, line);
  }
  return y + 10;
}

std::string Drawing::finish(const ChartText& text, double width, double height) const {
  std::string words = text.title;
  for (const std::string& more : {text.note, text.description}) {
    if (!more.empty()) words += ". " + more;
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" role=\"img\" aria-label=\"{0}\" "
      "viewBox=\"{4} {4} {1} {2}\" width=\"{1}\" height=\"{2}\">{3}</svg>",
      xml_escaped(words), svg_number(width + 2 * kChartMargin),
      svg_number(height + 2 * kChartMargin), svg_, svg_number(-kChartMargin));
}

}  // namespace llmrun
