// The page of `llmrun serve-bench`.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/number_text.h"
#include "tools/report/report_page.h"
#include "tools/report/report_parts.h"

namespace llmrun {
namespace {

struct LatencyName {
  const char* key;
  const char* label;
};
constexpr LatencyName kLatencies[] = {
    {"ttft", "TTFT"}, {"tpot", "TPOT"}, {"itl", "ITL"}, {"e2el", "E2EL"}};

// A report of one run is that run.
std::vector<const ReportJson*> runs_of(const ReportJson& report) {
  std::vector<const ReportJson*> runs;
  for (const ReportJson& run : list_of(report, "results")) runs.push_back(&run);
  if (!member(report, "results").is_array()) runs.push_back(&report);
  return runs;
}

std::string request_rate_text(const ReportJson& run) {
  const std::string rate = text_of(run, "request_rate");
  if (!text_of(run, "ramp_up_strategy").empty()) {
    return fmt::format("{} to {} req/s", text_of(run, "ramp_up_start_rps"),
                       text_of(run, "ramp_up_end_rps"));
  }
  if (rate == "inf") return "all at once";
  const auto number = number_of(run, "request_rate");
  return number ? significant(*number) + " req/s" : "as the trace says";
}

std::string name_of(const ReportJson& run) {
  std::string name = request_rate_text(run);
  if (const std::string mode = text_of(run, "mode"); !mode.empty()) name = mode + ", " + name;
  if (const std::string limit = text_of(run, "max_concurrency"); !limit.empty()) {
    name += fmt::format(", {} at a time", limit);
  }
  return name;
}

// Percentile keys of a latency: "p99_ttft_ms" and its share.
std::vector<std::pair<std::string, double>> percentile_keys(const ReportJson& run,
                                                            const std::string& latency) {
  std::vector<std::pair<std::string, double>> keys = {{"median_" + latency + "_ms", 50}};
  if (!run.is_object()) return keys;
  const std::string ending = "_" + latency + "_ms";
  for (const auto& [key, value] : run.items()) {
    if (!key.starts_with('p') || !key.ends_with(ending)) continue;
    const double share = std::atof(key.substr(1, key.size() - ending.size() - 1).c_str());
    if (share > 0 && share <= 100) keys.emplace_back(key, share);
  }
  std::stable_sort(keys.begin(), keys.end(),
                   [](const auto& a, const auto& b) { return a.second < b.second; });
  return keys;
}

LatencyCurve curve_of(const std::string& name, const ReportJson& run, const std::string& latency) {
  ReportJson cdf;
  cdf["cdf"] = member(member(run, "latency_cdfs"), latency + "_ms");
  LatencyCurve curve = latency_curve(name, cdf);
  if (!curve.points.empty()) return curve;
  curve.is_coarse = true;
  for (const auto& [key, share] : percentile_keys(run, latency)) {
    if (const auto value = number_of(run, key)) curve.points.push_back({*value, share});
  }
  return curve;
}

std::optional<XyChart> latency_figure(const std::vector<const ReportJson*>& runs,
                                      const LatencyName& latency) {
  std::vector<LatencyCurve> curves;
  curves.reserve(runs.size());
  for (const ReportJson* run : runs) {
    curves.push_back(curve_of(runs.size() == 1 ? "" : name_of(*run), *run, latency.key));
  }
  return latency_chart(
      latency.label,
      text_of(member(*runs.front(), "definitions"), std::string(latency.key) + "_ms"), curves);
}

// Over the rates that were offered: how long it took, and what came out. None for fewer than three.
std::vector<Chart> rate_charts(const std::vector<const ReportJson*>& runs) {
  XyChart rates{.text = {.title = "Served over offered load"},
                .x = {.label = "requests/s offered", .low = 0},
                .y = {.label = "requests/s", .low = 0},
                .series = {},
                .width = kHalfChart,
                .height = 290};
  XyChart latencies = rates;
  latencies.text.title = "Latency over offered load";
  latencies.y = {.label = "milliseconds, log scale", .kind = ScaleKind::kLog};
  ChartSeries served{.name = "completed", .points = {}, .color = 0, .has_marks = true};
  ChartSeries good{
      .name = "within the goodput limits", .points = {}, .color = 2, .has_marks = true};
  ChartSeries ttft{.name = "TTFT p99", .points = {}, .color = 0, .has_marks = true};
  ChartSeries tpot{.name = "TPOT p99", .points = {}, .color = 1, .has_marks = true};
  const std::string mode = runs.empty() ? "" : text_of(*runs.front(), "mode");
  for (const ReportJson* run : runs) {
    const auto rate = number_of(*run, "request_rate");
    if (!rate || text_of(*run, "mode") != mode) continue;
    const auto add = [&](ChartSeries& series, const char* key) {
      if (const auto value = number_of(*run, key)) series.points.push_back({*rate, *value});
    };
    add(served, "request_throughput");
    add(good, "request_goodput");
    add(ttft, "p99_ttft_ms");
    add(tpot, "p99_tpot_ms");
  }
  if (served.points.size() < 3) return {};
  for (ChartSeries* series : {&served, &good, &ttft, &tpot}) {
    std::stable_sort(series->points.begin(), series->points.end(),
                     [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
  }
  rates.series = {served, good};
  latencies.series = {ttft, tpot};
  for (XyChart* chart : {&rates, &latencies}) {
    std::erase_if(chart->series, [](const ChartSeries& one) { return one.points.empty(); });
  }
  return {std::move(latencies), std::move(rates)};
}

RowChart throughput_bars(const std::vector<const ReportJson*>& runs, int width) {
  RowChart chart{.text = {.title = "Output tokens per second",
                          .note = "of completed requests, over the whole run"},
                 .axis = "output tokens/s",
                 .rows = {},
                 .width = width};
  int color = 0;  // that of the run's latencies
  for (const ReportJson* run : runs) {
    const auto value = number_of(*run, "output_throughput");
    chart.rows.push_back({.label = name_of(*run),
                          .value = value.value_or(std::nan("")),
                          .value_text = figure_text(value),
                          .color = color++});
  }
  return chart;
}

ReportTable serving_table(const std::vector<const ReportJson*>& runs) {
  ReportTable table{.title = "",
                    .header = {"run", "completed", "failed", "seconds", "requests/s",
                               "good requests/s", "output tokens/s", "at once, mean", "TTFT p50 ms",
                               "TTFT p99 ms", "TPOT p50 ms", "ITL p99 ms", "E2EL p50 ms"},
                    .rows = {}};
  for (const ReportJson* run : runs) {
    std::vector<std::string> row = {name_of(*run)};
    for (const char* key :
         {"completed", "failed", "duration", "request_throughput", "request_goodput",
          "output_throughput", "mean_concurrency", "median_ttft_ms", "p99_ttft_ms",
          "median_tpot_ms", "p99_itl_ms", "median_e2el_ms"}) {
      row.push_back(figure_text(number_of(*run, key)));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

// Each percentile, with the interval of what it estimates.
ReportTable percentile_table(const std::vector<const ReportJson*>& runs) {
  ReportTable table{.title = "",
                    .header = {"run", "latency", "mean ms", "percentile", "ms", "95 % interval"},
                    .rows = {}};
  for (const ReportJson* run : runs) {
    for (const LatencyName& latency : kLatencies) {
      const std::string name = std::string(latency.key) + "_ms";
      const ReportJson& intervals = member(member(*run, "percentile_ci95"), name);
      for (const auto& [key, share] : percentile_keys(*run, latency.key)) {
        const auto value = number_of(*run, key);
        if (!value) continue;
        const ReportJson& interval = member(intervals, key.substr(0, key.find('_')));
        const auto bound = [&](std::size_t i) {
          return interval.is_array() && i < interval.size() && interval[i].is_number()
                     ? significant(interval[i].get<double>())
                     : std::string("?");
        };
        table.rows.push_back(
            {name_of(*run), latency.label, figure_text(number_of(*run, "mean_" + name)),
             fmt::format("{:g}", share), figure_text(value),
             interval.is_array() ? fmt::format("{} to {}", bound(0), bound(1)) : ""});
      }
    }
  }
  return table;
}

ReportTable failure_table(const std::vector<const ReportJson*>& runs) {
  ReportTable table{.title = "", .header = {"run", "reason", "requests", "the first"}, .rows = {}};
  for (const ReportJson* run : runs) {
    for (const ReportJson& failure : list_of(*run, "failures")) {
      table.rows.push_back({name_of(*run), text_of(failure, "reason"), text_of(failure, "count"),
                            text_of(failure, "first_message")});
    }
  }
  return table;
}

ReportTable search_table(const ReportJson& report) {
  ReportTable table{.title = "", .header = {"requests/s", "goodput"}, .rows = {}};
  for (const ReportJson& tried : list_of(member(report, "search"), "tried")) {
    table.rows.push_back({figure_text(number_of(tried, "request_rate")),
                          text_of(tried, "held") == "true" ? "held" : "not held"});
  }
  return table;
}

// The runs over time, and the engine's batches.
void add_load(const std::vector<const ReportJson*>& runs, HtmlPage& page) {
  page.heading("The load over time");
  page.paragraph("Waiting: arrived, no token yet. Running: between the first and the last token.");
  bool knows_batches = true;
  for (const ReportJson* run : runs) {
    knows_batches &= member(*run, "decode_batches").is_object();
    if (runs.size() > 1) page.subheading(name_of(*run));
    page.charts_in_threes(step_charts(*run));
  }
  if (!knows_batches) {
    page.paragraph("The size of each step's batch is not known: a server does not tell it.");
  }
}

ReportJson all_checks(const std::vector<const ReportJson*>& runs) {
  ReportJson checks = ReportJson::array();
  for (const ReportJson* run : runs) {
    for (ReportJson check : list_of(*run, "checks")) {
      if (check.is_object() && runs.size() > 1) check["case"] = name_of(*run);
      checks.push_back(std::move(check));
    }
  }
  return checks;
}

std::string where(const ReportJson& report) {
  const std::string device = text_of(report, "device");
  return device.empty() ? text_of(report, "endpoint") : device;
}

}  // namespace

std::vector<Chart> serving_charts(const ReportJson& report) {
  const std::vector<const ReportJson*> runs = runs_of(report);
  std::vector<Chart> charts = rate_charts(runs);
  if (!runs.empty()) {
    for (const LatencyName& latency : kLatencies) {
      if (auto chart = latency_figure(runs, latency)) charts.emplace_back(std::move(*chart));
    }
  }
  if (runs.size() > 1 || charts.empty()) charts.emplace_back(throughput_bars(runs, 720));
  return charts;
}

std::string serving_page(const ReportJson& report) {
  const std::vector<const ReportJson*> runs = runs_of(report);
  const ReportJson checks = all_checks(runs);
  const ReportJson& dataset = member(report, "dataset");
  const std::string model = runs.empty() ? "" : text_of(*runs.front(), "model_id");
  HtmlPage page("llmrun serve-bench",
                fmt::format("{} on {}; {}; {}", model, where(report),
                            text_of(dataset, "description"), text_of(report, "date_utc")));
  add_verdict(checks, page);
  page.table(serving_table(runs));
  if (const ReportTable table = search_table(report); !table.rows.empty()) {
    page.heading("Search for the highest rate that holds");
    const auto highest = number_of(member(report, "search"), "highest_rate");
    page.note(NoteKind::kPlain, highest && *highest > 0
                                    ? significant(*highest) + " requests/s hold the limits"
                                    : "no rate that was tried holds the limits");
    page.table(table);
  }
  if (runs.size() > 1) page.wide_chart(row_chart_svg(throughput_bars(runs, kWideChart)));
  std::vector<std::string> over_rates;
  for (const Chart& chart : rate_charts(runs)) over_rates.push_back(chart_svg(chart));
  page.charts(over_rates);
  if (!runs.empty()) {
    page.heading("Latency");
    std::vector<std::string> charts;
    for (const LatencyName& latency : kLatencies) {
      charts.push_back(svg_of(latency_figure(runs, latency)));
    }
    page.charts(charts);
    page.table(percentile_table(runs));
  }
  if (!runs.empty()) add_load(runs, page);
  if (const ReportTable table = failure_table(runs); !table.rows.empty()) {
    page.heading("Failures");
    page.table(table);
  }
  add_checks(checks, page);
  add_environment(report,
                  {{"date", text_of(report, "date_utc")},
                   {"model", model},
                   {"device", text_of(report, "device")},
                   {"processor", text_of(report, "processor")},
                   {"endpoint", text_of(report, "endpoint")},
                   {"workload", text_of(dataset, "description")},
                   {"seed", text_of(dataset, "seed")},
                   {"requests' SHA-256", text_of(dataset, "requests_sha256")},
                   {"sampling", json_text(member(report, "sampling"))},
                   {"engine", json_text(member(report, "engine"))}},
                  page);
  return page.finish();
}

}  // namespace llmrun
