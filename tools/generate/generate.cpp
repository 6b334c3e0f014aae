#include "tools/generate/generate.h"

#include <ctime>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/version.h"
#include "engine/engine_factory.h"
#include "tools/demo_model.h"
#include "tools/generate/generate_report.h"
#include "tools/generate/generate_run.h"
#include "tools/load_progress.h"
#include "tools/output/run_resume.h"
#include "tools/progress.h"
#include "tools/signals.h"
#include "tools/terminal.h"
#include "tools/watchdog.h"

namespace llmrun {
namespace {

// Requests in the engine for each sequence that can run: enough to keep all slots busy.
constexpr std::int32_t kInflightPerSequence = 4;

void add_input_options(CLI::App& command, GenerateOptions& options) {
  const std::string group = "Input and output";
  command.add_option("input", options.input, "File of prompts; - is standard input")
      ->required()
      ->group(group);
  command
      .add_option("-o,--output", options.output, "File to append answers to; - is standard output")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--format", options.format,
                  "Of the input: auto, jsonl, text (a prompt a line), sharegpt or openai-batch")
      ->group(group)
      ->capture_default_str();
  command.add_option("--prompt-field", options.prompt_field, "Key of the prompt in JSON lines")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--order", options.order,
                  "input: answers in the order of the prompts; completion: as they are finished "
                  "(default: input "
                  "on standard output, completion into a file)")
      ->check(CLI::IsMember({"input", "completion"}))
      ->group(group);
  command
      .add_option("--chat-template", options.chat_template,
                  "For messages: auto (the model's), none, a built-in name (vicuna, baichuan2, "
                  "chatml, llama2) "
                  "or a Jinja file")
      ->group(group)
      ->capture_default_str();
  command
      .add_flag("--return-token-ids", options.return_token_ids, "Add the token ids to the output")
      ->group(group);
}

OutputOrder output_order(const GenerateOptions& options) {
  if (options.order.empty()) {
    return options.output == "-" ? OutputOrder::kInput : OutputOrder::kCompletion;
  }
  return *output_order_from(options.order);
}

InputFormat input_format(const GenerateOptions& options) {
  if (const auto format = input_format_from(options.format)) return *format;
  throw Error(ErrorKind::kUsage,
              fmt::format("--format must be auto, jsonl, text, sharegpt or openai-batch, got '{}'",
                          options.format));
}

SamplingParams sampling_defaults(const GenerateOptions& options, const CreatedEngine& created) {
  SamplingParams params;
  if (options.sampling.generation_config == "auto") {
    params = default_sampling_params(created.description.generation_defaults);
  }
  apply(options.sampling, params);
  if (const auto problem = validate(params, created.engine->sampling_limits())) {
    throw Error(ErrorKind::kUsage, *problem);
  }
  return params;
}

RunManifest make_manifest(const GenerateOptions& options, const EngineDescription& description,
                          const SamplingParams& defaults) {
  RunManifest manifest;
  manifest.llmrun_version = kVersion;
  manifest.model_name = description.config.model;
  manifest.model_fingerprint = description.model_fingerprint;
  manifest.input_name = options.input;
  if (options.output != "-") manifest.input = identify_input(options.input);
  manifest.generation = {{"seed", description.config.seed},
                         {"chat_template", options.chat_template},
                         {"format", options.format},
                         {"dtype", to_string(description.dtype)},
                         {"kv_cache_dtype", to_string(description.kv_cache_dtype)},
                         {"max_model_len", description.config.max_model_len},
                         {"return_token_ids", options.return_token_ids}};
  manifest.generation.update(effective_sampling(defaults));
  manifest.options = to_json(description.config);
  manifest.options["git_commit"] = kGitCommit;
  return manifest;
}

ReaderOptions reader_options(const GenerateOptions& options, const SamplingParams& defaults,
                             const CreatedEngine& created) {
  // A longer prompt cannot fit, whatever its tokens are; it is refused before it is tokenised.
  constexpr std::size_t kMaxBytesPerToken = 256;
  ReaderOptions reader;
  reader.format = input_format(options);
  reader.rows.rules.defaults = defaults;
  reader.rows.rules.limits = created.engine->sampling_limits();
  reader.rows.rules.prompt_field = options.prompt_field;
  reader.rows.rules.max_prompt_bytes =
      static_cast<std::size_t>(created.engine->options().max_model_len) * kMaxBytesPerToken;
  return reader;
}

