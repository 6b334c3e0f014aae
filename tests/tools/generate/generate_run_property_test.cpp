// GenerateRun stopped at random times. A failure prints its seed; LLMRUN_TEST_SEED=<seed> runs it
// alone. The names I29 and I30 are those of the project's list of invariants.
#include <map>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "tests/engine/top/test_engine.h"
#include "tests/support/child_process.h"
#include "tests/support/random_test.h"
#include "tests/support/temporary_folder.h"
#include "tests/tools/input/text_source.h"
#include "tools/generate/generate_run.h"
#include "tools/output/output_file.h"

namespace llmrun {
namespace {

using testing::Random;
using testing::require;
using testing::TestEngine;
using testing::TestEngineOptions;

// Row i of an input: what it is depends on nothing else.
std::string make_run_row(std::int32_t i) {
  if (i % 7 == 3) return fmt::format("{{\"id\": \"{}\", \"prompt\": 5}}\n", i);
  const std::int32_t max_tokens = i % 11 == 5 ? 5000 : 1 + i % 9;  // 5000: refused by the engine
  return fmt::format("{{\"id\": \"{}\", \"prompt_token_ids\": [{}, 4, 5], \"max_tokens\": {}}}\n",
                     i, i % 200, max_tokens);
}

// What the run's answer to a row may not depend on is left out.
std::string lasting_answer(nlohmann::json record) {
  record.erase("timings");
  record.erase("index");
  if (record.contains("usage")) record["usage"].erase("cached_tokens");
  if (record.contains("error")) record["error"].erase("message");  // tells the size of the pool
  return record.dump();
}

struct StoppedRun {
  std::map<std::string, std::string> answers;  // by id
  GenerateProgress before;                     // when the first signal came
  GenerateProgress after;
  std::int64_t num_rows_read_before = -1;  // -1: none came
  std::int64_t num_rows_read = 0;
  bool was_stopped = false;
};

struct StopPlan {
  std::int32_t first_signal = 1 << 20;   // in turns of the loop
  std::int32_t second_signal = 1 << 20;  // the same
  double drain_timeout_s = 1e6;
};

StoppedRun run_rows(Random& random, std::int32_t num_rows, const StopPlan& plan) {
  std::string text;
  for (std::int32_t i = 0; i < num_rows; ++i) text += make_run_row(i);
  TestEngineOptions engine_options{.block_size = 4, .num_blocks = random.draw(5, 40)};
  engine_options.max_num_seqs = random.draw(1, 4);
  engine_options.steps_ahead = random.draw(0, 1);
  TestEngine engine(engine_options);
  const testing::TemporaryFolder folder;
  const std::string path = folder.path() / "out.jsonl";

  const PromptProcessor prompts(nullptr, std::nullopt);
  RequestReader reader(std::make_unique<TextSource>(text, 64), "rows.jsonl", {});
  const RecordFormatter formatter(RecordFormatter::Options{.return_token_ids = true});
  OutputWriter writer(open_output({.path = path}),
                      {.order = random.chance(50) ? OutputOrder::kInput : OutputOrder::kCompletion,
                       .reorder_window = random.draw(1, 8),
                       .durability = Durability::kNone});
  StoppedRun result;
  std::int32_t num_turns = 0;
  GenerateRun* running = nullptr;
  GenerateRun run(engine.engine(), prompts, reader, formatter, writer,
                  {.max_inflight = static_cast<std::size_t>(random.draw(1, 6)),
                   .stop_level =
                       [&] {
                         if (++num_turns < plan.first_signal) return 0;
                         if (num_turns == plan.first_signal) {
                           result.before = running->progress();
                           result.num_rows_read_before = reader.num_rows();
                         }
                         return num_turns < plan.second_signal ? 1 : 2;
                       },
                   .drain_timeout_s = plan.drain_timeout_s});
  running = &run;
  run.run();
  writer.close();
  result.after = run.progress();
  result.num_rows_read = reader.num_rows();
  result.was_stopped = run.was_stopped();
  require(!engine->has_unfinished(), "I29: a run has ended and its engine has work");
  const auto leak = engine.find_leak();
  require(!leak, "I15: {}", leak.value_or(""));

  std::istringstream lines(testing::read_all(path));
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json record = nlohmann::json::parse(line);
    const auto id = record.at("id").get<std::string>();
    require(result.answers.emplace(id, lasting_answer(record)).second,
            "I30: row {} is answered twice", id);
  }
  return result;
}

void check_stopped_run(const StoppedRun& run, bool may_abort) {
  const GenerateProgress& before = run.before;
  const GenerateProgress& after = run.after;
  require(run.num_rows_read == run.num_rows_read_before, "I29: a row was read after the signal");
  const std::int64_t num_admitted = before.num_rows_done + before.num_rows_inflight;
  if (!may_abort) {
    require(after.num_rows_done == num_admitted && after.num_rows_inflight == 0,
            "I29: of {} rows that were admitted {} are answered", num_admitted,
            after.num_rows_done);
  }
  require(after.num_rows_done + after.num_rows_inflight == num_admitted,
          "I30: {} rows were admitted, {} answered and {} aborted", num_admitted,
          after.num_rows_done, after.num_rows_inflight);
}

struct StopCoverage {
  int num_whole = 0;
  int num_drained = 0;  // with work left at the signal
  int num_aborted = 0;  // of these, with work left at the end
};

void run_stop_episode(std::uint64_t seed, const std::map<std::string, std::string>& expected,
                      StopCoverage& coverage) {
  Random random(seed);
  StopPlan plan;
  if (random.chance(90)) plan.first_signal = random.draw(1, 60);
  if (random.chance(30)) plan.second_signal = plan.first_signal + random.draw(0, 5);
  if (random.chance(10)) plan.drain_timeout_s = 0;
  const auto num_rows = static_cast<std::int32_t>(expected.size());
  const StoppedRun run = run_rows(random, num_rows, plan);
  const bool may_abort = plan.second_signal < 1 << 20 || plan.drain_timeout_s == 0;
  if (run.num_rows_read_before >= 0) {
    check_stopped_run(run, may_abort);
    if (run.before.num_rows_inflight > 0) ++coverage.num_drained;
    if (run.after.num_rows_inflight > 0) ++coverage.num_aborted;
  }
  require(run.after.num_rows_done == std::ssize(run.answers),
          "I30: {} rows are answered, and the file holds {}", run.after.num_rows_done,
          run.answers.size());
  require(run.was_stopped || std::ssize(run.answers) == num_rows,
          "I30: {} rows of {} are answered, and the run was not stopped", run.answers.size(),
          num_rows);
  if (!run.was_stopped) ++coverage.num_whole;
  for (const auto& [id, answer] : run.answers) {
    require(answer == expected.at(id), "row {} is answered\n{}\nrather than\n{}", id, answer,
            expected.at(id));
  }
}

TEST_CASE("I29, I30: after a signal nothing is admitted, and all that was ends") {
  Random calm(0);
  constexpr std::int32_t kNumRows = 40;
  const StoppedRun whole = run_rows(calm, kNumRows, {});
  REQUIRE(std::ssize(whole.answers) == kNumRows);
  REQUIRE(!whole.was_stopped);
  StopCoverage coverage;
  const bool ran_all = testing::run_episodes(
      200, [&](std::uint64_t seed) { run_stop_episode(seed, whole.answers, coverage); });
  if (!ran_all) return;
  CHECK(coverage.num_whole > 10);
  CHECK(coverage.num_drained > 50);
  CHECK(coverage.num_aborted > 10);
}

}  // namespace
}  // namespace llmrun
