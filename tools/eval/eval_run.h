// EvalRun: asks every question as often as it is to be repeated, one case of an evaluation. Knows
// neither flags nor files.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/eval/answer_extraction.h"
#include "tools/eval/answer_source.h"
#include "tools/eval/eval_dataset.h"

namespace llmrun {

// What became of a question in one case.
struct QuestionResult {
  std::int64_t question = 0;          // its place in the dataset
  std::vector<SampleAnswer> samples;  // by index; without those that an early stop left out
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_output_tokens = 0;
  double finished_s = 0;  // since the case began, time of earlier runs included

  std::int64_t num_failed() const;
};

// How often each answer was given, failed samples and those without an answer left out.
std::vector<std::int32_t> count_votes(const std::vector<SampleAnswer>& samples,
                                      const EvalQuestion& question,
                                      const AnswerExtractor& extractor, ExtractionRule rule);

class EvalRun {
 public:
  struct Options {
    std::int32_t repetitions = 1;
    bool early_stop = false;                             // a question ends once its vote is decided
    ExtractionRule rule = ExtractionRule::kStrictMatch;  // of the vote
    std::uint64_t seed = 0;
    std::size_t max_inflight = 1;  // requests
    double elapsed_before_s = 0;   // of earlier runs of this case
    double drain_timeout_s = 0;    // at stop level 1, before it becomes 2
    // 0: go on; 1: begin no more questions; 2: give up those under way.
    std::function<int()> stop_level = nullptr;
    std::function<void(const QuestionResult&)> on_finished = nullptr;
    std::function<void(std::int64_t num_done)> on_progress = nullptr;
  };
  // Prompt and sampling parameters of a question; key, n and seed are the run's matter.
  using MakeRequest = std::function<AnswerRequest(const EvalQuestion&)>;

  // All references must outlive the run.
  EvalRun(AnswerSource& source, const std::vector<EvalQuestion>& questions,
          const AnswerExtractor& extractor, MakeRequest make_request, Options options);

  // Asks the questions of these places. Returns false when it was stopped before all were answered.
  bool run(const std::vector<std::int64_t>& places);

  // Since the case began, earlier runs included.
  double elapsed_s() const;

 private:
  struct Request {
    std::int64_t question = 0;
    std::int32_t first_sample = 0;
    std::int32_t num_samples = 0;
  };
  struct UnderWay {
    QuestionResult result;
    std::int32_t num_asked = 0;
    std::int32_t num_outstanding = 0;
  };

  void ask(std::int64_t question, std::int32_t first_sample, std::int32_t num_samples);
  void take(Answers answers);
  void go_on(UnderWay& under_way);
  void finish(std::int64_t question);
  // Whether what is under way is to be given up.
  bool check_stop();

  AnswerSource& source_;
  const std::vector<EvalQuestion>& questions_;
  const AnswerExtractor& extractor_;
  MakeRequest make_request_;
  Options options_;
  std::chrono::steady_clock::time_point start_;
  std::unordered_map<std::uint64_t, Request> requests_;   // by key
  std::unordered_map<std::int64_t, UnderWay> under_way_;  // by place
  std::uint64_t next_key_ = 0;
  std::int64_t num_done_ = 0;
  bool draining_ = false;
  double drain_deadline_s_ = 0;
};

}  // namespace llmrun
