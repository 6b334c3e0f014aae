#include "tools/report/report_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace llmrun {
namespace {

// A cell of Markdown is one line, and a bar would end it.
std::string markdown_cell(const std::string& text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|') cell += '\\';
    cell += c == '\n' ? ' ' : c;
  }
  return cell;
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  quoted += '"';
  return quoted;
}

// SQL's quoting: the quote itself twice.
std::string quoted(const std::string& text, char quote) {
  std::string result(1, quote);
  for (const char c : text) result.append(c == quote ? 2 : 1, c);
  result += quote;
  return result;
}

std::string sql_value(const std::string& cell) {
  if (cell.empty()) return "NULL";
  double number = 0;
  const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), number);
  const bool is_number = error == std::errc() && end == cell.data() + cell.size();
  return is_number && std::isfinite(number) ? cell : quoted(cell, '\'');
}

// The text in lines of at most `width` bytes, cut at spaces where there are some.
std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  while (text.size() > width) {
    std::size_t end = text.rfind(' ', width);
    if (end == std::string_view::npos || end == 0) end = std::min(text.find(' ', 1), text.size());
    lines.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (!text.empty() || lines.empty()) lines.emplace_back(text);
  return lines;
}

}  // namespace

std::string text_table(const ReportTable& table, int width) {
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    std::size_t longest = table.header[column].size();
    for (const auto& row : table.rows) {
      if (column < row.size()) longest = std::max(longest, row[column].size());
    }
    widths.push_back(longest);
  }
  constexpr std::size_t kLeastWrapped = 20;
  std::size_t last_start = 2;
  for (std::size_t column = 0; column + 1 < widths.size(); ++column) {
    last_start += widths[column] + 2;
  }
  const bool wraps = width > 0 && static_cast<std::size_t>(width) >= last_start + kLeastWrapped;
  const std::size_t last_width = wraps ? static_cast<std::size_t>(width) - last_start : SIZE_MAX;
  std::string text = "\n" + table.title + "\n";
  const auto add_row = [&](const std::vector<std::string>& row) {
    std::string line = " ";
    for (std::size_t column = 0; column < row.size(); ++column) {
      const bool is_last = column + 1 == widths.size();
      const auto cell_lines = wrapped(row[column], is_last ? last_width : SIZE_MAX);
      line += fmt::format(" {:<{}} ", cell_lines.front(), is_last ? 0 : widths[column]);
      for (std::size_t i = 1; i < cell_lines.size(); ++i) {
        line += fmt::format("\n{:{}}{}", "", last_start, cell_lines[i]);
      }
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add_row(table.header);
  for (const auto& row : table.rows) add_row(row);
  return text;
}

std::string markdown_table(const ReportTable& table) {
  std::string text = fmt::format("\n## {}\n\n", table.title);
  const auto add_row = [&](const std::vector<std::string>& row) {
    text += "|";
    for (const std::string& cell : row) text += fmt::format(" {} |", markdown_cell(cell));
    text += "\n";
  };
  add_row(table.header);
  text += "|";
  for (std::size_t column = 0; column < table.header.size(); ++column) text += "---|";
  text += "\n";
  for (const auto& row : table.rows) add_row(row);
  return text;
}

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) line += ',';
    line += csv_cell(cells[i]);
  }
  line += '\n';
  return line;
}

std::string csv_table(const ReportTable& table) {
  std::string text = csv_line(table.header);
  for (const auto& row : table.rows) text += csv_line(row);
  return text;
}

std::string sql_table(const ReportTable& table) {
  std::string names;
  for (const std::string& name : table.header) {
    if (!names.empty()) names += ", ";
    names += quoted(name, '"');
  }
  const std::string title = quoted(table.title, '"');
  std::string text = fmt::format("CREATE TABLE IF NOT EXISTS {} ({});\n", title, names);
  for (const auto& row : table.rows) {
    std::string values;
    for (std::size_t i = 0; i < table.header.size(); ++i) {
      if (i > 0) values += ", ";
      values += i < row.size() ? sql_value(row[i]) : "NULL";
    }
    text += fmt::format("INSERT INTO {} ({}) VALUES ({});\n", title, names, values);
  }
  return text;
}

}  // namespace llmrun
