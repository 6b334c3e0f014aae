// The run of `llmrun eval` from options to report, case by case: one engine lives at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine_factory.h"
#include "tools/engine_cases.h"
#include "tools/eval/answer_extraction.h"
#include "tools/eval/eval.h"
#include "tools/eval/eval_dataset.h"
#include "tools/eval/eval_record.h"
#include "tools/eval/eval_report.h"
#include "tools/eval/opened_source.h"
#include "tools/eval/prompt_style.h"
#include "tools/output/output_writer.h"
#include "tools/output/run_resume.h"
#include "tools/progress.h"
#include "tools/signals.h"
#include "tools/watchdog.h"

namespace llmrun {

// Requests that warm an engine up for `num_samples`: as many as will run at once, as of
// `throughput`; on a CPU, where nothing is recorded for a batch's size, at most 64.
std::int64_t num_warm_up_requests(std::string_view device, std::int64_t num_samples,
                                  std::int32_t max_num_seqs);

class EvalCommand {
 public:
  // Reads the questions and the examples, and locks the file of samples. Throws Error.
  EvalCommand(const EvalOptions& options, std::string command_line);

  // When a signal stops it before all was answered, the report says so and holds what was. Throws
  // Error.
  void run();

  const EvalReport& report() const { return report_; }
  int first_signal() const { return signals_.first_signal(); }

 private:
  struct Case {
    std::string name;
    std::string backend;  // of a server its address and model
    // In the file of samples: without the address, so that a server that moved is gone on with.
    std::string key;
    std::int32_t max_num_seqs = 0;     // as asked for; of a server requests at once
    std::optional<EngineCase> engine;  // nothing: the server
  };

  void log(std::string_view line);
  std::vector<Case> make_cases() const;
  OpenedSource open(const Case& one);
  SamplingParams sampling_params() const;
  AnswerRequest make_request(const EvalQuestion& question) const;
  InputItem item_of(std::size_t case_index, std::int64_t place) const;

  // Returns false when it was stopped.
  bool run_case(std::size_t case_index);
  // Makes an engine do once, before time counts, what is slower the first time; for so many
  // questions. `run` keeps what it took.
  void warm_up(CreatedEngine& created, std::int64_t num_questions, EvalCaseRun& run);
  // Runs it, and keeps in `run` what the engine's steps say. Returns false when it was stopped.
  bool run_recorded(EvalRun& eval, const std::vector<std::int64_t>& places,
                    const OpenedSource& source, EvalCaseRun& run);
  // Moves what an earlier run answered of the case `key` to `run`; returns the places of the other
  // questions.
  std::vector<std::int64_t> take_earlier_results(const std::string& key, EvalCaseRun& run);
  EvalRun::Options run_options(std::size_t case_index, EvalCaseRun& run,
                               const OpenedSource& source);
  Watchdog::Options watchdog_options(const OpenedSource& source);
  void describe(const OpenedSource& source);
  // Manifest, what an earlier run left, and the writer; before the first record.
  void begin_output(const OpenedSource& source);
  RunManifest make_manifest(const OpenedSource& source) const;
  void claim_earlier_results(FinishedRows& finished, const std::string& fingerprint);

  EvalOptions options_;
  std::string command_line_;
  SignalWatcher signals_;
  Progress progress_;
  PromptStyle style_;
  AnswerExtractor extractor_;
  ExtractionRule rule_;
  EvalDataset dataset_;
  std::vector<EvalQuestion> examples_;
  SamplingParams params_;
  std::optional<RemoteServer> server_;  // nothing: no --base-url
  std::vector<Case> cases_;
  std::unique_ptr<LockedFile> output_;  // until the writer takes it
  std::unique_ptr<OutputWriter> writer_;
  std::string fingerprint_;
  EvalResults earlier_;
  std::vector<EvalCaseRun> runs_;
  EvalReport report_;
};

}  // namespace llmrun
