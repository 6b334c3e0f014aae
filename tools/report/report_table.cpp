#include "tools/report/report_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>
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

}  // namespace

std::string text_table(const ReportTable& table) {
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    std::size_t width = table.header[column].size();
    for (const auto& row : table.rows) {
      if (column < row.size()) width = std::max(width, row[column].size());
    }
    widths.push_back(width);
  }
  std::string text = "\n" + table.title + "\n";
  const auto add_row = [&](const std::vector<std::string>& row) {
    std::string line = " ";
    for (std::size_t column = 0; column < row.size(); ++column) {
      line += fmt::format(" {:<{}} ", row[column], widths[column]);
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
