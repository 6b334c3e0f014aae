// Charts as a few lines of text, for terminals.
#pragma once

#include <string>

#include "tools/plot/chart.h"

namespace llmrun {

// Rows as bars, or as intervals around a point; a line for each series of two axes, whose heights
// are those of the series from the least to the greatest x. At most `columns` wide (40 at least);
// with block characters, or of ASCII alone.
std::string chart_text(const Chart& chart, int columns, bool unicode);

}  // namespace llmrun
