#include "tools/eval/eval_command.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <sstream>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include "engine/core/counted.h"
#include "engine/core/cpu_info.h"
#include "engine/core/error.h"
#include "engine/core/sha256.h"
#include "engine/core/version.h"
#include "tools/demo_model.h"
#include "tools/load_progress.h"
#include "tools/report/step_summary.h"
#include "tools/throughput/throughput_run.h"

namespace llmrun {
namespace {

constexpr std::int32_t kMaxTokens = 512;  // OpenCompass's max_out_len; lm-eval has 256
// Sequences that wait in the engine for each that can run: enough to keep all slots busy.
constexpr std::int32_t kInflightPerSequence = 4;

std::vector<std::int32_t> parse_levels(const char* flag, const std::string& list,
                                       std::int32_t least) {
  std::vector<std::int32_t> levels;
  std::istringstream items(list + ",");
  for (std::string item; std::getline(items, item, ',');) {
    std::int32_t level = -1;
    const char* end = item.data() + item.size();
    const auto [parsed, error] = std::from_chars(item.data(), end, level);
    const bool is_repeated = std::find(levels.begin(), levels.end(), level) != levels.end();
    if (error != std::errc() || parsed != end || level < least || level > (1 << 16) ||
        is_repeated) {
      throw Error(ErrorKind::kUsage,
                  fmt::format("{} takes numbers from {} to 65536, each once, such as 1,4,16; got "
                              "'{}'",
                              flag, least, list));
    }
    levels.push_back(level);
  }
  return levels;
}

ExtractionRule main_rule(const EvalOptions& options, const PromptStyle& style) {
  if (options.rule.empty()) return style.rule;
  return *extraction_rule_from(options.rule);
}

std::vector<EvalQuestion> read_examples(const EvalOptions& options) {
  if (options.num_fewshot == 0) return {};
  if (options.fewshot_file.empty()) {
    throw Error(ErrorKind::kUsage,
                "--num-fewshot needs --fewshot-file: solved questions in the same format");
  }
  std::vector<EvalQuestion> examples =
      read_eval_dataset(options.fewshot_file, options.num_fewshot, "").questions;
  if (std::ssize(examples) < options.num_fewshot) {
    throw Error(ErrorKind::kInput,
                fmt::format("{}: holds {}; --num-fewshot asks for {}", options.fewshot_file,
                            counted(std::ssize(examples), "question"), options.num_fewshot));
  }
  return examples;
}

void refuse_leaks(const std::vector<EvalQuestion>& examples, const EvalDataset& dataset,
                  const std::string& fewshot_file) {
  for (const EvalQuestion& example : examples) {
    const auto same = std::find_if(
        dataset.questions.begin(), dataset.questions.end(),
        [&](const EvalQuestion& question) { return question.question == example.question; });
    if (same == dataset.questions.end()) continue;
    throw Error(ErrorKind::kInput,
                fmt::format("{}:{}: this example is the question of {}:{}; its answer would be in "
                            "the prompt",
                            fewshot_file, example.line, dataset.path, same->line));
  }
}

ProgressSnapshot snapshot(const EngineStats& stats, std::int64_t num_done, std::int64_t num_earlier,
                          std::int64_t num_total, bool draining) {
  return {.num_done = num_done + num_earlier,
          .num_earlier = num_earlier,
          .num_failed = stats.num_requests_failed,
          .num_total = num_total,
          .num_running = stats.num_sequences_running,
          .num_waiting = stats.num_sequences_waiting,
          .prompt_tokens = stats.num_batched_tokens - stats.num_output_tokens,
          .output_tokens = stats.num_output_tokens,
          .kv_use = stats.kv_blocks_total > 0 ? std::optional(stats.kv_usage()) : std::nullopt,
          .draining = draining};
}

// The same way to choose tokens; nothing ends an answer early.
SamplingParams warm_up_sampling(SamplingParams params) {
  params.ignore_eos = true;
  params.min_tokens = 0;
  params.stop.clear();
  params.stop_token_ids.clear();
  return params;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::int64_t num_warm_up_requests(std::string_view device, std::int64_t num_samples,
                                  std::int32_t max_num_seqs) {
  constexpr std::int64_t kMostOnCpu = 64;
  const std::int64_t at_once = std::min<std::int64_t>(num_samples, max_num_seqs);
  return device == "cpu" ? std::min(at_once, kMostOnCpu) : at_once;
}

EvalCommand::EvalCommand(const EvalOptions& options, std::string command_line)
    : options_(options),
      command_line_(std::move(command_line)),
      progress_({.style = terminal_style(STDERR_FILENO, *color_mode_from(options.color)),
                 .quiet = options.quiet}),
      style_(prompt_style(options.prompt)),
      extractor_(style_.strict),
      rule_(main_rule(options, style_)),
      dataset_(read_eval_dataset(options.input, options.limit, options.group_field)),
      examples_(read_examples(options)) {
  refuse_leaks(examples_, dataset_, options_.fewshot_file);
  if (options_.engine.backend.empty() && options_.server.base_url.empty()) {
    options_.engine.backend = "paged";
  }
  const bool has_engine = !options_.engine.backend.empty();
  EngineConfig& config = options_.engine.config;
  const std::string model_name = has_engine ? "" : config.model;
  if (has_engine) config.model = model_or_demo(config.model);
  if (has_engine && config.model.starts_with("shape:") && config.tokenizer.empty()) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{} has random weights and no tokenizer: there is nothing to evaluate",
                            config.model));
  }
  params_ = sampling_params();
  if (!options_.server.base_url.empty()) {
    server_ = find_api_server(options_.server, model_name,
                              [this] { return signals_.stop_request() != StopRequest::kNone; });
  }
  cases_ = make_cases();
  if (!options_.samples.empty()) {
    std::vector<std::string> inputs = {options_.input};
    if (!options_.fewshot_file.empty()) inputs.push_back(options_.fewshot_file);
    output_ = open_output({.path = options_.samples,
                           .existing = existing_output(options_.long_run),
                           .inputs = std::move(inputs)});
  } else if (options_.long_run.resume || options_.long_run.force_resume) {
    throw Error(ErrorKind::kUsage, "--resume needs --samples: the file that an earlier run wrote");
  }
  report_.command_line = command_line_;
  report_.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  report_.processor = read_cpu_info().model_name;
  report_.task = std::filesystem::path(options_.input).stem().string();
  report_.path = options_.input;
  report_.file_sha256 = dataset_.sha256;
  report_.num_questions = std::ssize(dataset_.questions);
  report_.prompt = style_.name;
  report_.is_chat = options_.apply_chat_template;
  report_.num_fewshot = options_.num_fewshot;
  report_.fewshot_path = options_.num_fewshot > 0 ? options_.fewshot_file : "";
  report_.sampling = effective_sampling(params_);
  report_.repetitions = options_.repetitions;
  report_.early_stop = options_.early_stop;
  report_.rule = rule_;
  report_.group_field = options_.group_field;
}

