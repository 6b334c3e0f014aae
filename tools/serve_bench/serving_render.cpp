// The report as text: vLLM's block for each run, then what it does not have.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tools/serve_bench/serving_report.h"

namespace llmrun {
namespace {

std::string row(const std::string& label, std::int64_t value) {
  return fmt::format("{:<40} {:<10}\n", label, value);
}
std::string row(const std::string& label, double value) {
  return fmt::format("{:<40} {:<10.2f}\n", label, value);
}

std::string percentile_text(double percentile) {
  return fmt::format("{:g}", percentile);
}

bool is_shown(const ServingReport& report, const std::string& name) {
  return std::find(report.shown_latencies.begin(), report.shown_latencies.end(), name) !=
         report.shown_latencies.end();
}

std::string latency_rows(const LatencyFigure& figure) {
  std::string text = fmt::format("{:-^50}\n", figure.title);
  text += row(fmt::format("Mean {} (ms):", figure.label), figure.mean_ms);
  text += row(fmt::format("Median {} (ms):", figure.label), figure.median_ms);
  for (const PercentileEstimate& one : figure.percentiles) {
    text +=
        row(fmt::format("P{} {} (ms):", percentile_text(one.percentile), figure.label), one.value);
  }
  return text;
}

std::string rate_text(double rate) {
  return std::isinf(rate) ? "inf" : fmt::format("{:g}", rate);
}

std::string first_report(const ServingMetrics& metrics) {
  return fmt::format(
      "\nTotal time: {:.2f} s\n"
      "Throughput: {:.2f} requests/s\n"
      "Average latency: {:.2f} s\n"
      "Average latency per token: {:.4f} s\n"
      "Average latency per output token: {:.4f} s\n"
      "Output tokens/s: {:.2f}\n",
      metrics.duration_s, metrics.requests_per_s, metrics.average_latency_s,
      metrics.average_latency_per_token_s, metrics.average_latency_per_output_token_s,
      metrics.output_tokens_per_s);
}

std::string bound_text(double bound) {
  return std::isinf(bound) ? "?" : fmt::format("{:.2f}", bound);
}

ReportTable interval_table(const ServingReport& report, const ServingPoint& point) {
  ReportTable table{.title =
                        "Percentiles with the 95 % interval of what they estimate (ms; ?: too "
                        "few requests to tell)",
                    .header = {"", "requests"},
                    .rows = {}};
  for (const LatencyFigure& figure : point.metrics.latencies) {
    if (!is_shown(report, figure.name) && !figure.name.ends_with("_from_send")) continue;
    std::vector<std::string> cells = {figure.label, std::to_string(figure.count)};
    for (const PercentileEstimate& one : figure.percentiles) {
      if (table.rows.empty()) table.header.push_back("P" + percentile_text(one.percentile));
      cells.push_back(
          fmt::format("{:.2f} [{}, {}]", one.value, bound_text(one.low), bound_text(one.high)));
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

std::string load_lines(const ServingReport& report, const ServingPoint& point) {
  const ServingMetrics& metrics = point.metrics;
  std::string text = "\n";
  if (metrics.scheduled_rate > 0) {
    const double off = 100 * (metrics.sent_rate / metrics.scheduled_rate - 1);
    text +=
        fmt::format("Sent: {:.3f} requests/s of {:.3f} scheduled ({:+.2f} %)\n", metrics.sent_rate,
                    metrics.scheduled_rate, std::abs(off) < 0.005 ? 0.0 : off);
  }
  text += fmt::format(
      "Concurrency: mean {:.2f}, peak {}\n"
      "Steady window (90 % of the mean concurrency): {:.2f} s to {:.2f} s, {:.0f} % of the run; "
      "{:.2f} at once, {:.2f} requests/s, {:.2f} output tokens/s\n",
      metrics.mean_concurrency, metrics.peak_concurrency, metrics.steady.start_s,
      metrics.steady.end_s, 100 * metrics.steady.share_of_run, metrics.steady.mean_concurrency,
      metrics.steady.requests_per_s, metrics.steady.output_tokens_per_s);
  if (report.has_goodput) {
    text += fmt::format("Within the goodput limits: {:.1f} % of requests\n",
                        100 * metrics.goodput_share);
  }
  if (std::abs(metrics.tokens_per_piece - 1) > 0.005) {
    text += fmt::format("Tokens per piece of an answer: {:.2f}; ITL is between pieces\n",
                        metrics.tokens_per_piece);
  }
  if (metrics.num_retries > 0) text += fmt::format("Retries: {}\n", metrics.num_retries);
  if (metrics.num_not_sent > 0) {
    text += fmt::format("Not sent, the time was over or a signal came: {}\n", metrics.num_not_sent);
  }
  for (const FailureCount& failure : metrics.failures) {
    text += fmt::format("Failed, {}: {}; the first: {}\n", failure.reason, failure.count,
                        failure.first_message);
  }
  return text;
}

std::string overhead_line(const Overhead& overhead) {
  if (overhead.num_requests == 0) return "";
  return fmt::format(
      "\nClient overhead (a null engine over loopback HTTP): {:.0f} us of CPU a request, {:.1f} us "
      "a token; {:.2f} ms a request (median; P99 {:.2f} ms), at most {:.0f} requests/s; paced "
      "{:.1f} of {:.0f} requests/s, sent late by {:.3f} ms (median; P99 {:.2f} ms)\n",
      overhead.cpu_us_per_request, overhead.cpu_us_per_token, overhead.latency_ms_p50,
      overhead.latency_ms_p99, overhead.max_requests_per_s, overhead.achieved_rate,
      overhead.paced_rate, overhead.late_ms_p50, overhead.late_ms_p99);
}

ReportTable points_table(const ServingReport& report) {
  ReportTable table{.title = "Runs (latencies in ms)",
                    .header = {"mode", "req/s asked", "req/s sent", "at once", "completed",
                               "failed", "req/s", "output tok/s", "TTFT median", "TTFT P99",
                               "TPOT median", "ITL P99", "E2EL median"},
                    .rows = {}};
  if (report.has_goodput) table.header.push_back("good req/s");
  if (report.has_goodput) table.header.push_back("good %");
  for (const ServingPoint& point : report.points) {
    const ServingMetrics& metrics = point.metrics;
    const auto last = [&](const char* name) {
      const LatencyFigure& figure = metrics.latency(name);
      return figure.percentiles.empty() ? std::string("-")
                                        : fmt::format("{:.2f}", figure.percentiles.back().value);
    };
    const auto median = [&](const char* name) {
      return fmt::format("{:.2f}", metrics.latency(name).median_ms);
    };
    std::vector<std::string> cells = {
        point.mode,
        point.ramp_up_strategy.empty()
            ? rate_text(point.request_rate)
            : fmt::format("{:g} to {:g}", point.ramp_up_start_rps, point.ramp_up_end_rps),
        metrics.scheduled_rate > 0 ? fmt::format("{:.2f}", metrics.sent_rate) : "-",
        point.max_concurrency == 0 ? "any" : std::to_string(point.max_concurrency),
        std::to_string(metrics.num_completed),
        std::to_string(metrics.num_failed),
        fmt::format("{:.2f}", metrics.requests_per_s),
        fmt::format("{:.2f}", metrics.output_tokens_per_s),
        median("ttft"),
        last("ttft"),
        median("tpot"),
        last("itl"),
        median("e2el")};
    if (report.has_goodput) cells.push_back(fmt::format("{:.2f}", metrics.goodput_per_s));
    if (report.has_goodput) cells.push_back(fmt::format("{:.1f}", 100 * metrics.goodput_share));
    table.rows.push_back(std::move(cells));
  }
  if (!report.points.empty() &&
      !report.points.front().metrics.latencies.front().percentiles.empty()) {
    const std::string top =
        "P" + percentile_text(
                  report.points.front().metrics.latencies.front().percentiles.back().percentile);
    for (std::string& name : table.header) {
      if (name.ends_with("P99")) name.replace(name.size() - 3, 3, top);
    }
  }
  return table;
}

// The first two runs that differ only in their mode, figure by figure.
std::vector<ReportTable> difference_tables(const ServingReport& report) {
  std::vector<ReportTable> tables;
  for (std::size_t i = 0; i < report.points.size(); ++i) {
    for (std::size_t k = i + 1; k < report.points.size(); ++k) {
      const ServingPoint& a = report.points[i];
      const ServingPoint& b = report.points[k];
      if (a.mode == b.mode || a.request_rate != b.request_rate ||
          a.max_concurrency != b.max_concurrency) {
        continue;
      }
      ReportTable table{.title = fmt::format("The same requests {} and {}, {} req/s", a.mode,
                                             b.mode, rate_text(a.request_rate)),
                        .header = {"", a.mode, b.mode, "difference", "%"},
                        .rows = {}};
      const auto add = [&](const std::string& name, double first, double second) {
        table.rows.push_back(
            {name, fmt::format("{:.2f}", first), fmt::format("{:.2f}", second),
             fmt::format("{:+.2f}", second - first),
             first == 0 ? "" : fmt::format("{:+.1f}", 100 * (second / first - 1))});
      };
      add("requests/s", a.metrics.requests_per_s, b.metrics.requests_per_s);
      add("output tokens/s", a.metrics.output_tokens_per_s, b.metrics.output_tokens_per_s);
      for (const char* name : {"ttft", "tpot", "itl", "e2el"}) {
        const LatencyFigure& first = a.metrics.latency(name);
        const LatencyFigure& second = b.metrics.latency(name);
        add(first.label + " mean (ms)", first.mean_ms, second.mean_ms);
        add(first.label + " median (ms)", first.median_ms, second.median_ms);
        for (std::size_t p = 0; p < first.percentiles.size(); ++p) {
          add(fmt::format("{} P{} (ms)", first.label,
                          percentile_text(first.percentiles[p].percentile)),
              first.percentiles[p].value, second.percentiles[p].value);
        }
      }
      tables.push_back(std::move(table));
    }
  }
  return tables;
}

std::string search_lines(const ServingReport& report) {
  if (report.search.empty()) return "";
  std::string text = "\nSearch:";
  for (const auto& [rate, held] : report.search) {
    text += fmt::format(" {:.3g} {}", rate, held ? "held," : "not held,");
  }
  text.pop_back();
  return text + (report.highest_rate > 0
                     ? fmt::format("\nHighest request rate that holds: {:.3g} requests/s\n",
                                   report.highest_rate)
                     : "\nNo rate that was tried holds the limits\n");
}

std::string check_lines(const ServingReport& report) {
  std::int64_t count = 0;
  std::int64_t num_noted = 0;
  std::string text;
  for (const ServingPoint& point : report.points) {
    for (const Check& check : point.checks) {
      ++count;
      if (check.status == CheckStatus::kOk) continue;
      ++num_noted;
      text += fmt::format("  {}: {}{}: {}\n", to_string(check.status),
                          report.points.size() > 1 ? point.name() + ": " : "", check.name,
                          check.message);
    }
  }
  return fmt::format("\nChecks: {} made, {} to note\n{}", count, num_noted, text);
}

}  // namespace

std::string ServingPoint::name() const {
  std::string text = mode + ", " + rate_text(request_rate) + " req/s";
  if (max_concurrency > 0) text += fmt::format(", {} at once", max_concurrency);
  return text;
}

bool ServingReport::is_valid() const {
  return std::none_of(points.begin(), points.end(), [](const ServingPoint& point) {
    return std::any_of(point.checks.begin(), point.checks.end(),
                       [](const Check& check) { return check.status == CheckStatus::kInvalid; });
  });
}

std::string serving_block(const ServingReport& report, const ServingPoint& point) {
  const ServingMetrics& metrics = point.metrics;
  std::string text = fmt::format("{:=^50}\n", " Serving Benchmark Result ");
  text += row("Successful requests:", metrics.num_completed);
  text += row("Failed requests:", metrics.num_failed);
  if (point.max_concurrency > 0) {
    text += row("Maximum request concurrency:", std::int64_t{point.max_concurrency});
  }
  if (std::isfinite(point.request_rate)) {
    text += row("Request rate configured (RPS):", point.request_rate);
  }
  text += row("Benchmark duration (s):", metrics.duration_s);
  text += row("Total input tokens:", metrics.num_input_tokens);
  text += row("Total generated tokens:", metrics.num_output_tokens);
  text += row("Request throughput (req/s):", metrics.requests_per_s);
  if (report.has_goodput) text += row("Request goodput (req/s):", metrics.goodput_per_s);
  text += row("Output token throughput (tok/s):", metrics.output_tokens_per_s);
  text += row("Peak output token throughput (tok/s):", metrics.peak_output_tokens_per_s);
  text += row("Peak concurrent requests:", static_cast<double>(metrics.peak_concurrency));
  text += row("Total token throughput (tok/s):", metrics.total_tokens_per_s);
  for (const LatencyFigure& figure : metrics.latencies) {
    if (is_shown(report, figure.name)) text += latency_rows(figure);
  }
  return text + std::string(50, '=') + "\n";
}

std::string render_serving_text(const ServingReport& report) {
  std::string text;
  for (const ServingPoint& point : report.points) {
    if (report.points.size() > 1) text += fmt::format("\n{}\n", point.name());
    text += serving_block(report, point);
    if (report.has_first_report) text += first_report(point.metrics);
    text += load_lines(report, point);
    text += text_table(interval_table(report, point));
  }
  if (report.points.size() > 1) text += text_table(points_table(report));
  for (const ReportTable& table : difference_tables(report)) text += text_table(table);
  text += search_lines(report);
  text += overhead_line(report.overhead);
  text += "\nDefinitions:";
  if (!report.points.empty()) {
    for (const LatencyFigure& figure : report.points.front().metrics.latencies) {
      if (is_shown(report, figure.name))
        text += fmt::format(" {}: {};", figure.label, figure.definition);
    }
  }
  text.back() = '\n';
  return text + check_lines(report);
}

std::string render_serving_markdown(const ServingReport& report) {
  std::string text = fmt::format("# llmrun serve-bench\n\n`{}`\n\n", report.command_line);
  if (!report.is_valid()) {
    text += "**INVALID: these figures must not be used; see the checks**\n\n";
  }
  text += fmt::format("- {}\n- model: {}, {}\n- processor: {}\n- workload: {}\n", report.date,
                      report.model, report.device.empty() ? report.endpoint : report.device,
                      report.processor, report.workload_description);
  text += markdown_table(points_table(report));
  for (const ServingPoint& point : report.points) {
    ReportTable table = interval_table(report, point);
    table.title = point.name() + ": " + table.title;
    text += markdown_table(table);
  }
  for (const ReportTable& table : difference_tables(report)) text += markdown_table(table);
  text += "\n## Notes\n\n```\n" +
          (search_lines(report) + overhead_line(report.overhead) + check_lines(report)).substr(1) +
          "```\n";
  return text;
}

}  // namespace llmrun
