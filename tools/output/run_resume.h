// The first act of a run on its output: go on with an earlier run, or begin a new one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/output/output_file.h"
#include "tools/output/output_recovery.h"
#include "tools/output/run_manifest.h"

namespace llmrun {

struct ResumeOptions {
  bool resume = false;  // otherwise what is in the output is cut: the user said --overwrite
  bool force = false;   // although the earlier run was another one
  bool retry_errors = false;
};

struct StartedRun {
  FinishedRows finished;           // rows that need not run
  std::vector<std::string> notes;  // sentences for stderr: what was found and repaired
};

// Compares OUT.manifest with `manifest`, recovers the output, and writes `manifest` in its place,
// before any record. Streams have neither; --resume is Error(kUsage) for them.
//
// Throws Error(kInput) when the earlier run differs and `force` is not set, naming what differs;
// and as recover_output and write_manifest do.
StartedRun start_run(LockedFile& output, const RunManifest& manifest, const ResumeOptions& options);

// For the end of a run that read all of its input: every row has exactly one record. Throws
// Error(kInternal) with both numbers.
void check_every_row_answered(std::int64_t num_rows, std::int64_t num_records);

}  // namespace llmrun
