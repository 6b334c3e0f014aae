#include "tools/output/long_run_options.h"

#include <algorithm>
#include <chrono>

#include "engine/core/error.h"
#include "tools/drain_timeout.h"
#include "tools/flag_checks.h"
#include "tools/watchdog.h"

namespace llmrun {

void add_long_run_options(CLI::App& command, LongRunOptions& options) {
  const std::string group = "Long runs";
  command
      .add_flag("--resume", options.resume, "Go on with the rows that the output has no record of")
      ->group(group);
  command
      .add_flag(
          "--force-resume", options.force_resume,
          "Resume although the model, the options or the input differ from those of the output")
      ->group(group);
  command
      .add_flag("--retry-errors", options.retry_errors, "With --resume: run rows again that failed")
      ->group(group);
  command.add_flag("--overwrite", options.overwrite, "Replace an existing output")->group(group);
  command
      .add_option("--durability", options.durability,
                  "When records are synced to disk: interval, each or none")
      ->check(CLI::IsMember({"interval", "each", "none"}))
      ->group(group)
      ->capture_default_str();
  command.add_option("--sync-interval", options.sync_interval_ms, "Milliseconds between syncs")
      ->check(CLI::Range(1, 3600000))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--disk-wait", options.disk_wait_s,
                  "Seconds to wait for room when the disk is full, before the run ends")
      ->check(number_from(0.0, 1e6))
      ->group(group)
      ->capture_default_str();
  add_drain_timeout_option(command, options.drain_timeout_s, group);
  add_stall_timeout_option(command, options.stall_timeout_s, group);
}

ExistingOutput existing_output(const LongRunOptions& options) {
  if (options.overwrite && (options.resume || options.force_resume)) {
    throw Error(ErrorKind::kUsage,
                "--overwrite and --resume contradict each other; give one of them");
  }
  if (options.retry_errors && !options.resume && !options.force_resume) {
    throw Error(ErrorKind::kUsage, "--retry-errors needs --resume");
  }
  if (options.resume || options.force_resume) return ExistingOutput::kResume;
  return options.overwrite ? ExistingOutput::kOverwrite : ExistingOutput::kRefuse;
}

ResumeOptions resume_options(const LongRunOptions& options) {
  return {.resume = options.resume || options.force_resume,
          .force = options.force_resume,
          .retry_errors = options.retry_errors};
}

OutputWriter::Options writer_options(const LongRunOptions& options) {
  OutputWriter::Options writer;
  writer.durability = *durability_from(options.durability);
  writer.sync_interval = std::chrono::milliseconds(options.sync_interval_ms);
  writer.disk_wait =
      std::chrono::milliseconds(static_cast<std::int64_t>(options.disk_wait_s * 1e3));
  return writer;
}

std::string resume_command(const LongRunOptions& options, std::string command_line) {
  const std::string flag = " --overwrite";
  bool was_plain = false;  // on the command line, which is all that has to change
  if (const std::size_t at = command_line.find(flag); at != std::string::npos) {
    const std::size_t end = std::min(command_line.find(' ', at + 1), command_line.size());
    was_plain = end - at == flag.size();
    command_line.erase(at, end - at);
  }
  // The environment or a configuration file would ask for it again.
  if (options.overwrite && !was_plain) command_line += " --overwrite=false";
  return command_line.find("--resume") == std::string::npos ? command_line + " --resume"
                                                            : command_line;
}

}  // namespace llmrun
