#include "tools/output/run_resume.h"

#include <filesystem>
#include <memory>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/tools/input/text_files.h"
#include "tools/output/output_record.h"

namespace llmrun {
namespace {

RunManifest make_numbered_manifest(int seed = 1) {
  RunManifest manifest;
  manifest.llmrun_version = "0.1.0";
  manifest.model_name = "demo";
  manifest.model_fingerprint = "abc";
  manifest.input_name = "in.jsonl";
  manifest.generation["seed"] = seed;
  return manifest;
}

InputItem make_numbered_item(std::int64_t index) {
  InputItem item;
  item.index = index;
  item.id = std::to_string(index);
  item.has_id = true;
  item.content_hash = content_hash(item.id);
  return item;
}

std::string make_numbered_record(std::int64_t index, const RunManifest& manifest) {
  const RecordFormatter formatter({.fingerprint = run_fingerprint(manifest)});
  if (index == 1)
    return formatter.format_error(make_numbered_item(index), {"too_long", "no"}) + "\n";
  return formatter.format(make_numbered_item(index), RequestOutput()) + "\n";
}

std::unique_ptr<LockedFile> open_to_resume(const std::string& path) {
  return open_output({.path = path, .existing = ExistingOutput::kResume});
}

bool is_finished(StartedRun& run, std::int64_t index, const RunManifest& manifest) {
  const InputItem item = make_numbered_item(index);
  return run.finished.claim(item, input_hash(item, run_fingerprint(manifest)));
}

TEST_CASE("a new run writes its manifest; the same run goes on") {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  const RunManifest manifest = make_numbered_manifest();
  for (const bool resume : {false, true}) {
    std::filesystem::remove(path);
    const auto file = open_to_resume(path);
    const StartedRun run = start_run(*file, manifest, {.resume = resume});
    CHECK(run.finished.size() == 0);
    CHECK(run.notes.empty());
    CHECK(read_manifest(manifest_path(path)));
  }
  write_text(path, make_numbered_record(0, manifest) + make_numbered_record(1, manifest) + "torn");
  {
    const auto file = open_to_resume(path);
    StartedRun run = start_run(*file, manifest, {.resume = true});
    CHECK(is_finished(run, 0, manifest));
    CHECK(is_finished(run, 1, manifest));
    CHECK(!is_finished(run, 2, manifest));
    REQUIRE(run.notes.size() == 2);
    CHECK(run.notes[0].find("cut 4 bytes") != std::string::npos);
    CHECK(run.notes[1].find("2 rows are finished (1 of them with errors)") != std::string::npos);
  }
  const auto file = open_to_resume(path);
  StartedRun run = start_run(*file, manifest, {.resume = true, .retry_errors = true});
  CHECK(is_finished(run, 0, manifest));
  CHECK(!is_finished(run, 1, manifest));
}

TEST_CASE("another run is refused, naming what differs, or forced") {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  const RunManifest before = make_numbered_manifest(1);
  const RunManifest now = make_numbered_manifest(2);
  write_text(path, make_numbered_record(0, before));
  write_manifest(manifest_path(path), before);
  const std::string stored = read_text_file(manifest_path(path));
  const auto file = open_to_resume(path);
  try {
    start_run(*file, now, {.resume = true});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    CHECK(std::string(error.what()).find("seed: 1 before, 2 now") != std::string::npos);
  }
  CHECK(read_text_file(manifest_path(path)) == stored);

  StartedRun run = start_run(*file, now, {.resume = true, .force = true});
  CHECK(is_finished(run, 0, now));
  CHECK(run.finished.num_from_other_inputs() == 1);
  CHECK(run.notes[0].find("seed: 1 before, 2 now") != std::string::npos);
}

TEST_CASE("an output without a manifest is somebody else's") {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  write_text(path, "a file of the user");
  const auto file = open_to_resume(path);
  CHECK_THROWS_AS(start_run(*file, make_numbered_manifest(), {.resume = true}), Error);
  CHECK(read_text_file(path) == "a file of the user");
}

TEST_CASE("an output that is not resumed is cut when the run begins") {
  const TemporaryFolder folder;
  const std::string path = folder / "out";
  write_text(path, "old");
  const auto file = open_output({.path = path, .existing = ExistingOutput::kOverwrite});
  CHECK(start_run(*file, make_numbered_manifest(), {}).finished.size() == 0);
  CHECK(read_text_file(path).empty());
}

TEST_CASE("streams begin anew, without a manifest") {
  const auto file = open_output({.path = "/dev/null"});
  CHECK(start_run(*file, make_numbered_manifest(), {}).finished.size() == 0);
  try {
    start_run(*file, make_numbered_manifest(), {.resume = true});
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kUsage);
  }
}

TEST_CASE("rows and records are counted against each other") {
  check_every_row_answered(5, 5);
  CHECK_THROWS_AS(check_every_row_answered(5, 6), Error);
  CHECK_THROWS_AS(check_every_row_answered(6, 5), Error);
}

}  // namespace
}  // namespace llmrun
