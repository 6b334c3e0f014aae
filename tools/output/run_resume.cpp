#include "tools/output/run_resume.h"

#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

// The earlier run is the same one, or the user insists.
void compare_with_earlier_run(const LockedFile& output, const RunManifest& manifest, bool force,
                              std::vector<std::string>& notes) {
  const std::string path = manifest_path(output.name());
  const std::optional<RunManifest> before = read_manifest(path);
  std::vector<std::string> found;
  if (before) {
    found = differences(*before, manifest);
  } else {
    found.push_back(fmt::format("{} is missing, which says what run wrote it", path));
  }
  if (found.empty()) return;
  if (!force) {
    std::string list;
    for (const std::string& difference : found) list += "\n  " + difference;
    throw Error(ErrorKind::kInput,
                fmt::format("{}: was written by another run:{}\nrun as before, or with "
                            "--force-resume to mix their answers, or with --overwrite to start "
                            "again",
                            output.name(), list));
  }
  for (const std::string& difference : found) {
    notes.push_back(fmt::format("{}: resumed by force although {}", output.name(), difference));
  }
}

void describe(const LockedFile& output, const RecoveredOutput& recovered,
              std::vector<std::string>& notes) {
  const std::string& name = output.name();
  if (recovered.num_torn_bytes > 0) {
    notes.push_back(fmt::format("{}: cut {} of an unfinished record, kept in {}", name,
                                counted(recovered.num_torn_bytes, "byte"), torn_path(name)));
  }
  if (recovered.num_duplicates > 0) {
    notes.push_back(fmt::format("{}: {} there twice", name,
                                counted(recovered.num_duplicates, "record is", "records are")));
  }
  if (recovered.num_removed > 0) {
    notes.push_back(fmt::format("{}: removed {} again", name,
                                counted(recovered.num_removed, "error record to run its row",
                                        "error records to run their rows")));
  }
  notes.push_back(fmt::format(
      "{}: {} finished ({} of them with errors)", name,
      counted(static_cast<std::int64_t>(recovered.finished.size()), "row is", "rows are"),
      recovered.finished.num_failed()));
}

}  // namespace

StartedRun start_run(LockedFile& output, const RunManifest& manifest,
                     const ResumeOptions& options) {
  StartedRun run;
  if (output.is_stream()) {
    if (!options.resume) return run;
    throw Error(
        ErrorKind::kUsage,
        fmt::format("--resume: {} cannot be continued; name a file by --output", output.name()));
  }
  if (output.size() > 0 && !options.resume) {
    if (const int error_number = output.truncate(0)) {
      throw Error(ErrorKind::kOutput, fmt::format("{}: cannot empty it: {}", output.name(),
                                                  std::generic_category().message(error_number)));
    }
  }
  if (output.size() > 0) {
    compare_with_earlier_run(output, manifest, options.force, run.notes);
    RecoveredOutput recovered = recover_output(
        output, {.retry_errors = options.retry_errors, .accept_other_inputs = options.force});
    describe(output, recovered, run.notes);
    run.finished = std::move(recovered.finished);
  }
  write_manifest(manifest_path(output.name()), manifest);
  return run;
}

void check_every_row_answered(std::int64_t num_rows, std::int64_t num_records) {
  if (num_rows == num_records) return;
  throw Error(ErrorKind::kInternal,
              fmt::format("the input has {} rows and the output {} records; this is a bug in "
                          "llmrun, please report it",
                          num_rows, num_records));
}

}  // namespace llmrun
