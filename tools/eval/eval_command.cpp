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

#include "engine/core/cpu_info.h"
#include "engine/core/error.h"
#include "engine/core/sha256.h"
#include "engine/core/version.h"
#include "tools/demo_model.h"
#include "tools/load_progress.h"

namespace llmrun {
namespace {

constexpr std::int32_t kMaxTokens = 512;  // OpenCompass's max_out_len; lm-eval has 256
// Sequences that wait in the engine for each that can run: enough to keep all slots busy.
constexpr std::int32_t kInflightPerSequence = 4;

std::vector<std::int32_t> parse_levels(const std::string& list) {
  std::vector<std::int32_t> levels;
  std::istringstream items(list + ",");
  for (std::string item; std::getline(items, item, ',');) {
    std::int32_t level = -1;
    const char* end = item.data() + item.size();
    const auto [parsed, error] = std::from_chars(item.data(), end, level);
    const bool is_repeated = std::find(levels.begin(), levels.end(), level) != levels.end();
    if (error != std::errc() || parsed != end || level < 0 || level > (1 << 16) || is_repeated) {
      throw Error(ErrorKind::kUsage,
                  fmt::format("--max-num-seqs takes numbers from 0 to 65536, each once, such as "
                              "1,4,16; got '{}'",
                              list));
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
                fmt::format("{}: holds {} questions; --num-fewshot asks for {}",
                            options.fewshot_file, examples.size(), options.num_fewshot));
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
          .kv_use = stats.kv_usage(),
          .draining = draining};
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

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
  options_.engine.config.model = model_or_demo(options_.engine.config.model);
  const EngineConfig& config = options_.engine.config;
  if (config.model.starts_with("shape:") && config.tokenizer.empty()) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{} has random weights and no tokenizer: there is nothing to evaluate",
                            config.model));
  }
  params_ = sampling_params();
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
  const std::vector<std::int32_t> levels = parse_levels(options_.max_num_seqs);
  std::vector<Case> cases;
  for (const EngineCase& backend : backend_cases(options_.engine)) {
    for (const std::int32_t level : levels) {
      Case one{.backend = backend.name, .max_num_seqs = level, .engine = backend};
      one.engine.config.max_num_seqs = level;
      if (levels.size() > 1) one.engine.name = fmt::format("{}@{}", backend.name, level);
      cases.push_back(std::move(one));
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
  return eval_item(cases_[case_index].engine.name,
                   static_cast<std::int64_t>(case_index) * num_questions + place, place,
                   dataset_.questions[static_cast<std::size_t>(place)], params_);
}

bool EvalCommand::run() {
  for (std::size_t i = 0; i < cases_.size(); ++i) {
    if (run_case(i)) continue;
    if (writer_ != nullptr) {
      writer_->close();
      progress_.log("stopped; continue by: " + resume_command(command_line_));
    }
    return false;
  }
  if (writer_ != nullptr) writer_->close();
  add_runs(report_, runs_,
           {.dataset = dataset_,
            .extractor = extractor_,
            .rule = rule_,
            .repetitions = options_.repetitions,
            .early_stop = options_.early_stop});
  return true;
}

bool EvalCommand::run_case(std::size_t case_index) {
  const Case& one = cases_[case_index];
  const auto load_start = std::chrono::steady_clock::now();
  CreatedEngine created = create_engine(one.engine.config, options_.chat_template,
                                        log_loading(progress_, options_.quiet));
  EvalCaseRun run;
  run.name = one.engine.name;
  run.backend = one.backend;
  run.max_num_seqs = one.max_num_seqs;
  run.flags = flags_of(created.description.config);
  run.load_s = seconds_since(load_start);
  if (options_.apply_chat_template && !created.prompts->has_chat_template()) {
    throw Error(ErrorKind::kUsage,
                "--apply-chat-template: the model has no chat template; name one by "
                "--chat-template, or leave the flag away");
  }
  if (case_index == 0) {
    describe(created.description);
    begin_output(created.description);
  }
  if (!options_.quiet) {
    progress_.log(fmt::format("{}: {}", run.name, run.flags));
    for (const std::string& note : created.description.notes) progress_.log("note: " + note);
  }

  const auto num_questions = std::ssize(dataset_.questions);
  run.results.resize(static_cast<std::size_t>(num_questions));
  std::vector<std::int64_t> missing;
  for (std::int64_t place = 0; place < num_questions; ++place) {
    const auto found = earlier_.find({run.name, place});
    if (found == earlier_.end()) {
      missing.push_back(place);
      continue;
    }
    run.elapsed_s = std::max(run.elapsed_s, found->second.finished_s);
    run.results[static_cast<std::size_t>(place)] = std::move(found->second);
    ++run.num_resumed;
  }

  EngineAnswers source(created);
  const auto stop_level = [this] {
    const int level = static_cast<int>(signals_.stop_request());
    return level > 0 && writer_ == nullptr ? 2 : level;  // nothing would be kept
  };
  EvalRun::Options run_options;
  run_options.repetitions = options_.repetitions;
  run_options.early_stop = options_.early_stop;
  run_options.rule = rule_;
  run_options.seed = one.engine.config.seed;
  const std::int32_t max_num_seqs = created.description.config.max_num_seqs;
  run_options.max_inflight = static_cast<std::size_t>(
      std::max(1, kInflightPerSequence * max_num_seqs / options_.repetitions));
  run_options.elapsed_before_s = run.elapsed_s;
  run_options.drain_timeout_s = options_.long_run.drain_timeout_s;
  run_options.stop_level = stop_level;
  run_options.on_finished = [&](const QuestionResult& result) {
    const auto place = static_cast<std::size_t>(result.question);
    if (writer_ != nullptr) {
      const InputItem item = item_of(case_index, result.question);
      writer_->write(item.index, eval_record(item, run.name, dataset_.questions[place], result,
                                             extractor_, fingerprint_));
    }
    run.results[place] = result;
  };
  run_options.on_progress = [&](std::int64_t num_done) {
    progress_.update(snapshot(source.stats(), num_done, run.num_resumed, num_questions,
                              signals_.stop_request() != StopRequest::kNone),
                     created.engine->now());
  };
  EvalRun eval(
      source, dataset_.questions, extractor_,
      [this](const EvalQuestion& question) { return make_request(question); },
      std::move(run_options));
  const bool is_complete = eval.run(missing);
  if (!missing.empty()) run.elapsed_s = eval.elapsed_s();
  progress_.finish();
  if (is_complete) runs_.push_back(std::move(run));
  return is_complete;
}

void EvalCommand::describe(const EngineDescription& description) {
  report_.device = description.device;
  report_.model = description.config.model;
  report_.dtype = to_string(description.dtype);
  log(fmt::format("model: {} ({:.1f} M parameters, {})\ndevice: {}", report_.model,
                  static_cast<double>(description.num_parameters) / 1e6, report_.dtype,
                  report_.device));
}

RunManifest EvalCommand::make_manifest(const EngineDescription& description) const {
  RunManifest manifest;
  manifest.llmrun_version = kVersion;
  manifest.model_name = description.config.model;
  manifest.model_fingerprint = description.model_fingerprint;
  manifest.input_name = options_.input;
  manifest.input = identify_input(options_.input);
  manifest.generation = {{"command", "eval"},
                         {"seed", description.config.seed},
                         {"prompt", style_.name},
                         {"apply_chat_template", options_.apply_chat_template},
                         {"chat_template", options_.chat_template},
                         {"system_instruction", options_.system_instruction},
                         {"num_fewshot", options_.num_fewshot},
                         {"dtype", to_string(description.dtype)},
                         {"kv_cache_dtype", to_string(description.kv_cache_dtype)},
                         {"max_model_len", options_.engine.config.max_model_len},
                         {"repetitions", options_.repetitions},
                         {"early_stop", options_.early_stop}};
  // Which samples an early stop leaves out depends on what is voted on.
  if (options_.early_stop) manifest.generation["rule"] = to_string(rule_);
  std::string examples;
  for (const EvalQuestion& example : examples_) examples += example.content_hash;
  manifest.generation["fewshot"] = to_hex(sha256(examples));
  manifest.generation.update(effective_sampling(params_));
  manifest.options = to_json(description.config);
  manifest.options["git_commit"] = kGitCommit;
  return manifest;
}

void EvalCommand::begin_output(const EngineDescription& description) {
  if (output_ == nullptr) return;
  const RunManifest manifest = make_manifest(description);
  fingerprint_ = run_fingerprint(manifest);
  StartedRun started = start_run(*output_, manifest, resume_options(options_.long_run));
  for (const std::string& note : started.notes) log(note);
  claim_earlier_results(started.finished, fingerprint_);
  OutputWriter::Options writer = writer_options(options_.long_run);
  if (options_.samples != "-") writer.resume_command = resume_command(command_line_);
  writer_ = std::make_unique<OutputWriter>(std::move(output_), std::move(writer));
}

void EvalCommand::claim_earlier_results(FinishedRows& finished, const std::string& fingerprint) {
  if (finished.size() == 0) return;
  EvalResults results = read_eval_records(options_.samples);
  for (std::size_t i = 0; i < cases_.size(); ++i) {
    for (std::int64_t place = 0; place < std::ssize(dataset_.questions); ++place) {
      const InputItem item = item_of(i, place);
      if (!finished.claim(item, input_hash(item, fingerprint))) continue;
      const std::pair<std::string, std::int64_t> key = {cases_[i].engine.name, place};
      earlier_[key] = std::move(results[key]);
    }
  }
  finished.check_all_claimed();
}

}  // namespace llmrun
