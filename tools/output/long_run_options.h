// The flags of every command whose output survives its end and is gone on with.
#pragma once

#include <cstdint>
#include <string>

#include <CLI/CLI.hpp>

#include "engine/step_progress.h"
#include "tools/drain_timeout.h"
#include "tools/output/output_file.h"
#include "tools/output/output_writer.h"
#include "tools/output/run_resume.h"

namespace llmrun {

struct LongRunOptions {
  bool resume = false;
  bool force_resume = false;
  bool retry_errors = false;
  bool overwrite = false;
  std::string durability = "interval";  // interval | each | none
  std::int32_t sync_interval_ms = 1000;
  double disk_wait_s = 0;
  double drain_timeout_s = kDrainTimeoutSeconds;
  double stall_timeout_s = kStallTimeoutSeconds;
};

void add_long_run_options(CLI::App& command, LongRunOptions& options);

// What the flags say about an output that exists. Throws Error(kUsage) when they contradict each
// other.
ExistingOutput existing_output(const LongRunOptions& options);
ResumeOptions resume_options(const LongRunOptions& options);
// Durability only; order and resume command are the command's matter.
OutputWriter::Options writer_options(const LongRunOptions& options);

// The command that continues the run of `command_line`: without --overwrite, with --resume.
std::string resume_command(const LongRunOptions& options, std::string command_line);

}  // namespace llmrun
