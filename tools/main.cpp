// llmrun: reads the command line, runs one command, turns what ended the run into one line and an
// exit code.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include "engine/core/error.h"
#include "engine/core/version.h"
#include "tools/compare/compare.h"
#include "tools/eval/eval.h"
#include "tools/flag_sources.h"
#include "tools/foreign_flags.h"
#include "tools/generate/generate.h"
#include "tools/help.h"
#include "tools/info.h"
#include "tools/serve/serve.h"
#include "tools/serve_bench/serve_bench.h"
#include "tools/terminal.h"
#include "tools/throughput/throughput.h"
#include "tools/tokenize.h"

namespace llmrun {
namespace {

constexpr int kUsageExitCode = 2;

// A command as it was declared, and what runs it when it was given.
struct Command {
  const CLI::App* app;
  std::function<int(const std::string& command_line)> run;
};

// Declares a command: `add` gives it its flags, which set an Options that lives as long as the
// command.
template <typename Options>
Command command(CLI::App& app, const std::string& name, const std::string& description,
                void (*add)(CLI::App&, Options&),
                std::function<int(const Options&, const std::string& command_line)> run) {
  CLI::App* command_app = app.add_subcommand(name, description);
  const auto options = std::make_shared<Options>();
  add(*command_app, *options);
  return {command_app, [options, run = std::move(run)](const std::string& command_line) {
            return run(*options, command_line);
          }};
}

template <typename Options>
auto without_command_line(int (*run)(const Options&)) {
  return [run](const Options& options, const std::string&) { return run(options); };
}

Command completion_command(CLI::App& app) {
  CLI::App* completion = app.add_subcommand("completion", "Print a shell completion script");
  const auto shell = std::make_shared<std::string>("bash");
  completion->add_option("shell", *shell, "bash, zsh or fish")->capture_default_str();
  return {completion, [&app, shell](const std::string&) {
            std::cout << completion_script(app, *shell);
            return 0;
          }};
}

Command man_command(CLI::App& app) {
  CLI::App* man = app.add_subcommand("man", "Print a man page in roff");
  const auto name = std::make_shared<std::string>();
  man->add_option("command", *name, "The command to describe (default: the whole program)");
  return {man, [&app, name](const std::string&) {
            const CLI::App* described = name->empty() ? &app : find_command(app, *name);
            if (described == nullptr) throw Error(ErrorKind::kUsage, "no command '" + *name + "'");
            std::cout << man_page(app, *described);
            return 0;
          }};
}

std::vector<Command> build(CLI::App& app) {
  app.require_subcommand(0, 1);
  app.set_version_flag("--version", fmt::format("llmrun {} {} ({}, {})", kVersion, kGitCommit,
                                                kCompiler, kBuildType));
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.set_config("--config", "",
                 "Read flags from a TOML or INI file; [generate] holds those of a command")
      ->envname("LLMRUN_CONFIG");
  app.config_formatter(make_config_reader(app));
  std::vector<Command> commands = {
      command<GenerateOptions>(app, "generate", "Generate completions for the prompts of a file",
                               add_generate_command, run_generate),
      command<ThroughputOptions>(
          app, "throughput",
          "Measure offline throughput against a baseline and the device's limits",
          add_throughput_command, run_throughput),
      command<EvalOptions>(app, "eval",
                           "Measure accuracy on questions in GSM8K's format, and its speed",
                           add_eval_command, run_eval),
      command<ServeOptions>(app, "serve",
                            "Serve the model by HTTP: OpenAI's API, and a page to chat",
                            add_serve_command, without_command_line(run_serve)),
      command<ServeBenchOptions>(
          app, "serve-bench",
          "Measure latency and throughput under online load, of the engine or of any server",
          add_serve_bench_command, run_serve_bench),
      command<TokenizeOptions>(app, "tokenize", "Show the token ids of text, and the text of ids",
                               add_tokenize_command, without_command_line(run_tokenize)),
      command<InfoOptions>(app, "info",
                           "Show the model, the memory plan, the device and the versions",
                           add_info_command, without_command_line(run_info)),
      command<CompareOptions>(app, "compare",
                              "Compare benchmark results, with intervals and an exit code for CI",
                              add_compare_command, without_command_line(run_compare)),
      completion_command(app),
      man_command(app),
  };
  for (CLI::App* command : app.get_subcommands({})) {
    set_environment_names(*command);
    command->fallthrough();  // --config may stand behind the command
  }
  return commands;
}

int run(const CLI::App& app, const std::vector<Command>& commands,
        const std::string& command_line) {
  for (const Command& command : commands) {
    if (app.got_subcommand(command.app)) return command.run(command_line);
  }
  std::cout << app.help();
  return 0;
}

// The arguments as a POSIX shell would read them back.
std::string quoted(const std::string& program, const std::vector<std::string>& arguments) {
  std::string line = program;
  for (const std::string& argument : arguments) {
    const bool plain =
        !argument.empty() && argument.find_first_not_of(
                                 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789_-./=:,@%+") == std::string::npos;
    line += " " + (plain ? argument : single_quoted(argument));
  }
  return line;
}

// --help=WORD shows only the options that mention WORD. Returns false when it was not asked for.
bool answer_help_search(const CLI::App& app, int argc, char** argv) {
  const CLI::App* command = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (const CLI::App* subcommand = find_command(app, argument)) command = subcommand;
    if (argument.starts_with("--help=")) {
      std::cout << search_help(*command, argument.substr(7));
      return true;
    }
  }
  return false;
}

// What to try instead of an argument that no command knows.
std::string suggestion(const CLI::App& app, int argc, char** argv) {
  const CLI::App* command = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (const CLI::App* subcommand = find_command(app, argument)) command = subcommand;
    const std::string name = argument.substr(0, argument.find('='));
    const bool is_flag = name.starts_with("--");
    if (!is_flag && (command != &app || name.starts_with("-"))) continue;
    const std::vector<std::string> known = is_flag ? option_names(*command) : subcommand_names(app);
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    if (const auto hint = foreign_flag_hint(name)) return "; " + *hint;
    if (const auto nearest = nearest_name(name, known))
      return fmt::format("; did you mean {}?", *nearest);
  }
  return "";
}

// What is wrong with arguments that no command takes, in the order they were written in.
std::string unexpected_arguments(const CLI::App& app) {
  const std::vector<std::string> arguments = app.remaining(true);
  const bool has_command = !app.get_subcommands().empty();
  if (!has_command && !arguments.empty() && !arguments.front().starts_with('-')) {
    return fmt::format("no command '{}'", arguments.front());
  }
  return fmt::format("not expected{}: {}", has_command ? "" : " before a command",
                     fmt::join(arguments, " "));
}

int usage_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv,
                const std::vector<std::string>& arguments) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  const bool has_extras = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr;
  std::string message = has_extras ? unexpected_arguments(app) : error.what();
  while (!message.empty() && message.back() == '\n') message.pop_back();
  message += origin_of_flag(app, message, arguments);
  write_to_stderr(
      fmt::format("llmrun: error: {}{}\nRun 'llmrun --help' or 'llmrun COMMAND --help=WORD'.\n",
                  message, suggestion(app, argc, argv)));
  return kUsageExitCode;
}

