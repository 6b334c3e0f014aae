// GenerateRun: the loop of `llmrun generate`. Pulls rows while the engine has room, steps the
// engine, and hands finished requests to the writer. Knows neither flags nor how the engine was
// made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_map>

#include "engine/engine.h"
#include "engine/prompt_processor.h"
#include "tools/input/input_item.h"
#include "tools/input/request_reader.h"
#include "tools/output/output_record.h"
#include "tools/output/output_writer.h"

namespace llmrun {

struct GenerateProgress {
  std::int64_t num_rows_done = 0;  // written by this run, failed ones included
  std::int64_t num_rows_failed = 0;
  std::string first_failure;          // of those, with file and line
  std::int64_t num_rows_skipped = 0;  // in the output already
  std::int64_t num_rows_inflight = 0;
  std::optional<std::int64_t> num_rows_total;  // of the input, when it is known or can be estimated
  EngineStats engine;
};

class GenerateRun {
 public:
  struct Options {
    std::size_t max_inflight = 0;  // requests in the engine at once
    // Whether a row has its record in the output already (resumed runs).
    std::function<bool(const InputItem&)> is_done = nullptr;
    // Called after every step.
    std::function<void(const GenerateProgress&)> on_progress = nullptr;
    // 0: go on; 1: admit no more rows, finish those under way; 2: end those under way now.
    std::function<int()> stop_level = nullptr;
    double drain_timeout_s = 30.0;  // at stop level 1, before it becomes 2
  };

  // All references must outlive the run.
  GenerateRun(Engine& engine, const PromptProcessor& prompts, RequestReader& reader,
              const RecordFormatter& formatter, OutputWriter& writer, Options options);

  // Returns when every row is answered, or the run was stopped. Rows that were aborted have no
  // record, so that a resumed run answers them.
  void run();

  GenerateProgress progress() const;
  // True when rows of the input were left unanswered.
  bool was_stopped() const { return stopped_; }
  // True when the run ended itself, since so many rows in a row had logits that are no numbers.
  static constexpr std::int64_t kMaxNumericErrors = 16;
  bool has_given_up() const { return num_numeric_errors_ >= kMaxNumericErrors; }

 private:
  void admit();
  void start(InputItem item);
  void write_finished();
  void write_error(const InputItem& item, const RequestError& error);
  void note_failure(const InputItem& item, const RequestError& error);
  // Returns whether requests under way are to be aborted.
  bool check_stop();

  Engine& engine_;
  const PromptProcessor& prompts_;
  RequestReader& reader_;
  const RecordFormatter& formatter_;
  OutputWriter& writer_;
  Options options_;

  std::optional<InputItem> next_;  // read, but the writer has no room for it yet
  bool input_ended_ = false;
  bool draining_ = false;
  double drain_deadline_ = 0;  // engine time
  bool stopped_ = false;
  std::unordered_map<RequestId, InputItem> inflight_;
  std::int64_t num_rows_done_ = 0;
  std::int64_t num_rows_failed_ = 0;
  std::string first_failure_;
  std::int64_t num_rows_skipped_ = 0;
  std::int64_t num_numeric_errors_ = 0;  // since the last row without one
};

}  // namespace llmrun
