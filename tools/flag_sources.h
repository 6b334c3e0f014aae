// Where flags come from beside the command line: environment variables and a configuration file.
// What a message about them has to say is told here, so that a user finds the line to mend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace llmrun {

// The subcommand of this name, or null.
const CLI::App* find_command(const CLI::App& app, const std::string& name);

// The arguments, with the flags that only the environment gives written out behind the command:
// they rank above a configuration file, and the advice how to resume a run contains them.
std::vector<std::string> arguments_with_environment(const CLI::App& app,
                                                    const std::vector<std::string>& arguments);

// A line for each LLMRUN_* variable of the environment that is no flag's of any command and none of
// `others`, with the variable that may be meant; a flag's value that would be missed silently.
std::vector<std::string> unknown_environment(const CLI::App& app, char** environment,
                                             const std::vector<std::string>& others);

// From here on only the command of the arguments looks at the environment: a variable may have
// another meaning to another command, whose flag of that name would be checked all the same.
void leave_environment_to_command(CLI::App& app, const std::vector<std::string>& arguments);

// Reads TOML and INI files; throws Error(kUsage) with file and line for a key that is no flag of
// the command in whose section it stands. `app` must outlive it.
std::shared_ptr<CLI::Config> make_config_reader(const CLI::App& app);

// " (from LLMRUN_MAX_TOKENS)" or " (from run.toml)" for a message about a flag's value, by the flag
// or the parameter that it begins with ("--top-k", "top_k"); empty when the value stands on the
// command line.
std::string origin_of_flag(const CLI::App& app, const std::string& message,
                           const std::vector<std::string>& arguments);

}  // namespace llmrun
