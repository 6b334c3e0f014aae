// The forms of an EvalReport that programs read.
#include <cmath>

#include <fmt/format.h>

#include "engine/core/json.h"
#include "engine/core/version.h"
#include "tools/eval/eval_render.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Score& score) {
  return {{"mean", score.mean}, {"stderr", score.standard_error}};
}

// lm-eval's names: "metric,filter".
Json results_json(const EvalReport& report, const EvalCaseReport& one) {
  Json task = {{"alias", report.task}};
  for (const RuleScore& score : one.scores) {
    task[fmt::format("exact_match,{}", to_string(score.rule))] = score.accuracy.mean;
    task[fmt::format("exact_match_stderr,{}", to_string(score.rule))] =
        score.accuracy.standard_error;
  }
  return {{report.task, std::move(task)}};
}

Json to_json(const EvalReport& report, const EvalCaseReport& one) {
  Json json = {{"name", one.name},
               {"backend", one.backend},
               {"max_num_seqs", one.max_num_seqs},
               {"flags", one.flags},
               {"load_s", one.load_s},
               {"warm_up", {{"requests", one.num_warm_up_requests}, {"seconds", one.warm_up_s}}},
               {"elapsed_s", one.elapsed_s},
               {"questions_per_s", one.questions_per_s()},
               {"output_tokens_per_s", one.output_tokens_per_s()},
               {"speed_up", one.speed_up ? Json(*one.speed_up) : Json(nullptr)},
               {"baseline", one.baseline},
               {"num_questions", one.num_questions},
               {"partial", one.is_partial},
               {"num_resumed", one.num_resumed},
               {"num_samples", one.num_samples},
               {"num_failed", one.num_failed},
               {"num_cut_by_max_tokens", one.num_cut},
               {"num_without_answer", one.num_without_answer},
               {"num_left_out_by_early_stop", one.num_left_out},
               {"num_prompt_tokens", one.num_prompt_tokens},
               {"num_output_tokens", one.num_output_tokens},
               {"scores", Json::object()},
               {"results", results_json(report, one)}};
  for (const RuleScore& score : one.scores) {
    Json entry = to_json(score.accuracy);
    entry["wilson95"] = {score.interval.low, score.interval.high};
    json["scores"][to_string(score.rule)] = std::move(entry);
  }
  if (one.majority) {
    json[fmt::format("maj@{}", report.repetitions)] = to_json(*one.majority);
  }
  if (!one.repeated.empty()) {
    json["repeated"] = Json::array();
    for (const RepeatedScore& score : one.repeated) {
      json["repeated"].push_back(
          {{"k", score.k}, {"pass", to_json(score.pass)}, {"majority", to_json(score.majority)}});
    }
  }
  if (!one.groups.empty()) {
    json["groups"] = Json::object();
    for (const GroupScore& group : one.groups) {
      json["groups"][group.group] = {{"num_questions", group.num_questions},
                                     {"accuracy", group.accuracy}};
    }
  }
  json["question_scores"] = Json::array();
  for (const std::optional<double>& score : one.question_scores) {
    json["question_scores"].push_back(score ? Json(std::round(*score * 1e4) / 1e4) : Json(nullptr));
  }
  if (!one.timeline.empty()) {
    json["timeline"] = timeline_json(one.timeline, true);
    json["decode_batches"] = histogram_json(one.decode_batches);
  }
  return json;
}

Json to_json(const EvalComparison& comparison) {
  Json json = {{"case", comparison.case_name},
               {"baseline", comparison.baseline},
               {"num_samples", comparison.num_samples},
               {"num_equal_texts", comparison.num_samples - std::ssize(comparison.differences)},
               {"num_right_only_here", comparison.num_right_only_here},
               {"num_right_only_there", comparison.num_right_only_there},
               {"p_value", comparison.p_value},
               {"differences", Json::array()}};
  for (const SampleDifference& one : comparison.differences) {
    json["differences"].push_back({{"doc_id", one.question},
                                   {"line", one.line},
                                   {"sample", one.sample},
                                   {"byte", one.position},
                                   {"text", one.text},
                                   {"baseline_text", one.baseline_text},
                                   {"answer", one.answer},
                                   {"baseline_answer", one.baseline_answer},
                                   {"right", one.right},
                                   {"baseline_right", one.baseline_right}});
  }
  return json;
}

