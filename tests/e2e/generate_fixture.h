// Runs of the built `llmrun generate` on the demo model, and what they answered.
#pragma once

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/core/cpu_info.h"
#include "tests/support/child_process.h"
#include "tests/support/temporary_folder.h"

namespace llmrun::testing {

struct RunResult {
  int exit_code = -1;
  std::string out;
  std::string err;
};

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

using Flags = std::vector<std::string>;

inline const Flags kFloat32 = {"--dtype", "float32"};

// In what answers are the same, bit for bit, however they are computed: float32; the demo model's
// own bfloat16 with --deterministic; and without it, but for AMX (README.md).
inline std::vector<Flags> exact_dtypes() {
  std::vector<Flags> dtypes = {kFloat32, {"--dtype", "auto", "--deterministic"}};
  if (best_cpu_isa() != CpuIsa::kAmx) dtypes.push_back({"--dtype", "auto"});
  return dtypes;
}

inline std::vector<std::string> generate_command(const Flags& arguments,
                                                 const Flags& dtype = kFloat32) {
  std::vector<std::string> command = {
      LLMRUN_BINARY_DIR "/llmrun", "generate", "--model", LLMRUN_SOURCE_DIR "/datasets/demo/model",
      "--max-model-len",           "256"};
  command.insert(command.end(), dtype.begin(), dtype.end());
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

inline RunResult run_command(const std::vector<std::string>& command,
                             const std::string& standard_input = "") {
  const TemporaryFolder folder;
  const auto input = folder.write("stdin", standard_input);
  ChildProcess child(command, folder.path(), input);
  const int exit_code = child.wait();
  return {exit_code, child.standard_output(), child.standard_error()};
}

inline RunResult run_generate(const Flags& arguments, const std::string& standard_input = "",
                              const Flags& dtype = kFloat32) {
  return run_command(generate_command(arguments, dtype), standard_input);
}

inline std::vector<nlohmann::json> parse_lines(const std::string& text) {
  std::vector<nlohmann::json> records;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) records.push_back(nlohmann::json::parse(line));
  return records;
}

// What may not depend on how, when or in how many pieces the rows were run.
inline std::string lasting_part(nlohmann::json record) {
  record.erase("timings");
  if (record.contains("error") && record["error"].is_object()) record["error"].erase("file");
  if (record.contains("usage")) record["usage"].erase("cached_tokens");
  return record.dump();
}

// By id; every id once.
inline std::map<std::string, std::string> by_id(const std::string& text) {
  std::map<std::string, std::string> answers;
  for (const nlohmann::json& record : parse_lines(text)) {
    const auto [place, is_new] =
        answers.emplace(record.at("id").get<std::string>(), lasting_part(record));
    CAPTURE(place->first);
    CHECK(is_new);
  }
  return answers;
}

// `count` rows of all kinds: prompts, messages, tokens; greedy, sampled, several samples, errors.
inline std::string make_rows(int count, int max_tokens) {
  std::string text;
  for (int i = 0; i < count; ++i) {
    nlohmann::json row = {{"id", fmt::format("row-{}", i)}, {"max_tokens", max_tokens}};
    const std::string question = fmt::format(
        "Question: Noah has {} apples. He buys {} more. How many apples does he have?\nAnswer:",
        i + 3, i * 7 % 50);
    switch (i % 8) {
      case 0: row["prompt"] = question; break;
      case 1:
        row["messages"] = {{{"role", "user"}, {"content", fmt::format("What is {} + 4?", i)}}};
        break;
      case 2:
        row["prompt"] = question;
        row["temperature"] = 1.0;
        row["n"] = 2;
        break;
      case 3:
        row["prompt_token_ids"] = {1, 20 + i, 300, 400 + i};
        row["temperature"] = 0.8;
        row["seed"] = i;
        row["ignore_eos"] = true;
        break;
      case 4:
        row["prompt"] = question;
        row["stop"] = {"####"};
        row["logprobs"] = 1;
        break;
      case 5:
        row["prompt"] = "Once there was";
        row["temperature"] = 1.2;
        row["frequency_penalty"] = 0.5;
        row["ignore_eos"] = true;
        break;
      case 6:
        row["prompt"] = question;
        row["prompt_logprobs"] = 0;
        break;
      case 7:
        row["prompt"] = question;
        row["temperature"] = i % 16 == 7 ? -1.0 : 0.5;  // some are refused
        break;
    }
    text += row.dump() + "\n";
  }
  return text;
}

}  // namespace llmrun::testing
