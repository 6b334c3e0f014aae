// The parts that charts are drawn of; each adds to one text of SVG.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/plot/chart.h"

namespace llmrun {

enum class TextAnchor { kStart, kMiddle, kEnd };

class Drawing {
 public:
  void line(const char* style, double x1, double y1, double x2, double y2);
  // `style`: classes of the style sheet. A tip is shown when one points at it.
  void rectangle(const std::string& style, double x, double y, double width, double height,
                 const std::string& tip = "");
  void text(const char* style, double x, double y, TextAnchor anchor, std::string_view text);
  void path(const std::string& style, const std::string& commands);
  // The mark of a series: its shape goes with its color.
  void mark(int color, double x, double y, const std::string& tip = "");
  // An interval from (x, y1) to (x, y2), or from (x1, y) to (x2, y), with its ends.
  void vertical_whisker(double x, double y1, double y2);
  void horizontal_whisker(double y, double x1, double x2);

  // The title, the note in as many lines as it needs, and their space; returns where the next line
  // may begin.
  double heading(const ChartText& text, double width);
  // The whole picture.
  std::string finish(const ChartText& text, double width, double height) const;

 private:
  std::string svg_;
};

// "bar s2": a class and that of a series' color.
std::string styled(const char* style, int color);

}  // namespace llmrun
