#include "tools/generate/generate_run.h"

#include <utility>

#include <fmt/format.h>

namespace llmrun {

GenerateRun::GenerateRun(Engine& engine, const PromptProcessor& prompts, RequestReader& reader,
                         const RecordFormatter& formatter, OutputWriter& writer, Options options)
    : engine_(engine),
      prompts_(prompts),
      reader_(reader),
      formatter_(formatter),
      writer_(writer),
      options_(std::move(options)) {}

void GenerateRun::run() {
  while (true) {
    if (check_stop() || writer_.reader_gone() || has_given_up()) break;
    if (!draining_) admit();
    write_finished();  // requests that were refused at once
    if (!engine_.has_unfinished()) {
      if (input_ended_ || draining_) break;
      continue;
    }
    engine_.step();
    write_finished();
    if (options_.on_progress) options_.on_progress(progress());
  }
  if (engine_.has_unfinished()) {
    engine_.abort_all();
    while (engine_.has_unfinished()) engine_.step();
    static_cast<void>(engine_.take_outputs());
  }
  stopped_ = !inflight_.empty() || next_.has_value() || !input_ended_ || reader_.interrupted();
}

void GenerateRun::admit() {
  while (!input_ended_ && inflight_.size() < options_.max_inflight) {
    if (!next_) {
      // What runs already does not wait for the writer of a pipe.
      if (engine_.has_unfinished() && !reader_.ready()) return;
      next_ = reader_.next();
    }
    if (!next_) {
      input_ended_ = true;
      return;
    }
    if (!writer_.may_admit(next_->index)) return;
    InputItem item = std::move(*next_);
    next_.reset();
    if (options_.is_done && options_.is_done(item)) {
      ++num_rows_skipped_;
      writer_.skip(item.index);
    } else if (item.error) {
      write_error(item, *item.error);
    } else {
      start(std::move(item));
    }
    if (writer_.reader_gone()) return;  // an endless input of bad rows would never end
  }
}

void GenerateRun::start(InputItem item) {
  EngineRequest request;
  if (item.kind == PromptKind::kTokenIds) {
    request.prompt_token_ids = item.prompt_token_ids;
  } else {
    PromptProcessor::Result result =
        item.kind == PromptKind::kText
            ? prompts_.from_text(item.prompt)
            : prompts_.from_messages(item.messages, item.tools, item.chat_template_kwargs);
    if (!result.error.empty()) {
      write_error(item, result.error);
      return;
    }
    request.prompt_token_ids = std::move(result.token_ids);
  }
  request.params = item.sampling;
  request.key = row_key(item).low;
  inflight_.emplace(engine_.add_request(std::move(request)), std::move(item));
}

void GenerateRun::write_finished() {
  for (const RequestOutput& output : engine_.take_outputs()) {
    const auto found = inflight_.find(output.id);
    const InputItem& item = found->second;
    writer_.write(item.index, formatter_.format(item, output));
    ++num_rows_done_;
    if (!output.error.empty()) note_failure(item, output.error);
    if (!has_given_up()) {
      num_numeric_errors_ = output.error.code == "numeric" ? num_numeric_errors_ + 1 : 0;
    }
    inflight_.erase(found);
  }
}

void GenerateRun::write_error(const InputItem& item, const RequestError& error) {
  writer_.write(item.index, formatter_.format_error(item, error));
  ++num_rows_done_;
  note_failure(item, error);
}

void GenerateRun::note_failure(const InputItem& item, const RequestError& error) {
  if (num_rows_failed_++ > 0) return;
  first_failure_ = fmt::format("{}:{}: {}", reader_.name(), item.line, error.message);
}

bool GenerateRun::check_stop() {
  const int level = options_.stop_level ? options_.stop_level() : 0;
  if (level == 0) return false;
  if (!draining_) {
    draining_ = true;
    drain_deadline_ = engine_.now() + options_.drain_timeout_s;
  }
  return level >= 2 || engine_.now() > drain_deadline_;
}

GenerateProgress GenerateRun::progress() const {
  return {.num_rows_done = num_rows_done_,
          .num_rows_failed = num_rows_failed_,
          .first_failure = first_failure_,
          .num_rows_skipped = num_rows_skipped_,
          .num_rows_inflight = static_cast<std::int64_t>(inflight_.size()),
          .num_rows_total = reader_.estimated_rows(),
          .engine = engine_.stats()};
}

}  // namespace llmrun