int guarded_main(int argc, char** argv) {
  CLI::App app("Batch text generation with large language models", "llmrun");
  const std::vector<Command> commands = build(app);
  if (answer_help_search(app, argc, argv)) return 0;
  for (const std::string& line : unknown_environment(
           app, environ, {"LLMRUN_CACHE", "LLMRUN_CUBLASLT", "LLMRUN_DEMO_MODEL"})) {
    write_to_stderr(fmt::format("llmrun: warning: {}\n", line));
  }
  const std::vector<std::string> given(argv + 1, argv + argc);
  const std::vector<std::string> arguments = arguments_with_environment(app, given);
  leave_environment_to_command(app, given);
  try {
    app.parse(
        std::vector<std::string>(arguments.rbegin(), arguments.rend()));  // takes them reversed
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error, argc, argv, given);
  }
  try {
    return run(app, commands, quoted(argv[0], arguments));
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kUsage) throw;
    throw Error(error.kind(), error.what() + origin_of_flag(app, error.what(), given));
  }
}

void flush_standard_output() {
  if (!std::cout.flush() || std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    throw Error(ErrorKind::kOutput, "standard output cannot be written");
  }
}

}  // namespace
}  // namespace llmrun

int main(int argc, char** argv) {
  using llmrun::write_to_stderr;
  llmrun::open_standard_descriptors();
  try {
    const int code = llmrun::guarded_main(argc, argv);
    llmrun::flush_standard_output();
    return code;
  } catch (const llmrun::Error& error) {
    write_to_stderr(fmt::format("llmrun: error: {}\n", error.what()));
    return llmrun::exit_code(error.kind());
  } catch (const std::bad_alloc&) {
    write_to_stderr(
        "llmrun: error: out of host memory; lower --max-num-batched-tokens, --max-model-len or "
        "--kv-cache-memory-bytes\n");
    return llmrun::exit_code(llmrun::ErrorKind::kMemory);
  } catch (const std::exception& error) {
    if (std::ferror(stdout) != 0) {  // what a print to it throws
      write_to_stderr("llmrun: error: standard output cannot be written\n");
      return llmrun::exit_code(llmrun::ErrorKind::kOutput);
    }
    write_to_stderr(fmt::format("llmrun: error: internal: {}; this is a bug, please report it\n",
                                error.what()));
    return llmrun::exit_code(llmrun::ErrorKind::kInternal);
  }
}