void EvalCommand::log(std::string_view line) {
  if (!options_.quiet) progress_.log(line);
}

SamplingParams EvalCommand::sampling_params() const {
  SamplingParams params;
  params.temperature = 0;
  params.max_tokens = kMaxTokens;
  params.stop = style_.stop;
  apply(options_.sampling, params);
  if (const auto problem = validate(params, {})) throw Error(ErrorKind::kUsage, *problem);
  if (options_.repetitions > 1 && params.temperature == 0) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--repetitions {} would give the same greedy answer {} times; add "
                            "--temperature, such as 0.7",
                            options_.repetitions, options_.repetitions));
  }
  if (options_.early_stop && options_.repetitions < 3) {
    throw Error(ErrorKind::kUsage, "--early-stop needs --repetitions 3 or more: a vote");
  }
  return params;
}

std::vector<EvalCommand::Case> EvalCommand::make_cases() const {
  std::vector<Case> cases;
  const auto add = [&](Case one, std::size_t num_levels) {
    const std::string level = num_levels > 1 ? fmt::format("@{}", one.max_num_seqs) : "";
    one.name = one.backend + level;
    one.key += level;
    cases.push_back(std::move(one));
  };
  if (!options_.engine.backend.empty()) {
    const auto levels = parse_levels("--max-num-seqs", options_.max_num_seqs, 0);
    for (const EngineCase& backend : backend_cases(options_.engine)) {
      for (const std::int32_t level : levels) {
        EngineCase engine = backend;
        engine.config.max_num_seqs = level;
        add({.name = {},
             .backend = backend.name,
             .key = backend.name,
             .max_num_seqs = level,
             .engine = engine},
            levels.size());
      }
    }
  }
  if (server_) {
    const auto levels = parse_levels("--max-concurrency", options_.max_concurrency, 1);
    const bool is_taken = std::any_of(
        cases.begin(), cases.end(), [&](const Case& one) { return one.backend == server_->model; });
    const std::string key = (is_taken ? "server " : "") + server_->model;
    const std::string name = server_->base_url.authority() + " " + server_->model;
    for (const std::int32_t level : levels) {
      add({.name = {}, .backend = name, .key = key, .max_num_seqs = level, .engine = {}},
          levels.size());
    }
  }
  return cases;
}

