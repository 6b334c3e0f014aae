#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "tools/compare/benchmark_run.h"

namespace llmrun {
namespace {

// Python's json writes the same key twice in some tools' metadata; the last one counts there.
constexpr JsonLimits kLimits{
    .max_depth = 64, .reject_duplicate_keys = false, .error_kind = ErrorKind::kInput};

bool is_repeat(const BenchmarkRun& a, const BenchmarkRun& b) {
  return a.tool == b.tool && a.name == b.name && a.model == b.model && a.dtype == b.dtype &&
         a.device == b.device && a.sampling == b.sampling &&
         a.workload.sha256 == b.workload.sha256 && a.workload.to_text() == b.workload.to_text();
}

void add_samples(BenchmarkRun& run, const BenchmarkRun& repeat) {
  for (const BenchmarkFigure& figure : repeat.figures) {
    const auto found =
        std::find_if(run.figures.begin(), run.figures.end(),
                     [&](const BenchmarkFigure& other) { return other.name == figure.name; });
    if (found == run.figures.end()) {
      run.figures.push_back(figure);
    } else {
      found->samples.insert(found->samples.end(), figure.samples.begin(), figure.samples.end());
    }
  }
  run.accuracies.insert(run.accuracies.end(), repeat.accuracies.begin(), repeat.accuracies.end());
  run.invalid.insert(run.invalid.end(), repeat.invalid.begin(), repeat.invalid.end());
}

void add_runs(std::vector<BenchmarkRun>& runs, std::vector<BenchmarkRun> more) {
  for (BenchmarkRun& run : more) {
    const auto found = std::find_if(runs.begin(), runs.end(),
                                    [&](const BenchmarkRun& one) { return is_repeat(one, run); });
    if (found == runs.end()) {
      runs.push_back(std::move(run));
    } else {
      add_samples(*found, run);
    }
  }
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

// JSON lines: more than one line, and the first is a value of its own.
bool has_json_lines(std::string_view text) {
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos || is_blank(text.substr(end + 1))) return false;
  std::string error;
  return try_parse_json(text.substr(0, end), kLimits, error).has_value();
}

void read_lines(std::string_view text, const std::string& path, std::vector<BenchmarkRun>& runs) {
  for (std::int64_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (is_blank(line)) continue;
    const std::string place = fmt::format("{}:{}", path, number);
    add_runs(runs, benchmark_runs(parse_json(line, place, kLimits), place));
  }
}

}  // namespace

std::vector<BenchmarkRun> read_benchmark_file(const std::string& path) {
  const std::string text = read_file(path, kMaxBenchmarkFileBytes, ErrorKind::kInput);
  if (is_blank(text) || text.find_first_not_of(" \t\r\n") == std::string::npos) {
    throw Error(ErrorKind::kInput, path + ": is empty; a benchmark's JSON is expected");
  }
  std::vector<BenchmarkRun> runs;
  if (has_json_lines(text)) {
    read_lines(text, path, runs);
  } else {
    add_runs(runs, benchmark_runs(parse_json(text, path, kLimits), path));
  }
  for (BenchmarkRun& run : runs) run.file = path;
  if (runs.empty()) throw Error(ErrorKind::kInput, path + ": holds no runs");
  return runs;
}

std::vector<BenchmarkRun> benchmark_runs(const nlohmann::json& value, const std::string& place) {
  std::vector<BenchmarkRun> runs;
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      add_runs(runs, benchmark_runs(value[i], fmt::format("{}[{}]", place, i)));
    }
    return runs;
  }
  if (!value.is_object()) {
    throw Error(ErrorKind::kInput, fmt::format("{}: a benchmark's JSON object is expected, not {}",
                                               place, describe_json(value)));
  }
  if (value.contains("schema_version") && value.contains("command")) {
    return value.at("command") == "eval" ? evaluation_runs(value, place)
                                         : llmrun_runs(value, place);
  }
  runs.push_back(other_tool_run(value, place));
  return runs;
}

const BenchmarkFigure* BenchmarkRun::find(std::string_view wanted) const {
  const auto found = std::find_if(figures.begin(), figures.end(),
                                  [&](const BenchmarkFigure& one) { return one.name == wanted; });
  return found == figures.end() ? nullptr : &*found;
}

std::string BenchmarkWorkload::to_text() const {
  std::string text = kind;
  if (num_requests >= 0) text += ", " + counted(num_requests, "request");
  if (num_prompt_tokens >= 0) text += ", " + counted(num_prompt_tokens, "prompt token");
  if (num_output_tokens >= 0) text += ", " + counted(num_output_tokens, "output token");
  if (!load.empty()) text += ", " + load;
  return text;
}

}  // namespace llmrun
