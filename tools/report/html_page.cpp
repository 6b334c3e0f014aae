#include "tools/report/html_page.h"

#include <algorithm>

#include <fmt/format.h>

#include "tools/plot/chart_style.h"
#include "tools/plot/svg.h"

namespace llmrun {
namespace {

constexpr const char* kPageRules = R"css(
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);line-height:1.5;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-size:15px}
main{max-width:1060px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0}
h2{font-size:17px;margin:36px 0 10px;padding-bottom:4px;border-bottom:1px solid var(--line)}
h3{font-size:15px;margin:18px 0 0}
p{margin:8px 0;overflow-wrap:anywhere}
.subtitle{color:var(--faint);margin:2px 0 16px}
.note{border-left:4px solid var(--line);padding:6px 12px;margin:8px 0}
.note.good{border-color:var(--good)}
.note.warning{border-color:var(--series1)}
.note.bad{border-color:var(--bad);color:var(--bad);font-weight:600}
.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:8px 0;font-size:14px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:600;color:var(--faint);vertical-align:bottom}
th,td{padding:4px 14px 4px 0;border-bottom:1px solid var(--line)}
td{vertical-align:top}
.number{text-align:right;white-space:nowrap}
th.number{white-space:normal}
.short{white-space:nowrap}
.long{min-width:260px;overflow-wrap:anywhere}
.invalid{color:var(--bad);font-weight:600}
.warned{color:var(--series1);font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));
gap:22px 28px;margin:14px 0}
.threes{grid-template-columns:repeat(auto-fit,minmax(min(300px,100%),1fr))}
.wide{margin:14px 0}
svg.chart{max-width:100%;height:auto;display:block}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:8px 0;font-size:14px}
dt{color:var(--faint)}
dd{margin:0;overflow-wrap:anywhere}
pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid var(--line);border-radius:4px;
padding:10px 12px;margin:8px 0;font-size:13px;font-family:ui-monospace,SFMono-Regular,Menlo,
Consolas,monospace}
@media (max-width:560px){dl{display:block}dd{margin-bottom:6px}}
@media print{
@page{margin:14mm}
body{font-size:11pt}
main{max-width:none;padding:0}
h2,h3{break-after:avoid}
.scroll{overflow:visible}
table{font-size:9pt}
tr,.charts>*,.wide,.note{break-inside:avoid}
.charts{grid-template-columns:1fr 1fr;gap:14px}
.threes{grid-template-columns:1fr 1fr 1fr}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
)css";

// A number with what may stand around it: "12.3", "-4.5 %", "1.20 +- 0.03", "2.1 x naive".
bool is_number(const std::string& cell) {
  const std::size_t first = cell.find_first_not_of("+-");
  return first != std::string::npos && cell[first] >= '0' && cell[first] <= '9' &&
         cell.size() <= 24;
}

// Columns all of whose cells are numbers or empty.
std::vector<bool> number_columns(const ReportTable& table) {
  std::vector<bool> are_numbers(table.header.size(), true);
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    bool has_number = false;
    for (const auto& row : table.rows) {
      if (column >= row.size() || row[column].empty() || row[column] == "-") continue;
      has_number = is_number(row[column]);
      if (!has_number) break;
    }
    are_numbers[column] = has_number;
  }
  return are_numbers;
}

// Without the columns that no row has anything in.
ReportTable without_empty_columns(const ReportTable& table) {
  ReportTable kept{.title = table.title, .header = {}, .rows = {}};
  kept.rows.resize(table.rows.size());
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    const auto is_empty = [&](const std::vector<std::string>& row) {
      return column >= row.size() || row[column].empty();
    };
    if (std::all_of(table.rows.begin(), table.rows.end(), is_empty)) continue;
    kept.header.push_back(table.header[column]);
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
      kept.rows[i].push_back(is_empty(table.rows[i]) ? "" : table.rows[i][column]);
    }
  }
  return kept;
}

