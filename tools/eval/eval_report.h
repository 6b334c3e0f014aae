// What `llmrun eval` reports, computed once from the results; the renderers
// (tools/eval/eval_render.h) only arrange it.
//
// Every accuracy is a mean over questions of what a question scored (the share of its samples that
// are right), and its error the standard error of that mean, so that repetitions of a question do
// not count as independent ones; without repetitions it is sqrt(p (1 - p) / (n - 1)), as lm-eval
// has it. A sample that failed counts as wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/engine_factory.h"
#include "engine/metrics/statistics.h"
#include "tools/eval/answer_extraction.h"
#include "tools/eval/eval_dataset.h"
#include "tools/eval/eval_run.h"
#include "tools/report/run_timeline.h"

namespace llmrun {

inline constexpr int kEvalSchemaVersion = 1;

struct Score {
  double mean = 0;            // 0 to 1
  double standard_error = 0;  // of the mean; 0 for a single question
};

struct RuleScore {
  ExtractionRule rule = ExtractionRule::kStrictMatch;
  Score accuracy;     // pass@1
  Interval interval;  // Wilson's, of the accuracy of one sample a question
};

// What k samples of a question reach.
struct RepeatedScore {
  std::int32_t k = 0;
  Score pass;
  Score majority;
};

struct GroupScore {
  std::string group;
  std::int64_t num_questions = 0;
  double accuracy = 0;
};

// One backend at one level of concurrency, as it was run.
struct EvalCaseRun {
  std::string name;     // "paged"; "paged@16" in a sweep
  std::string backend;  // "paged"
  std::int32_t max_num_seqs = 0;
  std::string flags;
  double load_s = 0;
  double warm_up_s = 0;
  std::int64_t num_warm_up_requests = 0;
  double elapsed_s = 0;          // from the first question to the last answer, all runs together
  std::int64_t num_resumed = 0;  // questions that an earlier run had answered
  bool is_partial = false;       // a signal stopped it
  std::vector<QuestionResult> results;  // by place in the dataset; without samples: not answered
  // Of the engine, in this run alone; empty: it had no step, or a server was asked.
  std::vector<TimelinePoint> timeline;
  std::vector<SizeBin> decode_batches;

  std::int64_t num_answered() const;
};

struct EvalCaseReport {
  std::string name;
  std::string backend;
  std::int32_t max_num_seqs = 0;
  std::string flags;
  double load_s = 0;
  double warm_up_s = 0;
  std::int64_t num_warm_up_requests = 0;
  double elapsed_s = 0;
  std::int64_t num_resumed = 0;
  bool is_partial = false;         // a signal stopped it
  std::int64_t num_questions = 0;  // that were answered
  std::int64_t num_samples = 0;
  std::int64_t num_failed = 0;          // samples
  std::int64_t num_cut = 0;             // samples that max_tokens ended
  std::int64_t num_without_answer = 0;  // samples in which the main rule finds none
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_output_tokens = 0;
  std::int64_t num_left_out = 0;        // samples, by early stop
  std::vector<RuleScore> scores;        // one a rule
  std::optional<Score> majority;        // of all samples, by the main rule; with repetitions
  std::vector<RepeatedScore> repeated;  // k = 1 .. repetitions; empty without, and with early stop
  std::vector<GroupScore> groups;       // by the main rule
  // What each question of the file scored by the main rule; nothing: it was not answered.
  std::vector<std::optional<double>> question_scores;
  std::vector<TimelinePoint> timeline;  // as in EvalCaseRun
  std::vector<SizeBin> decode_batches;
  std::optional<double> speed_up;  // over the baseline, both complete
  std::string baseline;

  double questions_per_s() const;
  double output_tokens_per_s() const;
  const RuleScore& score(ExtractionRule rule) const;
};

// A sample of which two cases made different texts.
struct SampleDifference {
  std::int64_t question = 0;
  std::int64_t line = 0;
  std::int32_t sample = 0;
  std::int64_t position = 0;  // bytes that are equal, cut to whole characters
  std::string text;           // from a little before there
  std::string baseline_text;
  std::string answer;  // by the main rule
  std::string baseline_answer;
  bool right = false;
  bool baseline_right = false;
};

struct EvalComparison {
  std::string case_name;
  std::string baseline;
  std::int64_t num_samples = 0;  // that both have
  std::int64_t num_right_only_here = 0;
  std::int64_t num_right_only_there = 0;
  double p_value = 1;  // that both are equally good: sign test on the two numbers above
  std::vector<SampleDifference> differences;
};

// The level of a sweep beyond which more sequences at once bring little: the smallest that reaches
// 90 % of the best throughput.
struct Knee {
  std::string backend;
  std::int32_t max_num_seqs = 0;
  double questions_per_s = 0;
  double share_of_best = 0;
};

struct EvalReport {
  std::string command_line;
  std::string date;  // UTC, ISO 8601
  std::string processor;
  std::string device;
  std::string model;
  std::string dtype;
  std::string task;  // the file's name without folder and ending
  std::string path;
  std::string file_sha256;
  std::int64_t num_questions = 0;
  std::string prompt;  // name of the style
  bool is_chat = false;
  std::int32_t num_fewshot = 0;
  std::string fewshot_path;
  nlohmann::ordered_json sampling;
  std::int32_t repetitions = 1;
  bool early_stop = false;
  ExtractionRule rule = ExtractionRule::kStrictMatch;
  std::string group_field;
  std::vector<EvalCaseReport> cases;
  std::vector<EvalComparison> comparisons;
  std::vector<Knee> knees;
  bool was_stopped = false;  // by a signal: cases are missing, or the last is partial

  std::int64_t num_failed() const;
};

struct EvalContext {
  const EvalDataset& dataset;
  const AnswerExtractor& extractor;
  ExtractionRule rule = ExtractionRule::kStrictMatch;
  std::int32_t repetitions = 1;
  bool early_stop = false;
};

EvalCaseReport make_case_report(const EvalCaseRun& run, const EvalContext& context);
EvalComparison compare_runs(const EvalCaseRun& run, const EvalCaseRun& baseline,
                            const EvalContext& context);
// Place in `runs` of what each is compared with: the naive backend (else the last) at the same
// level, or at its only one; with one backend, its first level. Nothing for a baseline itself.
std::vector<std::optional<std::size_t>> baselines_of(const std::vector<EvalCaseRun>& runs);
// Fills in cases, comparisons, speed-ups and knees.
void add_runs(EvalReport& report, const std::vector<EvalCaseRun>& runs, const EvalContext& context);

}  // namespace llmrun
