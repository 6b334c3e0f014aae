// The style sheet of charts: colors that the color-blind can tell apart (after Okabe and Ito), on
// light and dark pages and on paper; dashes and marks say the same without color.
#pragma once

#include <string>

namespace llmrun {

// Rules for charts within a page, which sets the colors as custom properties (page_colors()).
std::string chart_rules();
// The custom properties, for light, dark (prefers-color-scheme) and print.
std::string page_colors();

// A chart as a file of its own: with its style sheet, which names colors and not properties, since
// not every viewer knows those. `svg` is what a function of chart.h made.
std::string standalone_svg(const std::string& svg);

}  // namespace llmrun
