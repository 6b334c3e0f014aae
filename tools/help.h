// Everything that is written from the tree of commands and flags, so that it cannot drift from it:
// help that can be searched, suggestions for a misspelt flag, shell completions, man pages.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace llmrun {

// The options, also of subcommands, whose names or descriptions contain `word` (any case), as help
// text; for --help=WORD.
std::string search_help(const CLI::App& command, const std::string& word);

// The name in `candidates` that is nearest to `name`, when it is near enough to be meant.
std::optional<std::string> nearest_name(const std::string& name,
                                        const std::vector<std::string>& candidates);

// Long names of the command's options ("--max-tokens"), and names of its subcommands.
std::vector<std::string> option_names(const CLI::App& command);
std::vector<std::string> subcommand_names(const CLI::App& command);

// Gives every option the environment variable LLMRUN_<LONG_NAME>.
void set_environment_names(CLI::App& command);

// Shell text inside single quotes.
std::string single_quoted(const std::string& text);

// A completion script for "bash", "zsh" or "fish". Throws Error(kUsage) for another shell.
std::string completion_script(const CLI::App& app, const std::string& shell);

// The man page (roff, section 1) of the program or of one command.
std::string man_page(const CLI::App& app, const CLI::App& command);

}  // namespace llmrun
