// What `llmrun eval` writes.
#include <limits>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tools/compare/benchmark_run.h"

namespace llmrun {
namespace {

constexpr std::int64_t kNewestEvaluationSchema = 1;

std::string prompt_text(const JsonObject& json, const std::string& rule) {
  const JsonObject dataset = json.get_object("dataset");
  std::string text =
      fmt::format("{} of {}", counted(dataset.get_int("num_questions", 0, kMaxCount), "question"),
                  dataset.find_string("task").value_or("?"));
  if (const auto prompt = json.find_object("prompt")) {
    text += fmt::format(", {} as a {}, {}-shot", prompt->find_string("style").value_or("?"),
                        prompt->find_bool("chat").value_or(false) ? "chat" : "completion",
                        prompt->find_int("num_fewshot", 0, kMaxCount).value_or(0));
  }
  return fmt::format("{}, by {}", text, rule);
}

// What the texts depend on beside the prompt.
nlohmann::json sampling_of(const JsonObject& json) {
  nlohmann::json sampling = nlohmann::json::object();
  if (const nlohmann::json* told = json.find("sampling"); told != nullptr && told->is_object()) {
    sampling = *told;
  }
  sampling["repetitions"] = json.find_int("repetitions", 1, kMaxCount).value_or(1);
  sampling["early_stop"] = json.find_bool("early_stop").value_or(false);
  return sampling;
}

void add_rate(const JsonObject& one, const char* name, const char* unit, BenchmarkRun& run) {
  const auto rate = one.find_float(name, 0, 1e300);
  if (rate && *rate > 0) run.figures.push_back({name, unit, true, {*rate}});
}

BenchmarkRun read_evaluation(const JsonObject& json, const JsonObject& one) {
  const std::string& rule = json.get_string("main_rule");
  BenchmarkRun run;
  run.tool = "llmrun";
  run.name = one.find_string("name").value_or("");
  run.workload.kind = "eval";
  run.workload.sha256 = json.get_object("dataset").find_string("sha256").value_or("");
  run.workload.load = prompt_text(json, rule);
  run.sampling = sampling_of(json);
  if (const auto model = json.find_object("model")) {
    run.model = model->find_string("name").value_or("");
    run.dtype = model->find_string("dtype").value_or("");
  }
  if (const auto device = json.find_object("device")) {
    run.device = fmt::format("{}, {}", device->find_string("description").value_or(""),
                             device->find_string("processor").value_or(""));
  }
  BenchmarkAccuracy accuracy;
  accuracy.share = one.get_object("scores").get_object(rule).get_float("mean", 0, 1);
  accuracy.num_questions = one.get_int("num_questions", 0, kMaxCount);
  if (const nlohmann::json* scores = one.find_array("question_scores")) {
    for (const nlohmann::json& score : *scores) {
      if (!score.is_number()) {  // not answered: what follows would be paired with other questions
        accuracy.question_scores.clear();
        break;
      }
      accuracy.question_scores.push_back(score.get<double>());
    }
  }
  run.accuracies.push_back(std::move(accuracy));
  add_rate(one, "questions_per_s", "questions/s", run);
  add_rate(one, "output_tokens_per_s", "tokens/s", run);
  if (one.find_bool("partial").value_or(false)) {
    run.invalid.emplace_back("stopped before all questions were answered");
  }
  if (const auto failed = one.find_int("num_failed", 0, kMaxCount); failed && *failed > 0) {
    run.invalid.push_back(counted(*failed, "sample") + " failed");
  }
  return run;
}

}  // namespace

std::vector<BenchmarkRun> evaluation_runs(const nlohmann::json& value, const std::string& place) {
  const JsonObject json(value, place, ErrorKind::kInput);
  if (const auto schema = json.get_int("schema_version", 1, kMaxCount);
      schema > kNewestEvaluationSchema) {
    json.fail("schema_version", fmt::format("is {}; this llmrun reads up to {}: use a newer one",
                                            schema, kNewestEvaluationSchema));
  }
  std::vector<BenchmarkRun> runs;
  if (const auto one = json.find_object("case")) {
    runs.push_back(read_evaluation(json, *one));
    return runs;
  }
  const nlohmann::json& cases = json.get_array("cases");
  for (std::size_t i = 0; i < cases.size(); ++i) {
    runs.push_back(read_evaluation(
        json, JsonObject(cases[i], fmt::format("{}: cases[{}]", place, i), ErrorKind::kInput)));
  }
  return runs;
}

}  // namespace llmrun
