// Pieces of SVG text that cannot be malformed.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llmrun {

// Text for XML and HTML, between tags or in quotes: & < > " ' become references; what no XML
// document may hold (control characters, broken UTF-8) becomes U+FFFD; newlines and tabs stay.
std::string xml_escaped(std::string_view text);

// A coordinate with at most two decimals. REQUIRES: finite.
std::string svg_number(double value);

// The width of a text in 12-pixel sans-serif type, in pixels, near enough to leave room for it.
double text_width(std::string_view text);
// As much of the text as fits into so many pixels; what is cut ends in an ellipsis.
std::string fitted(std::string_view text, double max_width);
// Lines that are at most so wide, broken at spaces; a longer word is a line of its own. None for an
// empty text.
std::vector<std::string> wrapped(std::string_view text, double max_width);

}  // namespace llmrun
