#include "tools/output/long_run_options.h"

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("the command that continues a run does not overwrite, wherever that was asked for") {
  const auto of = [](bool overwrite, const char* command_line) {
    LongRunOptions options;
    options.overwrite = overwrite;
    return resume_command(options, command_line);
  };
  CHECK(of(false, "llmrun generate in -o out") == "llmrun generate in -o out --resume");
  CHECK(of(false, "llmrun generate in --resume") == "llmrun generate in --resume");
  CHECK(of(true, "llmrun generate in --overwrite -o out") == "llmrun generate in -o out --resume");
  // As the environment's value is written out, and as a configuration file asks for it.
  CHECK(of(true, "llmrun generate --overwrite=1 in -o out") ==
        "llmrun generate in -o out --overwrite=false --resume");
  CHECK(of(true, "llmrun generate --config run.toml in") ==
        "llmrun generate --config run.toml in --overwrite=false --resume");
  CHECK(of(false, "llmrun generate --overwrite=false in") == "llmrun generate in --resume");
}

}  // namespace llmrun