std::string cell_class(const std::string& cell, bool is_number_column) {
  constexpr std::size_t kShort = 24;
  constexpr std::size_t kLong = 60;
  if (cell.starts_with("INVALID")) return " class=\"invalid\"";
  if (cell.starts_with("WARNING")) return " class=\"warned\"";
  if (is_number_column) return " class=\"number\"";
  return cell.size() <= kShort ? " class=\"short\"" : cell.size() >= kLong ? " class=\"long\"" : "";
}

}  // namespace

HtmlPage::HtmlPage(const std::string& title, const std::string& subtitle)
    : title_(title),
      body_(fmt::format("<h1>{}</h1>\n<p class=\"subtitle\">{}</p>\n", xml_escaped(title),
                        xml_escaped(subtitle))) {}

void HtmlPage::heading(const std::string& text) {
  body_ += fmt::format("<h2>{}</h2>\n", xml_escaped(text));
}

void HtmlPage::subheading(const std::string& text) {
  body_ += fmt::format("<h3>{}</h3>\n", xml_escaped(text));
}

void HtmlPage::paragraph(const std::string& text) {
  body_ += fmt::format("<p>{}</p>\n", xml_escaped(text));
}

void HtmlPage::note(NoteKind kind, const std::string& text) {
  const char* style = kind == NoteKind::kGood      ? " good"
                      : kind == NoteKind::kWarning ? " warning"
                      : kind == NoteKind::kBad     ? " bad"
                                                   : "";
  body_ += fmt::format("<p class=\"note{}\">{}</p>\n", style, xml_escaped(text));
}

void HtmlPage::table(const ReportTable& given) {
  if (given.rows.empty()) return;
  const ReportTable table = without_empty_columns(given);
  const std::vector<bool> are_numbers = number_columns(table);
  body_ += "<div class=\"scroll\"><table><thead><tr>";
  for (std::size_t column = 0; column < table.header.size(); ++column) {
    body_ += fmt::format("<th{}>{}</th>", are_numbers[column] ? " class=\"number\"" : "",
                         xml_escaped(table.header[column]));
  }
  body_ += "</tr></thead>\n<tbody>";
  for (const auto& row : table.rows) {
    body_ += "<tr>";
    for (std::size_t column = 0; column < table.header.size(); ++column) {
      const std::string cell = column < row.size() ? row[column] : "";
      body_ +=
          fmt::format("<td{}>{}</td>", cell_class(cell, are_numbers[column]), xml_escaped(cell));
    }
    body_ += "</tr>\n";
  }
  body_ += "</tbody></table></div>\n";
}

void HtmlPage::charts(const std::vector<std::string>& svgs) {
  add_charts("charts", svgs);
}

void HtmlPage::charts_in_threes(const std::vector<std::string>& svgs) {
  add_charts("charts threes", svgs);
}

void HtmlPage::add_charts(const char* style, const std::vector<std::string>& svgs) {
  std::string text;
  for (const std::string& svg : svgs) {
    if (!svg.empty()) text += "<div>" + svg + "</div>\n";
  }
  if (!text.empty()) body_ += fmt::format("<div class=\"{}\">\n{}</div>\n", style, text);
}

void HtmlPage::wide_chart(const std::string& svg) {
  if (!svg.empty()) body_ += "<div class=\"wide\">" + svg + "</div>\n";
}

void HtmlPage::facts(const std::vector<std::pair<std::string, std::string>>& facts) {
  body_ += "<dl>";
  for (const auto& [name, value] : facts) {
    if (value.empty()) continue;
    body_ += fmt::format("<dt>{}</dt><dd>{}</dd>\n", xml_escaped(name), xml_escaped(value));
  }
  body_ += "</dl>\n";
}

void HtmlPage::code(const std::string& text) {
  body_ += fmt::format("<pre><code>{}</code></pre>\n", xml_escaped(text));
}

std::string HtmlPage::finish() const {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
      "style-src 'unsafe-inline'; img-src data:\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<link rel=\"icon\" href=\"data:,\"/>\n<title>{}</title>\n<style>{}{}{}</style></head>\n"
      "<body><main>\n{}</main></body></html>\n",
      xml_escaped(title_), page_colors(), chart_rules(), kPageRules, body_);
}

}  // namespace llmrun
