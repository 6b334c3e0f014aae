#include "tools/eval/eval.h"

#include <iostream>

#include "tools/eval/eval_command.h"
#include "tools/eval/eval_render.h"
#include "tools/signals.h"

namespace llmrun {
namespace {

constexpr std::int32_t kRetries = 6;  // half a minute in all

void add_question_options(CLI::App& command, EvalOptions& options) {
  const std::string group = "Questions";
  command
      .add_option("input", options.input,
                  "JSON lines with question and answer, which ends in \"#### \" and a number")
      ->required()
      ->group(group);
  command.add_option("--limit", options.limit, "Ask only the first so many (0: all)")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--group-by", options.group_field,
                  "Field of the lines; accuracy is also told for each of its values")
      ->group(group);
}

void add_prompt_options(CLI::App& command, EvalOptions& options) {
  const std::string group = "Prompt and answer";
  command
      .add_option("--prompt", options.prompt,
                  "lm-eval, lm-eval-cot, opencompass, plain (the question alone), or a text that "
                  "holds {question}")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--num-fewshot", options.num_fewshot,
                  "Solved examples before each question: the first of --fewshot-file")
      ->check(CLI::Range(0, 1000))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--fewshot-file", options.fewshot_file,
                  "Solved questions, in the format of the input")
      ->group(group);
  command
      .add_flag("--apply-chat-template", options.apply_chat_template,
                "Ask as a chat; examples become turns of it")
      ->group(group);
  command
      .add_option("--chat-template", options.chat_template,
                  "auto (the model's), a built-in name (vicuna, baichuan2, chatml, llama2) or a "
                  "Jinja file")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--system-instruction", options.system_instruction, "System message of each chat")
      ->group(group);
  command
      .add_option("--rule", options.rule,
                  "What votes and samples of k are judged by: strict-match, flexible-extract or "
                  "opencompass (default: that of the prompt); the accuracy is told by all three")
      ->check(CLI::IsMember({"strict-match", "flexible-extract", "opencompass"}))
      ->group(group);
}

void add_repetition_options(CLI::App& command, EvalOptions& options) {
  const std::string group = "Repetitions";
  command
      .add_option("--repetitions", options.repetitions,
                  "Samples of each question; pass@k and the majority vote of k for each k up to it")
      ->check(CLI::Range(1, 128))
      ->group(group)
      ->capture_default_str();
  command
      .add_flag("--early-stop", options.early_stop,
                "Ask a question no further once its vote is decided; the saving is reported")
      ->group(group);
}

void add_server_options(CLI::App& command, EvalOptions& options) {
  const std::string group = "Server";
  command
      .add_option(
          "--base-url", options.server.base_url,
          "Also ask the OpenAI-compatible server at this URL, or only it where no --backend "
          "is given; a key comes from OPENAI_API_KEY")
      ->group(group);
  add_api_server_options(command, options.server, group);
  command
      .add_option("--max-concurrency", options.max_concurrency,
                  "Samples that --base-url is asked for at once; a list such as 1,8,64 runs each "
                  "level and names the knee")
      ->group(group)
      ->capture_default_str();
  add_send_limit_options(command, options.limits, group);
}

// The flags of generate that have no meaning here, or another.
void remove_options(CLI::App& command) {
  for (const char* name : {"--n", "--best-of", "--use-beam-search", "--length-penalty",
                           "--early-stopping", "--no-detokenize", "--generation-config",
                           "--max-num-seqs", "--logprobs", "--prompt-logprobs"}) {
    command.remove_option(command.get_option(name));
  }
}

void add_console_options(CLI::App& command, EvalOptions& options) {
  const std::string group = "Report";
  command.add_option("--color", options.color, "auto, always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->group(group)
      ->capture_default_str();
  command.add_flag("-q,--quiet", options.quiet, "Only errors on standard error")->group(group);
}

}  // namespace

EvalOptions::EvalOptions() {
  engine.backend = "";
  limits.num_retries = kRetries;
}

void add_eval_command(CLI::App& command, EvalOptions& options) {
  add_question_options(command, options);
  add_prompt_options(command, options);
  add_repetition_options(command, options);
  add_server_options(command, options);
  command
      .add_option("--samples", options.samples,
                  "File to append each question's answers to, one JSON line for each backend")
      ->group("Long runs");
  add_long_run_options(command, options.long_run);
  add_engine_options(command, options.engine);
  add_sampling_options(command, options.sampling);
  remove_options(command);
  command
      .add_option("--max-num-seqs", options.max_num_seqs,
                  "Sequences that run at once (0: 1024 on a GPU, 64 on a CPU); a list such as "
                  "1,4,16 runs each level and names the knee")
      ->group("Scheduling")
      ->capture_default_str();
  command.get_option("--backend")
      ->description(
          "Backends to run in turn, separated by commas: paged, naive (default: paged; with "
          "--base-url none)");
  command.get_option("--temperature")->description("0 is greedy (default: 0)");
  command.get_option("--max-tokens")
      ->description("Output tokens per sample at most (default: 512)");
  command.get_option("--stop")->description(
      "Text that ends a sample, instead of the prompt's own; may be given again");
  add_report_options(command, options.report);
  add_console_options(command, options);
}

int run_eval(const EvalOptions& options, const std::string& command_line) {
  require_writable(options.report);
  EvalCommand command(options, command_line);
  command.run();
  const EvalReport& report = command.report();
  const int stopped_code = report.was_stopped ? exit_code_of_signal(command.first_signal()) : 0;
  if (report.cases.empty()) {
    std::cerr << "llmrun: stopped before a question was answered\n";
    return stopped_code;
  }
  write_report(options.report, {.text = [&] { return render_text(report); },
                                .markdown = [&] { return render_markdown(report); },
                                .json = [&] { return render_json(report); },
                                .json_lines = [&] { return render_jsonl(report); },
                                .records = [&] { return eval_records(report); }});
  if (report.was_stopped) return stopped_code;
  return report.num_failed() > 0 ? 1 : 0;
}

}  // namespace llmrun
