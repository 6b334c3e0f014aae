#include "tools/plot/svg.h"

#include <algorithm>

#include <fmt/format.h>

#include "engine/core/utf8.h"

namespace llmrun {

std::string xml_escaped(std::string_view text) {
  std::string valid = replace_invalid_utf8(text);
  for (const char* no_character : {"\xEF\xBF\xBE", "\xEF\xBF\xBF"}) {  // U+FFFE, U+FFFF
    for (std::size_t at = 0; (at = valid.find(no_character, at)) != std::string::npos;) {
      valid.replace(at, 3, kReplacementCharacter);
    }
  }
  std::string escaped;
  escaped.reserve(valid.size());
  for (const char c : valid) {
    switch (c) {
      case '&': escaped += "&amp;"; break;
      case '<': escaped += "&lt;"; break;
      case '>': escaped += "&gt;"; break;
      case '"': escaped += "&quot;"; break;
      case '\'': escaped += "&#39;"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') {
          escaped += kReplacementCharacter;
        } else {
          escaped += c;
        }
    }
  }
  return escaped;
}

std::string svg_number(double value) {
  std::string text = fmt::format("{:.2f}", value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

double text_width(std::string_view text) {
  double width = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) continue;  // inside a character
    if (std::string_view("iljtfrI.,:;'|!()[] ").find(c) != std::string_view::npos) {
      width += 4.6;
    } else if (std::string_view("mwMW%@").find(c) != std::string_view::npos) {
      width += 11.5;
    } else {
      width += c >= 'A' && c <= 'Z' ? 8.8 : 7.6;
    }
  }
  return width;
}

std::vector<std::string> wrapped(std::string_view text, double max_width) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string word(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!lines.empty() && text_width(lines.back() + " " + word) <= max_width) {
      lines.back() += " " + word;
    } else {
      lines.push_back(word);
    }
  }
  return lines;
}

std::string fitted(std::string_view text, double max_width) {
  if (text_width(text) <= max_width) return std::string(text);
  constexpr double kEllipsis = 12;
  std::size_t end = text.size();
  while (end > 0 && text_width(text.substr(0, end)) > max_width - kEllipsis) {
    do {
      --end;
    } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  }
  return std::string(text.substr(0, end)) + "\u2026";
}

}  // namespace llmrun
