#include "tools/throughput/throughput_trace.h"

#include <fmt/format.h>

#include "engine/core/json.h"
#include "tools/report/report_file.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMicroseconds = 1e6;

Json event(const std::string& name, std::size_t process, int row, double start_s, double seconds) {
  return {{"name", name},
          {"ph", "X"},
          {"pid", process},
          {"tid", row},
          {"ts", start_s * kMicroseconds},
          {"dur", seconds * kMicroseconds}};
}

Json name_event(const char* kind, std::size_t process, int row, const std::string& name) {
  return {{"name", kind}, {"ph", "M"}, {"pid", process}, {"tid", row}, {"args", {{"name", name}}}};
}

std::string step_name(const StepRecord& step) {
  if (!step.has_prefill()) return fmt::format("decode {}", step.num_decode_sequences);
  return fmt::format("prefill {} + decode {}", step.num_prefill_tokens, step.num_decode_sequences);
}

}  // namespace

void ThroughputTrace::add(const CaseMeasurement& measurement) {
  const RunMeasurement& run = measurement.runs.back();
  cases_.push_back({measurement.definition.name, run.start_s, run.steps});
}

std::string ThroughputTrace::to_jsonl() const {
  std::string text;
  for (const Case& one : cases_) {
    const std::vector<double> seconds = step_seconds(one.steps, one.start_s);
    for (std::size_t i = 0; i < one.steps.size(); ++i) {
      const StepRecord& step = one.steps[i];
      const Json line = {{"case", one.name},
                         {"step", step.step},
                         {"num_prefill_tokens", step.num_prefill_tokens},
                         {"num_decode_sequences", step.num_decode_sequences},
                         {"num_sampled_rows", step.num_sampled_rows},
                         {"num_padding_tokens", step.num_padding_tokens},
                         {"num_decode_context_tokens", step.num_decode_context_tokens},
                         {"ms", 1e3 * seconds[i]},
                         {"submitted_s", step.submitted_s - one.start_s},
                         {"collected_s", step.collected_s - one.start_s},
                         {"device_busy_ms", 1e3 * step.device_busy_s},
                         {"device_idle_ms", 1e3 * step.device_idle_s},
                         {"num_running_sequences", step.num_running_sequences},
                         {"num_waiting_sequences", step.num_waiting_sequences},
                         {"kv_blocks_used", step.kv_blocks_used},
                         {"graph", step.replayed_graph}};
      text += dump_json(line) + "\n";
    }
  }
  return text;
}

nlohmann::ordered_json ThroughputTrace::to_chrome_json() const {
  constexpr int kHostRow = 0;
  constexpr int kDeviceRow = 1;
  Json events = Json::array();
  for (std::size_t process = 0; process < cases_.size(); ++process) {
    const Case& one = cases_[process];
    events.push_back(name_event("process_name", process, kHostRow, one.name));
    events.push_back(name_event("thread_name", process, kHostRow, "step: queued to collected"));
    events.push_back(name_event("thread_name", process, kDeviceRow, "device"));
    double device_s = 0;  // the device's clock, put to the host's at the first step
    for (std::size_t i = 0; i < one.steps.size(); ++i) {
      const StepRecord& step = one.steps[i];
      const double start_s = step.submitted_s - one.start_s;
      Json host =
          event(step_name(step), process, kHostRow, start_s, step.collected_s - step.submitted_s);
      host["args"] = {{"step", step.step}, {"kv_blocks_used", step.kv_blocks_used}};
      events.push_back(std::move(host));
      if (step.device_busy_s <= 0) continue;
      device_s = i == 0 ? start_s : device_s + step.device_idle_s;
      events.push_back(event(step.replayed_graph ? "graph" : "kernels", process, kDeviceRow,
                             device_s, step.device_busy_s));
      device_s += step.device_busy_s;
    }
  }
  return {{"displayTimeUnit", "ms"}, {"traceEvents", events}};
}

void ThroughputTrace::write(const std::string& path) const {
  write_text_file(path, to_jsonl());
  write_text_file(path + ".chrome.json", dump_json(to_chrome_json()) + "\n");
}

}  // namespace llmrun
