#include "tools/eval/eval_report.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tools/eval/eval_render.h"

namespace llmrun {
namespace {

// `count` questions of two groups, whose answers are 0, 1, 2, ...
EvalDataset dataset_of(int count) {
  EvalDataset dataset;
  for (int i = 0; i < count; ++i) {
    EvalQuestion question;
    question.line = i + 1;
    question.question = fmt::format("question {}", i);
    question.answer = fmt::format("so it is #### {}", i);
    question.group = i % 2 == 0 ? "even" : "odd";
    dataset.questions.push_back(std::move(question));
  }
  return dataset;
}

// One sample a question; an empty text: the question is not answered.
EvalCaseRun run_of(const std::string& name, const std::vector<std::string>& texts,
                   double elapsed_s = 10) {
  EvalCaseRun run;
  run.name = name;
  run.backend = name.substr(0, name.find('@'));
  run.elapsed_s = elapsed_s;
  if (name.find('@') != std::string::npos) {
    run.max_num_seqs = std::stoi(name.substr(name.find('@') + 1));
  }
  for (std::size_t i = 0; i < texts.size(); ++i) {
    QuestionResult result;
    result.question = static_cast<std::int64_t>(i);
    if (!texts[i].empty()) {
      result.samples.push_back(
          {.index = 0, .text = texts[i], .finish_reason = "stop", .num_tokens = 3, .error = {}});
    }
    run.results.push_back(std::move(result));
  }
  return run;
}

EvalReport report_of(const EvalDataset& dataset, const std::vector<EvalCaseRun>& runs) {
  const AnswerExtractor extractor{AnswerExtractor::Strict{}};
  EvalReport report;
  report.group_field = "kind";
  report.num_questions = std::ssize(dataset.questions);
  add_runs(report, runs, {.dataset = dataset, .extractor = extractor});
  return report;
}

TEST_CASE("the knee is the smallest level with 90 % of the best throughput") {
  const EvalDataset dataset = dataset_of(2);
  const std::vector<std::string> texts = {"#### 0", "#### 1"};
  // Questions/s: 1, 1.9, 2, 1.5; given out of order.
  const EvalReport report =
      report_of(dataset, {run_of("paged@8", texts, 1), run_of("paged@1", texts, 2),
                          run_of("paged@4", texts, 2 / 1.9), run_of("paged@16", texts, 2 / 1.5),
                          run_of("naive@1", texts, 4), run_of("naive@4", texts, 3.99)});
  REQUIRE(report.knees.size() == 2);
  CHECK(report.knees[0].backend == "naive");
  CHECK(report.knees[0].max_num_seqs == 1);
  CHECK(report.knees[1].backend == "paged");
  CHECK(report.knees[1].max_num_seqs == 4);
  CHECK(report.knees[1].share_of_best == doctest::Approx(0.95));
  // One level has no knee, and a run that took no time divides by nothing.
  CHECK(report_of(dataset, {run_of("paged", texts)}).knees.empty());
  CHECK(report_of(dataset, {run_of("paged@1", texts, 0), run_of("paged@2", texts, 0)})
            .knees.front()
            .share_of_best == 0);
}

TEST_CASE("what a case is compared with") {
  const EvalDataset dataset = dataset_of(1);
  const std::vector<std::string> texts = {"#### 0"};
  const auto baselines = [&](const std::vector<std::string>& names) {
    std::vector<EvalCaseRun> runs;
    for (const std::string& name : names) runs.push_back(run_of(name, texts));
    std::string found;
    for (const auto& place : baselines_of(runs)) {
      found += place ? names[*place] + " " : std::string("- ");
    }
    return found;
  };
  CHECK(baselines({"paged"}) == "- ");
  CHECK(baselines({"naive", "paged"}) == "- naive ");
  CHECK(baselines({"paged", "host:1"}) == "host:1 - ");
  CHECK(baselines({"paged@1", "paged@4"}) == "- paged@1 ");
  CHECK(baselines({"paged@1", "paged@4", "naive@1", "naive@4"}) == "naive@1 naive@4 - - ");
  // A server at its one level, beside a sweep.
  CHECK(baselines({"paged@1", "paged@4", "host:1"}) == "host:1 host:1 - ");
}

TEST_CASE("where texts differ: the first byte, cut to whole characters, and who is right") {
  const EvalDataset dataset = dataset_of(5);
  const EvalReport report = report_of(
      dataset, {run_of("paged", {"#### 0", "caf\xC3\xA9 #### 1", "same #### 2", "#### 9", "x"}),
                run_of("naive", {"#### 7", "caf\xC3\xA8 #### 1", "same #### 2", "#### 3", "xy"})});
  REQUIRE(report.comparisons.size() == 1);
  const EvalComparison& comparison = report.comparisons.front();
  CHECK(comparison.num_samples == 5);
  REQUIRE(comparison.differences.size() == 4);
  CHECK(comparison.num_right_only_here == 1);
  CHECK(comparison.num_right_only_there == 1);
  CHECK(comparison.p_value == doctest::Approx(1));
  const SampleDifference& first = comparison.differences[0];
  CHECK(first.position == 5);
  CHECK(first.line == 1);
  CHECK(first.right);
  CHECK_FALSE(first.baseline_right);
  CHECK(first.baseline_answer == "7");
  const SampleDifference& accent = comparison.differences[1];
  CHECK(accent.position == 3);  // not inside the character
  CHECK(accent.text == "caf\xC3\xA9 #### 1");
  CHECK(accent.right);
  CHECK(accent.baseline_right);
  CHECK(comparison.differences[3].position == 1);  // one is the other's beginning

  const std::string text = render_text(report);
  CHECK(text.find("Where paged and naive differ (4 of 4 samples)") != std::string::npos);
  CHECK(text.find("1 of 5") != std::string::npos);
}

TEST_CASE("a run that was stopped: what is answered counts, and nothing is called faster") {
  const EvalDataset dataset = dataset_of(4);
  EvalCaseRun partial = run_of("naive", {"#### 0", "", "#### 9", ""}, 5);
  partial.is_partial = true;
  EvalReport report =
      report_of(dataset, {run_of("paged", {"#### 0", "#### 1", "#### 2", "#### 3"}), partial});
  report.was_stopped = true;
  REQUIRE(report.cases.size() == 2);
  CHECK(report.cases[1].num_questions == 2);
  CHECK(report.cases[1].questions_per_s() == doctest::Approx(0.4));
  CHECK(report.cases[1].score(ExtractionRule::kStrictMatch).accuracy.mean == 0.5);
  CHECK_FALSE(report.cases[0].speed_up);
  REQUIRE(report.cases[1].groups.size() == 1);  // only "even"
  CHECK(report.comparisons.front().num_samples == 2);
  const std::string text = render_text(report);
  CHECK(text.find("INVALID: a signal stopped the run; naive: 2 of 4 questions are answered") !=
        std::string::npos);
  CHECK(text.find("partial") != std::string::npos);
  CHECK(render_markdown(report).find("INVALID") != std::string::npos);
}

}  // namespace
}  // namespace llmrun