AnswerRequest EvalCommand::make_request(const EvalQuestion& question) const {
  AnswerRequest request;
  if (options_.apply_chat_template) {
    request.messages = chat_prompt(style_, options_.system_instruction, examples_, question);
  } else {
    request.prompt = completion_prompt(style_, examples_, question);
  }
  request.params = params_;
  return request;
}

InputItem EvalCommand::item_of(std::size_t case_index, std::int64_t place) const {
  const auto num_questions = std::ssize(dataset_.questions);
  return eval_item(cases_[case_index].key,
                   static_cast<std::int64_t>(case_index) * num_questions + place, place,
                   dataset_.questions[static_cast<std::size_t>(place)], params_);
}

void EvalCommand::run() {
  for (std::size_t i = 0; i < cases_.size() && !report_.was_stopped; ++i) {
    report_.was_stopped = !run_case(i);
  }
  if (writer_ != nullptr) {
    writer_->close();
    if (report_.was_stopped) {
      progress_.log("stopped; continue by: " + resume_command(options_.long_run, command_line_));
    }
  }
  add_runs(report_, runs_,
           {.dataset = dataset_,
            .extractor = extractor_,
            .rule = rule_,
            .repetitions = options_.repetitions,
            .early_stop = options_.early_stop});
}

OpenedSource EvalCommand::open(const Case& one) {
  if (one.engine) {
    return open_engine(one.engine->config, options_.chat_template, options_.apply_chat_template,
                       log_loading(progress_, options_.quiet));
  }
  SendLimits limits = options_.limits;
  limits.max_concurrency = one.max_num_seqs;
  return open_server(*server_, limits);
}

bool EvalCommand::run_case(std::size_t case_index) {
  const Case& one = cases_[case_index];
  EvalCaseRun run;
  run.name = one.name;
  run.backend = one.backend;
  run.max_num_seqs = one.max_num_seqs;
  const auto load_start = std::chrono::steady_clock::now();
  const OpenedSource source = open(one);
  run.load_s = seconds_since(load_start);
  run.flags = source.flags;
  if (case_index == 0) {
    describe(source);
    begin_output(source);
  }
  log(fmt::format("{}: {}", run.name, run.flags));
  for (const std::string& note : source.notes) log("note: " + note);

  const std::vector<std::int64_t> missing = take_earlier_results(one.key, run);
  const Watchdog watchdog(signals_, watchdog_options(source));
  EvalRun eval(
      *source.answers, dataset_.questions, extractor_,
      [this](const EvalQuestion& question) { return make_request(question); },
      run_options(case_index, run, source));
  const bool is_complete = run_recorded(eval, missing, source, run);
  if (!missing.empty()) run.elapsed_s = eval.elapsed_s();
  progress_.finish();
  run.is_partial = !is_complete;
  if (run.num_answered() > 0) runs_.push_back(std::move(run));
  return is_complete;
}

