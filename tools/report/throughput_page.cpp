// The page of `llmrun throughput`.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/number_text.h"
#include "tools/report/report_page.h"
#include "tools/report/report_parts.h"

namespace llmrun {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;

// A ladder of --ablation: its cases are levels.
bool is_ladder(const ReportJson& report) {
  const ReportJson& cases = list_of(report, "cases");
  return cases.size() > 1 && text_of(cases[0], "name") == "L0";
}

const ReportJson& metric_of(const ReportJson& one, const std::string& name) {
  static const ReportJson kNull;
  for (const ReportJson& metric : list_of(one, "metrics")) {
    if (text_of(metric, "name") == name) return metric;
  }
  return kNull;
}

std::optional<double> mean_of(const ReportJson& one, const std::string& name) {
  return number_of(metric_of(one, name), "mean");
}

const ReportJson& comparison_of(const ReportJson& report, const std::string& name) {
  static const ReportJson kNull;
  for (const ReportJson& comparison : list_of(report, "comparisons")) {
    if (text_of(comparison, "case") == name) return comparison;
  }
  return kNull;
}

bool is_invalid(const ReportJson& report, const std::string& name) {
  for (const ReportJson& check : list_of(report, "checks")) {
    const std::string of = text_of(check, "case");
    if (text_of(check, "status") == "INVALID" && (of.empty() || of == name)) return true;
  }
  return false;
}

std::string rate_text(const ReportJson& metric) {
  const auto mean = number_of(metric, "mean");
  if (!mean) return "";
  const auto half_width = number_of(metric, "ci95_half_width");
  return half_width ? fmt::format("{} \u00b1 {}", significant(*mean), significant(*half_width))
                    : significant(*mean);
}

std::string workload_text(const ReportJson& report) {
  const ReportJson& dataset = member(report, "dataset");
  return fmt::format("{}: {}", count_text(dataset, "num_requests", "request"),
                     text_of(dataset, "description"));
}

// "H200: shape:qwen2-7b, 25 requests: ...".
std::string what_ran(const ReportJson& report) {
  return fmt::format("{} on {}", text_of(member(report, "model"), "name"),
                     text_of(member(report, "device"), "description"));
}

RowChart rate_bars(const ReportJson& report, int width) {
  const bool ladder = is_ladder(report);
  RowChart chart{
      .text = {.title = ladder ? "What each part brings" : "Throughput", .note = what_ran(report)},
      .axis = "requests/s; whiskers: 95 % interval of the mean over the repeats",
      .rows = {},
      .width = width};
  if (number_of(report, "repeats").value_or(0) < 2) chart.axis = "requests/s, one run";
  std::optional<double> before;
  int color = 0;
  for (const ReportJson& one : list_of(report, "cases")) {
    const ReportJson& metric = metric_of(one, "requests_per_s");
    const std::string name = text_of(one, "name");
    const double mean = number_of(metric, "mean").value_or(std::nan(""));
    ChartRow row{.label = name,
                 .value = mean,
                 .value_text = rate_text(metric),
                 .color = ladder ? 0 : color++,
                 .is_marked = is_invalid(report, name)};
    if (const auto half_width = number_of(metric, "ci95_half_width")) {
      row.low = mean - *half_width;
      row.high = mean + *half_width;
    }
    if (ladder) {
      row.label += fmt::format(": {}", text_of(one, "description"));
      if (before && *before > 0)
        row.value_text += fmt::format(" ({:+.0f} %)", std::round(100 * (mean / *before - 1)) + 0.0);
      before = mean;
    } else if (const auto ratio = number_of(comparison_of(report, name), "requests_per_s_ratio")) {
      row.value_text += fmt::format(" ({:.2f} \u00d7)", *ratio);
    }
    if (row.is_marked) row.value_text += " INVALID";
    chart.rows.push_back(std::move(row));
  }
  return chart;
}

// Where prefill and decode stand below the limits measured in the same run.
std::string roofline_chart(const ReportJson& report) {
  const ReportJson& limits = member(member(report, "device"), "limits");
  const double bandwidth = number_of(limits, "read_bytes_per_s").value_or(0);
  const double multiply = number_of(limits, "multiply_flops_per_s").value_or(0);
  if (bandwidth <= 0 || multiply <= 0) return "";
  const double ridge = multiply / bandwidth;
  XyChart chart{.text = {.title = "Roofline",
                         .note = "achieved in prefill and decode steps, with the share of the "
                                 "nearer limit; limits as measured in this run"},
                .x = {.label = "useful operations per byte that must be read (FLOP/byte, log)",
                      .kind = ScaleKind::kLog},
                .y = {.label = "FLOP/s, log", .kind = ScaleKind::kLog},
                .series = {},
                .marks = {{ridge, fmt::format("{} FLOP/byte", significant(ridge))}},
                .width = kWideChart,
                .height = 420};
  ValueRange intensities;
  intensities.add(ridge);
  int color = 0;
  for (const ReportJson& one : list_of(report, "cases")) {
    ChartSeries series{
        .name = text_of(one, "name"), .kind = SeriesKind::kPoints, .points = {}, .color = color++};
    for (const char* phase : {"decode", "prefill"}) {
      const double mfu = mean_of(one, fmt::format("{}_mfu_percent", phase)).value_or(0) / 100;
      const double mbu = mean_of(one, fmt::format("{}_mbu_percent", phase)).value_or(0) / 100;
      if (mfu <= 0 || mbu <= 0) continue;
      series.points.push_back({mfu * multiply / (mbu * bandwidth), mfu * multiply});
      series.labels.push_back(
          fmt::format("{} {} {:.0f} %", series.name, phase, 100 * std::max(mfu, mbu)));
      intensities.add(series.points.back().x);
    }
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  if (chart.series.empty()) return "";
  const double first = intensities.low() / 3;
  const double last = intensities.high() * 3;
  chart.series.push_back(
      {.name =
           fmt::format("limit: {}, {}", unit_text(bandwidth, "B/s"), unit_text(multiply, "FLOP/s")),
       .points = {{first, first * bandwidth}, {ridge, multiply}, {last, multiply}},
       .is_thin = true});
  return xy_chart_svg(chart);
}

std::vector<XyChart> latency_charts(const ReportJson& report) {
  const ReportJson& cases = list_of(report, "cases");
  std::vector<XyChart> charts;
  if (cases.empty()) return charts;
  for (const ReportJson& first : list_of(cases[0], "latencies")) {
    const std::string name = text_of(first, "name");
    std::vector<LatencyCurve> curves;
    for (const ReportJson& one : cases) {
      for (const ReportJson& latency : list_of(one, "latencies")) {
        if (text_of(latency, "name") != name) continue;
        curves.push_back(latency_curve(text_of(one, "name"), latency));
      }
    }
    std::string title = name.substr(0, name.rfind("_ms"));
    for (char& c : title) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    if (title == "QUEUE") title = "Queue";
    if (auto chart = latency_chart(title, "", curves)) charts.push_back(std::move(*chart));
  }
  return charts;
}

ReportTable throughput_table(const ReportJson& report) {
  ReportTable table{.title = "",
                    .header = {is_ladder(report) ? "level" : "backend", "requests/s",
                               "output tokens/s", "total tokens/s", "seconds", "against",
                               "share of the limit", "TTFT p50 ms", "TPOT p50 ms"},
                    .rows = {}};
  for (const ReportJson& one : list_of(report, "cases")) {
    const std::string name = text_of(one, "name");
    const ReportJson& comparison = comparison_of(report, name);
    const auto ratio = number_of(comparison, "requests_per_s_ratio");
    std::string ttft, tpot;
    for (const ReportJson& latency : list_of(one, "latencies")) {
      const std::string latency_name = text_of(latency, "name");
      if (latency_name == "ttft_ms") ttft = figure_text(number_of(latency, "p50"));
      if (latency_name == "tpot_ms") tpot = figure_text(number_of(latency, "p50"));
    }
    const auto share = mean_of(one, "ideal_share_percent");
    table.rows.push_back(
        {name + (is_invalid(report, name) ? " (INVALID)" : ""),
         rate_text(metric_of(one, "requests_per_s")),
         figure_text(mean_of(one, "output_tokens_per_s")),
         figure_text(mean_of(one, "total_tokens_per_s")), figure_text(mean_of(one, "elapsed_s")),
         ratio ? fmt::format("{:.2f} \u00d7 {}", *ratio, text_of(comparison, "baseline"))
               : "baseline",
         share ? fmt::format("{:.1f} %", *share) : "", ttft, tpot});
  }
  return table;
}

ReportTable latency_table(const ReportJson& report) {
  ReportTable table{.title = "",
                    .header = {"ms", "of", "mean", "p50", "p90", "p95", "p99", "max", "samples"},
                    .rows = {}};
  const ReportJson& cases = list_of(report, "cases");
  if (cases.empty()) return table;
  for (const ReportJson& first : list_of(cases[0], "latencies")) {
    const std::string name = text_of(first, "name");
    for (const ReportJson& one : cases) {
      for (const ReportJson& latency : list_of(one, "latencies")) {
        if (text_of(latency, "name") != name) continue;
        std::vector<std::string> row = {name, text_of(one, "name")};
        for (const char* key : {"mean", "p50", "p90", "p95", "p99", "max", "count"}) {
          row.push_back(figure_text(number_of(latency, key)));
        }
        table.rows.push_back(std::move(row));
      }
    }
  }
  return table;
}

ReportTable metric_table(const ReportJson& report) {
  ReportTable table{.title = "", .header = {"figure"}, .rows = {}};
  const ReportJson& cases = list_of(report, "cases");
  for (const ReportJson& one : cases) table.header.push_back(text_of(one, "name"));
  table.header.emplace_back("unit");
  table.header.emplace_back("definition");
  if (cases.empty()) return table;
  for (const ReportJson& metric : list_of(cases[0], "metrics")) {
    const std::string name = text_of(metric, "name");
    std::vector<std::string> row = {name};
    const bool in_bytes = text_of(metric, "unit") == "bytes";
    bool is_measured = false;
    for (const ReportJson& one : cases) {
      const auto mean = mean_of(one, name);
      row.push_back(mean && in_bytes ? figure_text(*mean / kMiB) : figure_text(mean));
      is_measured |= mean.has_value();
    }
    row.push_back(in_bytes ? "MiB" : text_of(metric, "unit"));
    row.push_back(text_of(metric, "definition"));
    if (is_measured) table.rows.push_back(std::move(row));
  }
  return table;
}

ReportTable output_table(const ReportJson& report) {
  ReportTable table{
      .title = "",
      .header = {"", "output digest", "equal requests", "equal tokens", "first difference"},
      .rows = {}};
  for (const ReportJson& one : list_of(report, "cases")) {
    const std::string name = text_of(one, "name");
    std::vector<std::string> row = {name, text_of(one, "output_digest").substr(0, 16), "", "", ""};
    const ReportJson& comparison = comparison_of(report, name);
    if (comparison.is_object()) {
      row[2] = percent_text(number_of(comparison, "same_requests_share"));
      row[3] = percent_text(number_of(comparison, "same_tokens_share"));
      const ReportJson& difference = member(comparison, "first_difference");
      row[4] = difference.is_object()
                   ? fmt::format("request {}, token {}", text_of(difference, "request"),
                                 text_of(difference, "token"))
                   : "none";
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

std::vector<Chart> throughput_charts(const ReportJson& report) {
  std::vector<Chart> charts = {rate_bars(report, is_ladder(report) ? kWideChart : 720)};
  for (XyChart& chart : latency_charts(report)) {
    if (chart.text.title != "Queue") charts.emplace_back(std::move(chart));
  }
  return charts;
}

std::string throughput_page(const ReportJson& report) {
  const ReportJson& checks = list_of(report, "checks");
  const ReportJson& device = member(report, "device");
  const ReportJson& model = member(report, "model");
  HtmlPage page("llmrun throughput", fmt::format("{}; {}; {}", what_ran(report),
                                                 workload_text(report), text_of(report, "date")));
  add_verdict(checks, page);
  page.table(throughput_table(report));
  page.paragraph(
      "Share of the limit: the time that an ideal schedule's steps need at the bandwidth and the "
      "multiply rate measured in this run, over the time taken.");
  page.wide_chart(row_chart_svg(rate_bars(report, kWideChart)));
  page.wide_chart(roofline_chart(report));
  page.heading("Latency");
  std::vector<std::string> latencies;
  for (const XyChart& chart : latency_charts(report)) latencies.push_back(xy_chart_svg(chart));
  page.charts(latencies);
  page.table(latency_table(report));
  add_case_steps("The last repeat, step by step", report, page);
  page.heading("Outputs (equal seeds)");
  page.table(output_table(report));
  add_checks(checks, page);
  page.heading("All figures and their definitions (means over the repeats)");
  page.table(metric_table(report));
  const ReportJson& limits = member(device, "limits");
  add_environment(
      report,
      {{"date", text_of(report, "date")},
       {"device", text_of(device, "description")},
       {"processor", text_of(device, "processor")},
       {"limits measured",
        fmt::format("{} read, {} {}",
                    unit_text(number_of(limits, "read_bytes_per_s").value_or(0), "B/s"),
                    unit_text(number_of(limits, "multiply_flops_per_s").value_or(0), "FLOP/s"),
                    text_of(limits, "multiply_dtype"))},
       {"model", fmt::format("{}, {}, KV cache {}", text_of(model, "name"), text_of(model, "dtype"),
                             text_of(model, "kv_cache_dtype"))},
       {"workload", workload_text(report)},
       {"seed", text_of(member(report, "dataset"), "seed")},
       {"requests' SHA-256", text_of(member(report, "dataset"), "requests_sha256")},
       {"sampling", json_text(member(report, "sampling"))},
       {"repeats", text_of(report, "repeats")},
       {"percentiles", text_of(report, "percentiles")}},
      page);
  return page.finish();
}

}  // namespace llmrun
