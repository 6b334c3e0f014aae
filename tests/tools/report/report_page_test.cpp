#include "tools/report/report_page.h"

#include <doctest/doctest.h>

#include "tools/report/html_page.h"
#include "tools/report/report_parts.h"

namespace llmrun {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("reports are known by their command") {
  CHECK(is_report({{"command", "throughput"}}));
  CHECK(is_report({{"tool", "llmrun serve-bench"}}));
  CHECK(!is_report({{"command", "fly"}}));
  CHECK(!is_report(ReportJson::array()));
  CHECK(!is_report(nullptr));
}

TEST_CASE("a report without anything still makes a page, a figure and text") {
  for (const char* command : {"throughput", "serve-bench", "eval", "compare"}) {
    const ReportJson report = {{"command", command}};
    CHECK(report_page(report).starts_with("<!DOCTYPE html>"));
    CHECK(contains(report_plot(report), "no data"));
    CHECK_NOTHROW(static_cast<void>(report_text_plots(report, 80, true)));
  }
}

TEST_CASE("members of another type read as absent") {
  const ReportJson json = {{"n", 1.5}, {"t", "x"}, {"l", {1, "y", 2}}, {"b", true}};
  CHECK(number_of(json, "n") == 1.5);
  CHECK(!number_of(json, "t"));
  CHECK(!number_of(json, "missing"));
  CHECK(text_of(json, "t") == "x");
  CHECK(text_of(json, "n") == "1.5");
  CHECK(text_of(json, "b") == "true");
  CHECK(text_of(json, "l").empty());
  CHECK(numbers_of(json, "l") == std::vector<double>{1, 2});
  CHECK(list_of(json, "t").empty());
  CHECK(member(member(json, "t"), "u").is_null());
  CHECK(points_of({{"x", {1, 2, "z"}}, {"y", {5, nullptr, 7, 8}}}, "x", "y").size() == 1);
}

TEST_CASE("INVALID is told at the top and at the case") {
  const ReportJson report = {
      {"command", "throughput"},
      {"cases",
       {{{"name", "paged"}, {"metrics", {{{"name", "requests_per_s"}, {"mean", 3.5}}}}},
        {{"name", "naive"}, {"metrics", {{{"name", "requests_per_s"}, {"mean", 2.5}}}}}}},
      {"checks",
       {{{"case", "naive"}, {"name", "short_outputs"}, {"status", "INVALID"}, {"message", "cut"}},
        {{"case", ""}, {"name", "stability"}, {"status", "OK"}, {"message", ""}}}}};
  const std::string page = report_page(report);
  CHECK(contains(page, "INVALID: these figures must not be used"));
  CHECK(contains(page, "naive (INVALID)"));
  CHECK(!contains(page, "paged (INVALID)"));
  CHECK(contains(page, "OK: stability"));
  CHECK(contains(report_plot(report), "bar s1 hatched"));
  CHECK(contains(report_plot(report), "2.500 INVALID"));
}

TEST_CASE("an evaluation that was stopped is INVALID on its page") {
  CHECK(contains(report_page({{"command", "eval"}, {"valid", false}}), "INVALID: stopped"));
  CHECK(!contains(report_page({{"command", "eval"}, {"valid", true}}), "INVALID"));
}

TEST_CASE("each backend and each run keeps its color from chart to chart") {
  const auto with_groups = [](const char* backend) {
    return ReportJson{{"name", backend},
                      {"backend", backend},
                      {"groups", {{"ages", {{"num_questions", 10}, {"accuracy", 0.5}}}}}};
  };
  const ReportJson evaluation = {
      {"command", "eval"},
      {"cases", ReportJson::array({with_groups("paged"), with_groups("naive")})}};
  const std::string groups = report_page(evaluation);
  CHECK(contains(groups, "class=\"bar s0\""));
  CHECK(contains(groups, "class=\"bar s1\""));
  const ReportJson serving = {{"tool", "llmrun serve-bench"},
                              {"results",
                               {{{"mode", "inproc"}, {"output_throughput", 10}},
                                {{"mode", "http"}, {"output_throughput", 9}}}}};
  const std::string bars = report_page(serving);
  CHECK(contains(bars, "class=\"bar s0\""));
  CHECK(contains(bars, "class=\"bar s1\""));
}

TEST_CASE("a distribution is drawn of its samples, else of its percentiles") {
  const LatencyCurve exact = latency_curve(
      "paged", {{"count", 2}, {"p50", 9.0}, {"cdf", {{"values", {1, 4}}, {"shares", {0.5, 1}}}}});
  REQUIRE(exact.points.size() == 2);
  CHECK(exact.points[0].y == 50);
  CHECK(!exact.is_coarse);
  const LatencyCurve coarse =
      latency_curve("old", {{"count", 3}, {"min", 1}, {"p50", 2}, {"p99", 3}});
  CHECK(coarse.points.size() == 3);
  CHECK(coarse.is_coarse);
  CHECK(latency_curve("none", {{"count", 0}, {"p50", 0}}).points.empty());
  CHECK(contains(svg_of(latency_chart("TTFT", "", {coarse})), "from percentiles alone"));
  CHECK(!latency_chart("TTFT", "", {latency_curve("none", nullptr)}));
}

TEST_CASE("a page escapes all it is given, and loads nothing") {
  HtmlPage page("<t>", "s&s");
  page.heading("<h>");
  page.note(NoteKind::kBad, "<n>");
  page.table({.title = "", .header = {"<a>"}, .rows = {{"<c>", "left out"}, {}}});
  page.facts({{"<k>", "<v>"}, {"empty", ""}});
  page.code("<x>");
  const std::string html = page.finish();
  for (const char* tag :
       {"<t>", "<h>", "<n>", "<a>", "<c>", "<k>", "<v>", "<x>", "s&s", "left out", "empty"}) {
    CHECK(!contains(html, tag));
  }
  CHECK(contains(html, "Content-Security-Policy"));
  CHECK(!contains(html, "http:"));
}

}  // namespace llmrun
