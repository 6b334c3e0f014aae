#include "tools/eval/eval_report.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "engine/core/error.h"
#include "engine/metrics/repeated_sampling.h"

namespace llmrun {
namespace {

Score score_of(const std::vector<double>& values) {
  Score score;
  if (values.empty()) return score;
  score.mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  score.standard_error = standard_error(values);
  return score;
}

// The samples of one question, by what they say.
AnswerCounts count_answers(const QuestionResult& result, const EvalQuestion& question,
                           const AnswerExtractor& extractor, ExtractionRule rule) {
  AnswerCounts counts;
  std::map<std::string, std::int32_t> wrong;
  for (const SampleAnswer& sample : result.samples) {
    if (!sample.error.empty()) {
      ++counts.none;
      continue;
    }
    const ExtractedAnswer answer = extractor.extract(rule, sample.text, question.answer);
    if (answer.right) {
      ++counts.right;
    } else if (answer.vote.empty()) {
      ++counts.none;
    } else {
      ++wrong[answer.vote];
    }
  }
  for (const auto& [vote, count] : wrong) counts.wrong.push_back(count);
  return counts;
}

std::vector<AnswerCounts> count_all(const EvalCaseRun& run, const EvalContext& context,
                                    ExtractionRule rule) {
  std::vector<AnswerCounts> counts;
  for (const QuestionResult& result : run.results) {
    const auto place = static_cast<std::size_t>(result.question);
    counts.push_back(
        count_answers(result, context.dataset.questions[place], context.extractor, rule));
  }
  return counts;
}

double share_right(const AnswerCounts& counts) {
  const std::int32_t n = counts.num_samples();
  return n == 0 ? 0.0 : static_cast<double>(counts.right) / n;
}

RuleScore score_rule(const std::vector<AnswerCounts>& counts, ExtractionRule rule) {
  std::vector<double> values;
  values.reserve(counts.size());
  for (const AnswerCounts& one : counts) values.push_back(share_right(one));
  RuleScore score{.rule = rule, .accuracy = score_of(values), .interval = {}};
  const auto n = static_cast<double>(values.size());
  score.interval = wilson_interval(score.accuracy.mean * n, n);
  return score;
}

void add_repeated(EvalCaseReport& report, const std::vector<AnswerCounts>& counts,
                  const EvalContext& context) {
  const auto num_ks = static_cast<std::size_t>(context.repetitions);
  std::vector<std::vector<double>> pass(num_ks), majority(num_ks);
  std::vector<double> last;
  for (const AnswerCounts& one : counts) {
    const std::vector<double> majority_k = majority_at_k(one);
    last.push_back(majority_k.empty() ? 0.0 : majority_k.back());
    if (context.early_stop) continue;
    const std::vector<double> pass_k = pass_at_k(one);
    LLMRUN_CHECK(pass_k.size() == num_ks);
    for (std::size_t k = 0; k < num_ks; ++k) {
      pass[k].push_back(pass_k[k]);
      majority[k].push_back(majority_k[k]);
    }
  }
  report.majority = score_of(last);
  if (context.early_stop) return;
  for (std::size_t k = 0; k < num_ks; ++k) {
    report.repeated.push_back({.k = static_cast<std::int32_t>(k + 1),
                               .pass = score_of(pass[k]),
                               .majority = score_of(majority[k])});
  }
}

std::vector<GroupScore> score_groups(const EvalCaseRun& run, const EvalContext& context,
                                     const std::vector<AnswerCounts>& counts) {
  std::map<std::string, std::vector<double>> values;
  for (std::size_t i = 0; i < run.results.size(); ++i) {
    const auto place = static_cast<std::size_t>(run.results[i].question);
    values[context.dataset.questions[place].group].push_back(share_right(counts[i]));
  }
  std::vector<GroupScore> groups;
  if (values.size() == 1 && values.contains("")) return groups;
  for (const auto& [group, shares] : values) {
    groups.push_back({group, std::ssize(shares), score_of(shares).mean});
  }
  return groups;
}

void count_samples(EvalCaseReport& report, const EvalCaseRun& run) {
  for (const QuestionResult& result : run.results) {
    report.num_samples += std::ssize(result.samples);
    report.num_failed += result.num_failed();
    report.num_prompt_tokens += result.num_prompt_tokens;
    report.num_output_tokens += result.num_output_tokens;
    report.num_cut +=
        std::count_if(result.samples.begin(), result.samples.end(),
                      [](const SampleAnswer& sample) { return sample.finish_reason == "length"; });
  }
}

// Bytes of whole characters that both begin with.
std::size_t num_equal_bytes(const std::string& a, const std::string& b) {
  auto equal = static_cast<std::size_t>(
      std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
  const auto continues = [equal](const std::string& text, std::size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U;
  };
  while (equal > 0 && (continues(a, equal) || continues(b, equal))) --equal;
  return equal;
}

// Up to 24 bytes before and after `position`, in whole characters.
std::string excerpt(const std::string& text, std::size_t position) {
  constexpr std::size_t kContext = 24;
  const auto continues = [&](std::size_t at) {
    return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U;
  };
  std::size_t begin = position - std::min(position, kContext);
  while (continues(begin)) ++begin;
  std::size_t end = std::min(text.size(), position + kContext);
  while (continues(end)) ++end;
  return text.substr(begin, end - begin);
}

void add_knees(EvalReport& report) {
  constexpr double kEnough = 0.9;
  std::map<std::string, std::vector<const EvalCaseReport*>> levels;
  for (const EvalCaseReport& one : report.cases) levels[one.backend].push_back(&one);
  for (auto& [backend, cases] : levels) {
    if (cases.size() < 2) continue;
    std::sort(cases.begin(), cases.end(),
              [](const auto* a, const auto* b) { return a->max_num_seqs < b->max_num_seqs; });
    double best = 0;
    for (const auto* one : cases) best = std::max(best, one->questions_per_s());
    const auto knee = std::find_if(cases.begin(), cases.end(), [&](const auto* one) {
      return one->questions_per_s() >= kEnough * best;
    });
    report.knees.push_back({backend, (*knee)->max_num_seqs, (*knee)->questions_per_s(),
                            best > 0 ? (*knee)->questions_per_s() / best : 0.0});
  }
}

}  // namespace

double EvalCaseReport::questions_per_s() const {
  return elapsed_s > 0 ? static_cast<double>(num_questions) / elapsed_s : 0.0;
}

double EvalCaseReport::output_tokens_per_s() const {
  return elapsed_s > 0 ? static_cast<double>(num_output_tokens) / elapsed_s : 0.0;
}

const RuleScore& EvalCaseReport::score(ExtractionRule rule) const {
  return *std::find_if(scores.begin(), scores.end(),
                       [rule](const RuleScore& score) { return score.rule == rule; });
}

std::int64_t EvalReport::num_failed() const {
  return std::accumulate(cases.begin(), cases.end(), std::int64_t{0},
                         [](std::int64_t sum, const auto& one) { return sum + one.num_failed; });
}

std::int64_t EvalCaseRun::num_answered() const {
  return std::count_if(results.begin(), results.end(),
                       [](const QuestionResult& result) { return !result.samples.empty(); });
}

EvalCaseReport make_case_report(const EvalCaseRun& whole_run, const EvalContext& context) {
  EvalCaseRun run = whole_run;
  std::erase_if(run.results, [](const QuestionResult& result) { return result.samples.empty(); });
  EvalCaseReport report;
  report.is_partial = run.is_partial;
  report.name = run.name;
  report.backend = run.backend;
  report.max_num_seqs = run.max_num_seqs;
  report.flags = run.flags;
  report.load_s = run.load_s;
  report.warm_up_s = run.warm_up_s;
  report.num_warm_up_requests = run.num_warm_up_requests;
  report.elapsed_s = run.elapsed_s;
  report.num_resumed = run.num_resumed;
  report.timeline = run.timeline;
  report.decode_batches = run.decode_batches;
  report.num_questions = std::ssize(run.results);
  count_samples(report, run);
  report.num_left_out = report.num_questions * context.repetitions - report.num_samples;
  for (const ExtractionRule rule : kExtractionRules) {
    const std::vector<AnswerCounts> counts = count_all(run, context, rule);
    report.scores.push_back(score_rule(counts, rule));
    if (rule != context.rule) continue;
    for (const AnswerCounts& one : counts) report.num_without_answer += one.none;
    report.num_without_answer -= report.num_failed;
    report.groups = score_groups(run, context, counts);
    report.question_scores.resize(context.dataset.questions.size());
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const auto place = static_cast<std::size_t>(run.results[i].question);
      report.question_scores[place] = share_right(counts[i]);
    }
    if (context.repetitions > 1) add_repeated(report, counts, context);
  }
  return report;
}

EvalComparison compare_runs(const EvalCaseRun& run, const EvalCaseRun& baseline,
                            const EvalContext& context) {
  EvalComparison comparison{.case_name = run.name, .baseline = baseline.name, .differences = {}};
  for (std::size_t i = 0; i < run.results.size(); ++i) {
    const EvalQuestion& question =
        context.dataset.questions[static_cast<std::size_t>(run.results[i].question)];
    std::map<std::int32_t, const SampleAnswer*> theirs;
    for (const SampleAnswer& sample : baseline.results[i].samples) {
      if (sample.error.empty()) theirs[sample.index] = &sample;
    }
    for (const SampleAnswer& ours : run.results[i].samples) {
      const auto found = theirs.find(ours.index);
      if (!ours.error.empty() || found == theirs.end()) continue;
      ++comparison.num_samples;
      const std::string& text = ours.text;
      const std::string& other = found->second->text;
      if (text == other) continue;
      ExtractedAnswer a = context.extractor.extract(context.rule, text, question.answer);
      ExtractedAnswer b = context.extractor.extract(context.rule, other, question.answer);
      if (a.right && !b.right) ++comparison.num_right_only_here;
      if (b.right && !a.right) ++comparison.num_right_only_there;
      const std::size_t position = num_equal_bytes(text, other);
      comparison.differences.push_back({.question = run.results[i].question,
                                        .line = question.line,
                                        .sample = ours.index,
                                        .position = static_cast<std::int64_t>(position),
                                        .text = excerpt(text, position),
                                        .baseline_text = excerpt(other, position),
                                        .answer = std::move(a.text),
                                        .baseline_answer = std::move(b.text),
                                        .right = a.right,
                                        .baseline_right = b.right});
    }
  }
  comparison.p_value = sign_test(comparison.num_right_only_here, comparison.num_right_only_there);
  return comparison;
}

std::vector<std::optional<std::size_t>> baselines_of(const std::vector<EvalCaseRun>& runs) {
  std::vector<std::optional<std::size_t>> baselines(runs.size());
  if (runs.empty()) return baselines;
  const auto naive = std::find_if(runs.begin(), runs.end(),
                                  [](const EvalCaseRun& run) { return run.backend == "naive"; });
  const std::string backend = naive != runs.end() ? naive->backend : runs.back().backend;
  const auto num_levels = std::count_if(
      runs.begin(), runs.end(), [&](const EvalCaseRun& run) { return run.backend == backend; });
  const bool is_one_backend = runs.front().backend == runs.back().backend;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    for (std::size_t j = 0; j < runs.size() && !baselines[i]; ++j) {
      const bool is_same_level = num_levels == 1 || runs[j].max_num_seqs == runs[i].max_num_seqs;
      const bool is_match = is_one_backend || (runs[j].backend == backend && is_same_level);
      if (is_match) baselines[i] = j;
    }
    if (baselines[i] == i) baselines[i].reset();
  }
  return baselines;
}

void add_runs(EvalReport& report, const std::vector<EvalCaseRun>& runs,
              const EvalContext& context) {
  const std::vector<std::optional<std::size_t>> baselines = baselines_of(runs);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    EvalCaseReport one = make_case_report(runs[i], context);
    if (baselines[i]) {
      const EvalCaseRun& baseline = runs[*baselines[i]];
      one.baseline = baseline.name;
      if (runs[i].elapsed_s > 0 && !runs[i].is_partial && !baseline.is_partial) {
        one.speed_up = baseline.elapsed_s / runs[i].elapsed_s;
      }
      report.comparisons.push_back(compare_runs(runs[i], baseline, context));
    }
    report.cases.push_back(std::move(one));
  }
  add_knees(report);
}

}  // namespace llmrun
