#include "tools/help.h"

#include <string>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

struct Commands {
  CLI::App app{"a program", "llmrun"};
  int tokens = 0;
  bool version = false;
  Commands() {
    app.add_flag("--version", version, "The version");
    CLI::App* generate = app.add_subcommand("generate", "Text");
    generate->add_option("--max-tokens", tokens, "The most tokens of an output");
    generate->add_option("--presence-penalty", tokens, "Of tokens that were there");
    app.add_subcommand("serve", "A server")->add_option("--port", tokens, "Where it listens");
  }
};

TEST_CASE("help finds words in names and descriptions, of subcommands too") {
  const Commands commands;
  const CLI::App& generate = *commands.app.get_subcommand("generate");
  CHECK(search_help(generate, "PENALTY").find("--presence-penalty") != std::string::npos);
  CHECK(search_help(generate, "penalty").find("--max-tokens") == std::string::npos);
  CHECK(search_help(generate, "most tokens").find("--max-tokens") != std::string::npos);
  CHECK(search_help(generate, "port") == "No option of 'generate' mentions 'port'.\n");
  const std::string all = search_help(commands.app, "penalty");
  CHECK(all.find("Options of 'generate' that mention 'penalty'") != std::string::npos);
  CHECK(all.find("serve") == std::string::npos);
}

TEST_CASE("a misspelt name has a nearest one only if it is near") {
  CHECK(nearest_name("--max-token", {"--max-tokens", "--port"}) == "--max-tokens");
  CHECK(!nearest_name("--quux", {"--max-tokens", "--port"}));
}

}  // namespace
}  // namespace llmrun