RecordFormatter make_formatter(const GenerateOptions& options, const CreatedEngine& created,
                               const std::string& input_name, const RunManifest& manifest) {
  return RecordFormatter({.return_token_ids = options.return_token_ids,
                          .input_name = input_name,
                          .model_name = manifest.model_name,
                          .fingerprint = run_fingerprint(manifest),
                          .created = static_cast<std::int64_t>(std::time(nullptr)),
                          .token_text = [tokenizer = created.prompts->tokenizer()](TokenId id) {
                            return tokenizer == nullptr ? std::string()
                                                        : std::string(tokenizer->token_bytes(id));
                          }});
}

OutputWriter::Options writer_options(const GenerateOptions& options,
                                     const std::string& command_line) {
  OutputWriter::Options writer = writer_options(options.long_run);
  writer.order = output_order(options);
  if (options.output != "-") writer.resume_command = resume_command(options.long_run, command_line);
  return writer;
}

ProgressSnapshot to_snapshot(const GenerateProgress& progress, bool draining) {
  const EngineStats& stats = progress.engine;
  return {.num_done = progress.num_rows_done + progress.num_rows_skipped,
          .num_earlier = progress.num_rows_skipped,
          .num_failed = progress.num_rows_failed,
          .num_total = progress.num_rows_total,
          .num_running = stats.num_sequences_running,
          .num_waiting = stats.num_sequences_waiting,
          .prompt_tokens = stats.num_batched_tokens - stats.num_output_tokens,
          .output_tokens = stats.num_output_tokens,
          .kv_use = stats.kv_usage(),
          .draining = draining};
}

GenerateRun::Options run_options(const GenerateOptions& options, const CreatedEngine& created,
                                 StartedRun& started, const RunManifest& manifest,
                                 const SignalWatcher& signals, Progress& progress) {
  GenerateRun::Options run;
  run.max_inflight = static_cast<std::size_t>(
      options.max_inflight > 0 ? options.max_inflight
                               : created.description.config.max_num_seqs * kInflightPerSequence);
  if (started.finished.size() > 0) {
    run.is_done = [&finished = started.finished,
                   fingerprint = run_fingerprint(manifest)](const InputItem& item) {
      return finished.claim(item, input_hash(item, fingerprint));
    };
  }
  run.stop_level = [&signals] { return static_cast<int>(signals.stop_request()); };
  run.drain_timeout_s = options.long_run.drain_timeout_s;
  run.on_progress = [&, engine = created.engine.get()](const GenerateProgress& now) {
    progress.update(to_snapshot(now, signals.stop_request() != StopRequest::kNone), engine->now());
  };
  return run;
}

// Answers take about as much room as their prompts, or more.
void warn_about_space(const GenerateOptions& options, const RunManifest& manifest,
                      Progress& progress) {
  if (options.output == "-" || !manifest.input) return;
  if (const auto warning = free_space_warning(options.output, manifest.input->num_bytes)) {
    progress.log(*warning);
  }
}

// What was odd about the input as a whole.
void warn_about_input(const RequestReader& reader, Progress& progress) {
  if (reader.ignored_fields().count > 0) {
    const IgnoredFields& ignored = reader.ignored_fields();
    const bool are_all = ignored.names.size() < IgnoredFields::kMaxNames;
    progress.log(fmt::format("{}: {} ignored: {}{}", reader.name(),
                             counted(ignored.count, "unknown field was", "unknown fields were"),
                             printable(fmt::format("{}", fmt::join(ignored.names, ", "))),
                             are_all ? "" : " ..."));
  }
  for (const auto& [reason, count] : reader.num_skipped()) {
    progress.log(
        fmt::format("{}: {} skipped: {}", reader.name(), counted(count, "conversation"), reason));
  }
}

}  // namespace