void EvalCommand::warm_up(CreatedEngine& created, std::int64_t num_questions, EvalCaseRun& run) {
  constexpr std::int32_t kPromptLen = 32;
  constexpr std::int32_t kOutputLen = 64;  // batches of 1024 shrink to 1 in fewer steps
  LlmEngine& engine = *created.engine;
  const EngineConfig& config = created.description.config;
  const std::int32_t most = engine.options().max_model_len / 4;
  if (num_questions == 0 || most == 0) return;
  const auto start = std::chrono::steady_clock::now();
  run.num_warm_up_requests = num_warm_up_requests(
      resolved_device(config), num_questions * options_.repetitions, config.max_num_seqs);
  Workload workload;
  workload.seed = config.seed;
  workload.requests.assign(static_cast<std::size_t>(run.num_warm_up_requests),
                           {.prompt_token_ids = std::vector<TokenId>(
                                static_cast<std::size_t>(std::min(kPromptLen, most))),
                            .output_len = std::min(kOutputLen, most)});
  RunOptions run_options;
  run_options.sampling = warm_up_sampling(params_);
  run_options.should_stop = [this] { return signals_.stop_request() != StopRequest::kNone; };
  Progress silent({.style = {}, .quiet = true});
  static_cast<void>(run_workload(
      engine, warm_up_workload(workload, run.num_warm_up_requests, engine.options().vocab_size),
      run_options, silent));
  engine.reset_prefix_cache();
  run.warm_up_s = seconds_since(start);
}

bool EvalCommand::run_recorded(EvalRun& eval, const std::vector<std::int64_t>& places,
                               const OpenedSource& source, EvalCaseRun& run) {
  if (source.engine == nullptr) return eval.run(places);
  LlmEngine& engine = *source.engine->engine;
  warm_up(*source.engine, std::ssize(places), run);
  StepSummary steps;
  engine.record_steps([&steps](const StepRecord& step) { steps.add(step); });
  const double start_s = engine.now();
  const bool is_complete = eval.run(places);
  // A step that was planned ahead may still compute tokens that nobody waits for.
  engine.abort_all();
  while (engine.has_unfinished()) engine.step();
  engine.record_steps({});
  run.timeline = steps.timeline(start_s, engine.now(), engine.stats().kv_blocks_total);
  run.decode_batches = steps.decode_batches();
  return is_complete;
}

std::vector<std::int64_t> EvalCommand::take_earlier_results(const std::string& key,
                                                            EvalCaseRun& run) {
  std::vector<std::int64_t> missing;
  run.results.resize(dataset_.questions.size());
  for (std::int64_t place = 0; place < std::ssize(dataset_.questions); ++place) {
    QuestionResult& result = run.results[static_cast<std::size_t>(place)];
    const auto found = earlier_.find({key, place});
    if (found == earlier_.end()) {
      result.question = place;
      missing.push_back(place);
      continue;
    }
    result = std::move(found->second);
    run.elapsed_s = std::max(run.elapsed_s, result.finished_s);
    ++run.num_resumed;
  }
  return missing;
}

EvalRun::Options EvalCommand::run_options(std::size_t case_index, EvalCaseRun& run,
                                          const OpenedSource& source) {
  EvalRun::Options run_options;
  run_options.repetitions = options_.repetitions;
  run_options.early_stop = options_.early_stop;
  run_options.rule = rule_;
  run_options.seed = options_.engine.config.seed;
  run_options.max_inflight = static_cast<std::size_t>(
      std::max(1, kInflightPerSequence * source.max_num_seqs / options_.repetitions));
  run_options.elapsed_before_s = run.elapsed_s;
  run_options.drain_timeout_s = options_.long_run.drain_timeout_s;
  run_options.stop_level = [this] {
    const int level = static_cast<int>(signals_.stop_request());
    return level > 0 && writer_ == nullptr ? 2 : level;  // what is under way would be kept nowhere
  };
  run_options.on_finished = [this, case_index, &run](const QuestionResult& result) {
    const auto place = static_cast<std::size_t>(result.question);
    if (writer_ != nullptr) {
      const InputItem item = item_of(case_index, result.question);
      writer_->write(item.index,
                     eval_record(item, cases_[case_index].key, dataset_.questions[place], result,
                                 extractor_, fingerprint_));
    }
    run.results[place] = result;
  };
  run_options.on_progress = [this, &run, &source,
                             start = std::chrono::steady_clock::now()](std::int64_t num_done) {
    progress_.update(
        snapshot(source.answers->stats(), num_done, run.num_resumed, std::ssize(dataset_.questions),
                 signals_.stop_request() != StopRequest::kNone),
        seconds_since(start));
  };
  return run_options;
}

