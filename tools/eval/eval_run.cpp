#include "tools/eval/eval_run.h"

#include <algorithm>
#include <map>
#include <utility>

#include "engine/core/random.h"
#include "engine/metrics/repeated_sampling.h"

namespace llmrun {

std::int64_t QuestionResult::num_failed() const {
  return std::count_if(samples.begin(), samples.end(),
                       [](const SampleAnswer& sample) { return !sample.error.empty(); });
}

std::vector<std::int32_t> count_votes(const std::vector<SampleAnswer>& samples,
                                      const EvalQuestion& question,
                                      const AnswerExtractor& extractor, ExtractionRule rule) {
  std::map<std::string, std::int32_t> counts;
  for (const SampleAnswer& sample : samples) {
    if (!sample.error.empty()) continue;
    const std::string vote = extractor.extract(rule, sample.text, question.answer).vote;
    if (!vote.empty()) ++counts[vote];
  }
  std::vector<std::int32_t> votes;
  votes.reserve(counts.size());
  for (const auto& [vote, count] : counts) votes.push_back(count);
  return votes;
}

EvalRun::EvalRun(AnswerSource& source, const std::vector<EvalQuestion>& questions,
                 const AnswerExtractor& extractor, MakeRequest make_request, Options options)
    : source_(source),
      questions_(questions),
      extractor_(extractor),
      make_request_(std::move(make_request)),
      options_(std::move(options)),
      start_(std::chrono::steady_clock::now()) {}

double EvalRun::elapsed_s() const {
  return options_.elapsed_before_s +
         std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

bool EvalRun::run(const std::vector<std::int64_t>& places) {
  start_ = std::chrono::steady_clock::now();
  auto next = places.begin();
  const std::int32_t first_wave =
      options_.early_stop ? votes_needed({}, options_.repetitions) : options_.repetitions;
  while (!check_stop()) {
    while (!draining_ && next != places.end() && requests_.size() < options_.max_inflight) {
      under_way_[*next].result.question = *next;
      ask(*next, 0, first_wave);
      ++next;
    }
    if (!source_.has_unfinished()) break;
    for (Answers& answers : source_.advance()) take(std::move(answers));
    if (options_.on_progress) options_.on_progress(num_done_);
  }
  const bool is_complete = next == places.end() && under_way_.empty();
  if (source_.has_unfinished()) source_.abort_all();
  return is_complete;
}

void EvalRun::ask(std::int64_t question, std::int32_t first_sample, std::int32_t num_samples) {
  UnderWay& under_way = under_way_.at(question);
  under_way.num_asked = std::max(under_way.num_asked, first_sample + num_samples);
  under_way.num_outstanding += num_samples;
  AnswerRequest request = make_request_(questions_[static_cast<std::size_t>(question)]);
  request.key = next_key_++;
  request.params.n = num_samples;
  // A sample is the same whether it is asked for alone or with others, here or of a server:
  // numbers of JSON are exact up to 2^53.
  constexpr int kUnusedBits = 12;
  request.params.seed =
      (derive_seed(options_.seed, static_cast<std::uint64_t>(question)) >> kUnusedBits) +
      static_cast<std::uint64_t>(first_sample);
  requests_.emplace(request.key, Request{question, first_sample, num_samples});
  source_.submit(std::move(request));
}

void EvalRun::take(Answers answers) {
  const auto found = requests_.find(answers.key);
  const Request request = found->second;
  requests_.erase(found);
  UnderWay& under_way = under_way_.at(request.question);
  under_way.num_outstanding -= request.num_samples;
  QuestionResult& result = under_way.result;
  result.num_prompt_tokens = std::max(result.num_prompt_tokens, answers.num_prompt_tokens);
  result.num_output_tokens += answers.num_output_tokens;
  if (!answers.error.empty() && request.num_samples > 1) {
    // What failed may be one of them: each has its chance alone.
    for (std::int32_t i = 0; i < request.num_samples; ++i) {
      ask(request.question, request.first_sample + i, 1);
    }
    return;
  }
  if (!answers.error.empty()) {
    result.samples.push_back({.index = request.first_sample,
                              .text = "",
                              .finish_reason = "",
                              .error = std::move(answers.error)});
  }
  for (SampleAnswer& sample : answers.samples) {
    sample.index += request.first_sample;
    result.samples.push_back(std::move(sample));
  }
  if (under_way.num_outstanding == 0) go_on(under_way);
}

void EvalRun::go_on(UnderWay& under_way) {
  const std::int64_t question = under_way.result.question;
  const std::int32_t num_missing = options_.repetitions - under_way.num_asked;
  if (num_missing > 0) {
    const auto votes =
        count_votes(under_way.result.samples, questions_[static_cast<std::size_t>(question)],
                    extractor_, options_.rule);
    if (const std::int32_t needed = votes_needed(votes, num_missing); needed > 0) {
      ask(question, under_way.num_asked, needed);
      return;
    }
  }
  finish(question);
}

void EvalRun::finish(std::int64_t question) {
  QuestionResult result = std::move(under_way_.at(question).result);
  under_way_.erase(question);
  std::sort(result.samples.begin(), result.samples.end(),
            [](const SampleAnswer& a, const SampleAnswer& b) { return a.index < b.index; });
  result.finished_s = elapsed_s();
  ++num_done_;
  if (options_.on_finished) options_.on_finished(result);
}

bool EvalRun::check_stop() {
  const int level = options_.stop_level ? options_.stop_level() : 0;
  if (level == 0) return false;
  if (!draining_) {
    draining_ = true;
    drain_deadline_s_ = elapsed_s() + options_.drain_timeout_s;
  }
  return level >= 2 || elapsed_s() > drain_deadline_s_;
}

}  // namespace llmrun
