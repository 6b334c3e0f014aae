// A page of HTML in one file: no scripts, nothing fetched from elsewhere, its charts inline; for
// light and dark screens and for paper. All texts given are plain and are escaped here.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/report/report_table.h"

namespace llmrun {

enum class NoteKind { kPlain, kGood, kWarning, kBad };

class HtmlPage {
 public:
  // `subtitle` stands below the title, small.
  HtmlPage(const std::string& title, const std::string& subtitle);

  void heading(const std::string& text);
  void subheading(const std::string& text);
  void paragraph(const std::string& text);
  // A line that stands out.
  void note(NoteKind kind, const std::string& text);
  // Without its title, which is a heading's matter, and without empty columns. Cells that are
  // numbers stand right; a cell that is INVALID or WARNING has its color.
  void table(const ReportTable& given);
  // Charts side by side where there is room, two or three of them; empty ones are left out.
  void charts(const std::vector<std::string>& svgs);
  void charts_in_threes(const std::vector<std::string>& svgs);
  void wide_chart(const std::string& svg);
  void facts(const std::vector<std::pair<std::string, std::string>>& facts);
  void code(const std::string& text);

  std::string finish() const;

 private:
  void add_charts(const char* style, const std::vector<std::string>& svgs);

  std::string title_;
  std::string body_;
};

}  // namespace llmrun
