// What llmrun writes: `throughput`, and what other commands write in the same form.
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/compare/benchmark_run.h"

namespace llmrun {
namespace {

constexpr std::int64_t kNewestSchema = 1;

bool is_higher_better(const std::string& name, const std::string& unit) {
  return unit.find("/s") != std::string::npos || name.find("_per_s") != std::string::npos ||
         name.find("share") != std::string::npos || name.find("accuracy") != std::string::npos;
}

// A figure of the "metrics" list; without samples when it was not measured.
BenchmarkFigure read_metric(const JsonObject& json) {
  BenchmarkFigure figure{.name = json.get_string("name"),
                         .unit = json.find_string("unit").value_or(""),
                         .samples = {}};
  figure.higher_is_better = is_higher_better(figure.name, figure.unit);
  if (const nlohmann::json* samples = json.find_array("samples")) {
    for (const nlohmann::json& sample : *samples) {
      if (!sample.is_number()) json.fail("samples", "must be a list of numbers");
      figure.samples.push_back(sample.get<double>());
    }
  } else if (const auto mean = json.find_float("mean", -1e300, 1e300)) {
    figure.samples = {*mean};
  }
  return figure;
}

bool is_positive(const BenchmarkFigure& figure) {
  for (const double sample : figure.samples) {
    if (!(sample > 0) || !std::isfinite(sample)) return false;
  }
  return !figure.samples.empty();
}

void read_figures(const JsonObject& one, const char* key, std::vector<BenchmarkFigure>& figures) {
  const nlohmann::json* list = one.find_array(key);
  if (list == nullptr) return;
  for (std::size_t i = 0; i < list->size(); ++i) {
    const JsonObject item((*list)[i], fmt::format("{}: {}[{}]", one.place(), key, i),
                          ErrorKind::kInput);
    BenchmarkFigure figure = read_metric(item);
    if (is_positive(figure)) figures.push_back(std::move(figure));
  }
}

// The checks that forbid the use of a case's figures.
std::vector<std::string> invalid_checks(const JsonObject& json, const std::string& case_name) {
  std::vector<std::string> invalid;
  const nlohmann::json* checks = json.find_array("checks");
  if (checks == nullptr) return invalid;
  for (const nlohmann::json& value : *checks) {
    const JsonObject check(value, json.place() + ": checks", ErrorKind::kInput);
    const std::string of = check.find_string("case").value_or("");
    if (check.get_string("status") != "INVALID" || (!of.empty() && of != case_name)) continue;
    invalid.push_back(check.get_string("name") + ": " + check.find_string("message").value_or(""));
  }
  return invalid;
}

BenchmarkRun shared_part(const JsonObject& json) {
  BenchmarkRun run;
  run.tool = "llmrun";
  run.workload.kind = json.get_string("command");
  if (const auto model = json.find_object("model")) {
    run.model = model->find_string("name").value_or("");
    run.dtype = model->find_string("dtype").value_or("");
  }
  if (const auto device = json.find_object("device")) {
    run.device = device->find_string("description").value_or("");
    if (device->find_string("kind") == "cpu") {
      run.device = device->find_string("processor").value_or("") + ", " + run.device;
    }
  }
  if (const auto dataset = json.find_object("dataset")) {
    run.workload.sha256 = dataset->find_string("requests_sha256").value_or("");
  }
  return run;
}

BenchmarkRun read_case(const JsonObject& json, const JsonObject& one) {
  BenchmarkRun run = shared_part(json);
  run.name = one.find_string("name").value_or("");
  run.workload.num_requests = one.find_int("num_requests", 0, kMaxCount).value_or(-1);
  run.workload.num_prompt_tokens = one.find_int("num_prompt_tokens", 0, kMaxCount).value_or(-1);
  run.workload.num_output_tokens = one.find_int("num_output_tokens", 0, kMaxCount).value_or(-1);
  read_figures(one, "metrics", run.figures);
  read_figures(one, "latencies", run.figures);
  run.invalid = invalid_checks(json, run.name);
  if (run.figures.empty()) {
    throw Error(ErrorKind::kInput, one.place() + ": has no measured \"metrics\"");
  }
  return run;
}

}  // namespace

std::vector<BenchmarkRun> llmrun_runs(const nlohmann::json& value, const std::string& place) {
  const JsonObject json(value, place, ErrorKind::kInput);
  const std::int64_t schema = json.get_int("schema_version", 1, kMaxCount);
  if (schema > kNewestSchema) {
    json.fail("schema_version", fmt::format("is {}; this llmrun reads up to {}: use a newer one",
                                            schema, kNewestSchema));
  }
  std::vector<BenchmarkRun> runs;
  if (const auto one = json.find_object("case")) {
    runs.push_back(read_case(json, *one));
  } else if (const nlohmann::json* cases = json.find_array("cases")) {
    for (std::size_t i = 0; i < cases->size(); ++i) {
      const JsonObject item((*cases)[i], fmt::format("{}: cases[{}]", place, i), ErrorKind::kInput);
      runs.push_back(read_case(json, item));
    }
  } else {
    // Commands that measure one thing also write the keys of vLLM's benchmarks.
    BenchmarkRun run = other_tool_run(value, place);
    BenchmarkRun shared = shared_part(json);
    shared.workload.load = run.workload.load;
    shared.workload.num_requests = run.workload.num_requests;
    shared.workload.num_prompt_tokens = run.workload.num_prompt_tokens;
    shared.workload.num_output_tokens = run.workload.num_output_tokens;
    shared.figures = std::move(run.figures);
    shared.invalid = invalid_checks(json, "");
    if (shared.model.empty()) shared.model = run.model;
    runs.push_back(std::move(shared));
  }
  return runs;
}

}  // namespace llmrun