Watchdog::Options EvalCommand::watchdog_options(const OpenedSource& source) {
  Watchdog::Options watchdog;
  if (source.engine != nullptr) {
    watchdog.progress = [engine = source.engine->engine.get()] { return engine->progress(); };
  }
  watchdog.stall_timeout_s = options_.long_run.stall_timeout_s;
  watchdog.drain_timeout_s = options_.long_run.drain_timeout_s;
  if (writer_ != nullptr) watchdog.on_end = [this] { return writer_->save(); };
  return watchdog;
}

void EvalCommand::describe(const OpenedSource& source) {
  report_.device = source.device;
  report_.model = source.model;
  report_.dtype = source.dtype;
  const std::string size =
      source.num_parameters > 0
          ? fmt::format(" ({:.1f} M parameters, {})",
                        static_cast<double>(source.num_parameters) / 1e6, source.dtype)
          : "";
  log(fmt::format("model: {}{}\ndevice: {}", source.model, size, source.device));
}

RunManifest EvalCommand::make_manifest(const OpenedSource& source) const {
  RunManifest manifest;
  manifest.llmrun_version = kVersion;
  manifest.model_name = source.model;
  manifest.model_fingerprint = source.model_fingerprint;
  manifest.input_name = options_.input;
  manifest.input = identify_input(options_.input);
  manifest.generation = {{"command", "eval"},
                         {"seed", options_.engine.config.seed},
                         {"prompt", style_.name},
                         {"apply_chat_template", options_.apply_chat_template},
                         {"chat_template", options_.chat_template},
                         {"system_instruction", options_.system_instruction},
                         {"num_fewshot", options_.num_fewshot},
                         {"repetitions", options_.repetitions},
                         {"early_stop", options_.early_stop}};
  manifest.generation.update(source.generation);
  if (server_) {
    manifest.generation["served_model_name"] = server_->model;
    manifest.generation["extra_body"] = server_->extra_body;
  }
  // Which samples an early stop leaves out depends on what is voted on.
  if (options_.early_stop) manifest.generation["rule"] = to_string(rule_);
  std::string examples;
  for (const EvalQuestion& example : examples_) examples += example.content_hash;
  manifest.generation["fewshot"] = to_hex(sha256(examples));
  manifest.generation.update(effective_sampling(params_));
  manifest.options = source.options;
  return manifest;
}

void EvalCommand::begin_output(const OpenedSource& source) {
  if (output_ == nullptr) return;
  const RunManifest manifest = make_manifest(source);
  fingerprint_ = run_fingerprint(manifest);
  StartedRun started = start_run(*output_, manifest, resume_options(options_.long_run));
  for (const std::string& note : started.notes) log(note);
  claim_earlier_results(started.finished, fingerprint_);
  OutputWriter::Options writer = writer_options(options_.long_run);
  if (options_.samples != "-")
    writer.resume_command = resume_command(options_.long_run, command_line_);
  writer_ = std::make_unique<OutputWriter>(std::move(output_), std::move(writer));
}

void EvalCommand::claim_earlier_results(FinishedRows& finished, const std::string& fingerprint) {
  if (finished.size() == 0) return;
  EvalResults results = read_eval_records(options_.samples);
  for (std::size_t i = 0; i < cases_.size(); ++i) {
    for (std::int64_t place = 0; place < std::ssize(dataset_.questions); ++place) {
      const InputItem item = item_of(i, place);
      if (!finished.claim(item, input_hash(item, fingerprint))) continue;
      const std::pair<std::string, std::int64_t> key = {cases_[i].key, place};
      earlier_[key] = std::move(results[key]);
    }
  }
  finished.check_all_claimed();
}

}  // namespace llmrun
