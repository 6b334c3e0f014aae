// A table of a report, and the forms it is written in.
#pragma once

#include <string>
#include <vector>

namespace llmrun {

struct ReportTable {
  std::string title;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;  // as many cells as the header, or fewer
};

// Title and aligned columns, after an empty line. Where the lines would be longer than `width` the
// last column goes on below itself; 0: they may be of any length.
std::string text_table(const ReportTable& table, int width = 0);
// A heading and a table in GitHub's Markdown, after an empty line.
std::string markdown_table(const ReportTable& table);
// One line of RFC 4180, ended by LF.
std::string csv_line(const std::vector<std::string>& cells);
// The header and all rows, as such lines.
std::string csv_table(const ReportTable& table);
// CREATE TABLE, unless it is there, and an INSERT for each row, for `| sqlite3 FILE`. The table has
// the title's name. Cells that are numbers are stored as such; empty ones are NULL.
std::string sql_table(const ReportTable& table);

}  // namespace llmrun