void add_generate_command(CLI::App& command, GenerateOptions& options) {
  add_input_options(command, options);
  add_long_run_options(command, options.long_run);
  command
      .add_option("--max-inflight", options.max_inflight,
                  "Requests in the engine at once (0: 4 for each of --max-num-seqs)")
      ->check(CLI::Range(0, 1 << 24))
      ->group("Long runs")
      ->capture_default_str();
  add_engine_options(command, options.engine);
  add_request_limit_options(command, options.engine.config);
  add_sampling_options(command, options.sampling);
  command.add_option("--color", options.color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->group("Messages")
      ->capture_default_str();
  command.add_flag("-q,--quiet", options.quiet, "Only errors on standard error")->group("Messages");
}

int run_generate(const GenerateOptions& options, const std::string& command_line) {
  EngineConfig config = resolve(options.engine);
  config.model = model_or_demo(config.model);
  static_cast<void>(input_format(options));
  const SignalWatcher signals;
  // Both before the model is loaded: a mistaken path or a second run is told at once.
  std::unique_ptr<LockedFile> output = open_output({.path = options.output,
                                                    .existing = existing_output(options.long_run),
                                                    .inputs = {options.input}});
  OpenedInput input = open_input(
      options.input, [&signals] { return signals.stop_request() != StopRequest::kNone; });
  Progress progress({.style = terminal_style(STDERR_FILENO, *color_mode_from(options.color)),
                     .quiet = options.quiet});
  const CreatedEngine created =
      create_engine(config, options.chat_template, log_loading(progress, options.quiet));
  const EngineDescription& description = created.description;
  const SamplingParams defaults = sampling_defaults(options, created);

  const RunManifest manifest = make_manifest(options, description, defaults);
  StartedRun started = start_run(*output, manifest, resume_options(options.long_run));
  if (!options.quiet) {
    progress.log_lines(opening_report(description, defaults));
    for (const std::string& note : started.notes) progress.log(note);
    warn_about_space(options, manifest, progress);
  }

  RequestReader reader(std::move(input), reader_options(options, defaults, created));
  const RecordFormatter formatter = make_formatter(options, created, reader.name(), manifest);
  OutputWriter writer(std::move(output), writer_options(options, command_line));
  GenerateRun run(*created.engine, *created.prompts, reader, formatter, writer,
                  run_options(options, created, started, manifest, signals, progress));
  const Watchdog watchdog(
      signals, {.progress = [engine = created.engine.get()] { return engine->progress(); },
                .stall_timeout_s = options.long_run.stall_timeout_s,
                .drain_timeout_s = options.long_run.drain_timeout_s,
                .on_end = [&writer] { return writer.save(); }});

  const double start = created.engine->now();
  run.run();
  writer.close();
  progress.finish();
  const GenerateProgress result = run.progress();
  if (!options.quiet) {
    progress.log_lines(closing_report(result, created.engine->now() - start));
    warn_about_input(reader, progress);
  }
  if (run.has_given_up()) {
    throw Error(ErrorKind::kModel,
                fmt::format("{} rows in a row had logits that are not finite: the weights are "
                            "damaged, or overflow in {} (--dtype float32 tells); to go on: "
                            "--resume --retry-errors",
                            GenerateRun::kMaxNumericErrors, to_string(description.dtype)));
  }
  if (run.was_stopped() && !writer.reader_gone()) {
    if (options.output != "-")
      progress.log("stopped; continue by: " + resume_command(options.long_run, command_line));
    return signals.first_signal() != 0 ? exit_code_of_signal(signals.first_signal()) : 1;
  }
  if (!run.was_stopped()) {
    reader.check_unchanged();
    started.finished.check_all_claimed();
    check_every_row_answered(reader.num_rows(), result.num_rows_done + result.num_rows_skipped);
    // A run that was stopped or whose errors were retried has left rows out of their order.
    if (output_order(options) == OutputOrder::kInput && started.finished.size() > 0) {
      sort_output(options.output);
    }
  }
  const auto num_failed_earlier = static_cast<std::int64_t>(started.finished.num_failed());
  return result.num_rows_failed + num_failed_earlier > 0 ? 1 : 0;
}

}  // namespace llmrun
