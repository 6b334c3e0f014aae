#include "tools/generate/generate.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "engine/core/version.h"
#include "engine/engine_factory.h"
#include "tools/demo_model.h"
#include "tools/generate/generate_report.h"
#include "tools/generate/generate_run.h"
#include "tools/output/run_resume.h"
#include "tools/progress.h"
#include "tools/signals.h"

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

void add_durability_options(CLI::App& command, GenerateOptions& options) {
  const std::string group = "Long runs";
  command
      .add_flag("--resume", options.resume, "Go on with the rows that the output has no record of")
      ->group(group);
  command
      .add_flag(
          "--force-resume", options.force_resume,
          "Resume although the model, the options or the input differ from those of the output")
      ->group(group);
  command
      .add_flag("--retry-errors", options.retry_errors, "With --resume: run rows again that failed")
      ->group(group);
  command.add_flag("--overwrite", options.overwrite, "Replace an existing output")->group(group);
  command
      .add_option("--durability", options.durability,
                  "When records are synced to disk: interval, each or none")
      ->check(CLI::IsMember({"interval", "each", "none"}))
      ->group(group)
      ->capture_default_str();
  command.add_option("--sync-interval", options.sync_interval_ms, "Milliseconds between syncs")
      ->check(CLI::Range(1, 3600000))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--disk-wait", options.disk_wait_s,
                  "Seconds to wait for room when the disk is full, before the run ends")
      ->check(CLI::Range(0.0, 1e6))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--max-inflight", options.max_inflight,
                  "Requests in the engine at once (0: 4 for each of --max-num-seqs)")
      ->check(CLI::Range(0, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--drain-timeout", options.drain_timeout_s,
                  "Seconds that requests under way may take after the first SIGINT or SIGTERM")
      ->check(CLI::Range(0.0, 1e9))
      ->group(group)
      ->capture_default_str();
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

SamplingParams sampling_defaults(const GenerateOptions& options,
                                 const EngineDescription& description) {
  SamplingParams params;
  if (options.sampling.generation_config == "auto") {
    params = default_sampling_params(description.generation_defaults);
  }
  apply(options.sampling, params);
  if (const auto problem = validate(params, {})) throw Error(ErrorKind::kUsage, *problem);
  return params;
}

ExistingOutput existing_output(const GenerateOptions& options) {
  if (options.overwrite && (options.resume || options.force_resume)) {
    throw Error(ErrorKind::kUsage,
                "--overwrite and --resume contradict each other; give one of them");
  }
  if (options.retry_errors && !options.resume && !options.force_resume) {
    throw Error(ErrorKind::kUsage, "--retry-errors needs --resume");
  }
  if (options.resume || options.force_resume) return ExistingOutput::kResume;
  return options.overwrite ? ExistingOutput::kOverwrite : ExistingOutput::kRefuse;
}

// The command that continues this run: without --overwrite, with --resume.
std::string resume_command(std::string command_line) {
  const std::string overwrite = " --overwrite";
  if (const std::size_t at = command_line.find(overwrite); at != std::string::npos) {
    command_line.erase(at, overwrite.size());
  }
  return command_line.find("--resume") == std::string::npos ? command_line + " --resume"
                                                            : command_line;
}

// One log line for each line of `text`.
void log_lines(Progress& progress, const std::string& text) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    progress.log(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
  }
}

CreatedEngine load_engine(const EngineConfig& config, const GenerateOptions& options,
                          Progress& progress) {
  constexpr std::uint64_t kBytesPerLine = std::uint64_t{1} << 30;  // a line for each GiB
  std::uint64_t next_line = kBytesPerLine;
  return create_engine(config, options.chat_template, [&](LoadProgressReport report) {
    if (options.quiet || report.done_bytes < next_line) return;
    next_line = report.done_bytes + kBytesPerLine;
    progress.log(fmt::format("loading: {:.1f} of {:.1f} GiB",
                             static_cast<double>(report.done_bytes) / (1 << 30),
                             static_cast<double>(report.total_bytes) / (1 << 30)));
  });
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
                             const CreatedEngine& created, const SignalWatcher& signals) {
  // A longer prompt cannot fit, whatever its tokens are; it is refused before it is tokenised.
  constexpr std::size_t kMaxBytesPerToken = 256;
  ReaderOptions reader;
  reader.format = input_format(options);
  reader.rows.rules.defaults = defaults;
  reader.rows.rules.limits.vocab_size = created.engine->options().vocab_size;
  reader.rows.rules.prompt_field = options.prompt_field;
  reader.rows.rules.max_prompt_bytes =
      static_cast<std::size_t>(created.engine->options().max_model_len) * kMaxBytesPerToken;
  reader.stopped = [&signals] { return signals.stop_request() != StopRequest::kNone; };
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
  OutputWriter::Options writer;
  writer.order = output_order(options);
  writer.durability = *durability_from(options.durability);
  writer.sync_interval = std::chrono::milliseconds(options.sync_interval_ms);
  writer.disk_wait =
      std::chrono::milliseconds(static_cast<std::int64_t>(options.disk_wait_s * 1e3));
  if (options.output != "-") writer.resume_command = resume_command(command_line);
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
  run.drain_timeout_s = options.drain_timeout_s;
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
    progress.log(fmt::format("{}: {} unknown fields were ignored, the first was \"{}\"",
                             reader.name(), reader.ignored_fields().count,
                             reader.ignored_fields().first));
  }
  for (const auto& [reason, count] : reader.num_skipped()) {
    progress.log(fmt::format("{}: {} conversations skipped: {}", reader.name(), count, reason));
  }
}

}  // namespace

void add_generate_command(CLI::App& command, GenerateOptions& options) {
  add_input_options(command, options);
  add_durability_options(command, options);
  add_engine_options(command, options.engine);
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
  static_cast<void>(input_format(options));  // a bad name is told before the model is loaded
  const SignalWatcher signals;
  // Locked before the model is loaded: a mistaken path or a second run is told at once.
  std::unique_ptr<LockedFile> output = open_output(
      {.path = options.output, .existing = existing_output(options), .inputs = {options.input}});
  Progress progress({.style = terminal_style(STDERR_FILENO, *color_mode_from(options.color)),
                     .quiet = options.quiet});
  const CreatedEngine created = load_engine(config, options, progress);
  const EngineDescription& description = created.description;
  const SamplingParams defaults = sampling_defaults(options, description);

  const RunManifest manifest = make_manifest(options, description, defaults);
  StartedRun started = start_run(*output, manifest,
                                 {.resume = options.resume || options.force_resume,
                                  .force = options.force_resume,
                                  .retry_errors = options.retry_errors});
  if (!options.quiet) {
    log_lines(progress, opening_report(description, defaults));
    for (const std::string& note : started.notes) progress.log(note);
    warn_about_space(options, manifest, progress);
  }

  RequestReader reader(options.input, reader_options(options, defaults, created, signals));
  const RecordFormatter formatter = make_formatter(options, created, reader.name(), manifest);
  OutputWriter writer(std::move(output), writer_options(options, command_line));
  GenerateRun run(*created.engine, *created.prompts, reader, formatter, writer,
                  run_options(options, created, started, manifest, signals, progress));

  const double start = created.engine->now();
  run.run();
  writer.close();
  progress.finish();
  const GenerateProgress result = run.progress();
  if (!options.quiet) {
    log_lines(progress, closing_report(result, created.engine->now() - start));
    warn_about_input(reader, progress);
  }
  if (run.was_stopped() && !writer.reader_gone()) {
    if (options.output != "-")
      progress.log("stopped; continue by: " + resume_command(command_line));
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
