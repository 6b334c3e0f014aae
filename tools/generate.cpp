#include "tools/generate.h"

#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/engine_factory.h"
#include "tools/demo_model.h"
#include "tools/generate_report.h"
#include "tools/generate_run.h"

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

int run_generate(const GenerateOptions& options) {
  EngineConfig config = resolve(options.engine);
  config.model = model_or_demo(config.model);
  const InputFormat format = input_format(options);
  CreatedEngine created = create_engine(config, options.chat_template);
  const EngineDescription& description = created.description;
  const SamplingParams defaults = sampling_defaults(options, description);

  ReaderOptions reader_options;
  reader_options.format = format;
  reader_options.rows.rules.defaults = defaults;
  RequestReader reader(options.input, reader_options);

  const auto& tokenizer = created.prompts->tokenizer();
  RecordFormatter formatter({.return_token_ids = options.return_token_ids,
                             .input_name = reader.name(),
                             .model_name = config.model,
                             .fingerprint = description.model_fingerprint,
                             .created = static_cast<std::int64_t>(std::time(nullptr)),
                             .token_text = [&](TokenId id) {
                               return tokenizer == nullptr
                                          ? std::string()
                                          : std::string(tokenizer->token_bytes(id));
                             }});
  OutputWriter writer(open_output({.path = options.output, .inputs = {options.input}}),
                      {.order = output_order(options)});
  GenerateRun run(
      *created.engine, *created.prompts, reader, formatter, writer,
      {.max_inflight = static_cast<std::size_t>(
           options.max_inflight > 0 ? options.max_inflight
                                    : description.config.max_num_seqs * kInflightPerSequence)});
  if (!options.quiet) fmt::print(stderr, "{}", opening_report(description, defaults));
  const double start = created.engine->now();
  run.run();
  writer.close();
  if (!options.quiet) {
    fmt::print(stderr, "{}", closing_report(run.progress(), created.engine->now() - start));
  }
  return run.progress().num_rows_failed > 0 ? 1 : 0;
}

}  // namespace llmrun