Json header_json(const EvalReport& report) {
  return {{"schema_version", kEvalSchemaVersion},
          {"command", "eval"},
          {"command_line", report.command_line},
          {"date", report.date},
          {"build",
           {{"version", kVersion},
            {"git_commit", kGitCommit},
            {"compiler", kCompiler},
            {"build_type", kBuildType}}},
          {"device", {{"description", report.device}, {"processor", report.processor}}},
          {"model", {{"name", report.model}, {"dtype", report.dtype}}},
          {"dataset",
           {{"task", report.task},
            {"path", report.path},
            {"sha256", report.file_sha256},
            {"num_questions", report.num_questions}}},
          {"prompt",
           {{"style", report.prompt},
            {"chat", report.is_chat},
            {"num_fewshot", report.num_fewshot},
            {"fewshot_file", report.fewshot_path}}},
          {"sampling", report.sampling},
          {"repetitions", report.repetitions},
          {"early_stop", report.early_stop},
          {"main_rule", to_string(report.rule)},
          {"valid", !report.was_stopped}};
}

}  // namespace

nlohmann::ordered_json render_json(const EvalReport& report) {
  Json json = header_json(report);
  if (!report.cases.empty()) json["results"] = results_json(report, report.cases.front());
  json["cases"] = Json::array();
  for (const EvalCaseReport& one : report.cases) json["cases"].push_back(to_json(report, one));
  json["comparisons"] = Json::array();
  for (const EvalComparison& one : report.comparisons) json["comparisons"].push_back(to_json(one));
  json["knees"] = Json::array();
  for (const Knee& knee : report.knees) {
    json["knees"].push_back({{"backend", knee.backend},
                             {"max_num_seqs", knee.max_num_seqs},
                             {"questions_per_s", knee.questions_per_s},
                             {"share_of_best", knee.share_of_best}});
  }
  return json;
}

std::string render_jsonl(const EvalReport& report) {
  std::string text;
  for (const EvalCaseReport& one : report.cases) {
    Json json = header_json(report);
    json["case"] = to_json(report, one);
    text += dump_json(json) + "\n";
  }
  return text;
}

ReportTable eval_records(const EvalReport& report) {
  ReportTable table{.title = "llmrun_eval",
                    .header = {"schema_version", "date",      "git_commit",      "task",
                               "dataset_sha256", "case",      "model",           "dtype",
                               "device",         "processor", "prompt",          "num_fewshot",
                               "repetitions",    "questions", "samples",         "failed",
                               "output_tokens",  "elapsed_s", "questions_per_s", "speed_up",
                               "baseline"},
                    .rows = {}};
  std::vector<std::string>& header = table.header;
  for (const ExtractionRule rule : kExtractionRules) {
    header.emplace_back(to_string(rule));
    header.push_back(fmt::format("{}_stderr", to_string(rule)));
  }
  header.emplace_back("majority");
  header.emplace_back("majority_stderr");
  for (const EvalCaseReport& one : report.cases) {
    std::vector<std::string> row = {fmt::format("{}", kEvalSchemaVersion),
                                    report.date,
                                    kGitCommit,
                                    report.task,
                                    report.file_sha256,
                                    one.name,
                                    report.model,
                                    report.dtype,
                                    report.device,
                                    report.processor,
                                    report.prompt,
                                    fmt::format("{}", report.num_fewshot),
                                    fmt::format("{}", report.repetitions),
                                    fmt::format("{}", one.num_questions),
                                    fmt::format("{}", one.num_samples),
                                    fmt::format("{}", one.num_failed),
                                    fmt::format("{}", one.num_output_tokens),
                                    fmt::format("{}", one.elapsed_s),
                                    fmt::format("{}", one.questions_per_s()),
                                    one.speed_up ? fmt::format("{}", *one.speed_up) : "",
                                    one.baseline};
    for (const RuleScore& score : one.scores) {
      row.push_back(fmt::format("{}", score.accuracy.mean));
      row.push_back(fmt::format("{}", score.accuracy.standard_error));
    }
    row.push_back(one.majority ? fmt::format("{}", one.majority->mean) : "");
    row.push_back(one.majority ? fmt::format("{}", one.majority->standard_error) : "");
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace llmrun
