// Makes the output of an earlier run fit to be continued.
#pragma once

#include <cstdint>
#include <string>

#include "tools/output/finished_rows.h"
#include "tools/output/output_file.h"

namespace llmrun {

struct RecoverOptions {
  bool retry_errors = false;         // error records are removed, so that their rows run again
  bool accept_other_inputs = false;  // see FinishedRows
};

struct RecoveredOutput {
  FinishedRows finished;
  std::int64_t num_duplicates = 0;   // records that are there twice, byte by byte
  std::uint64_t num_torn_bytes = 0;  // cut from the end and saved to OUT.torn
  std::int64_t num_removed = 0;      // error records whose rows run again
};

// Reads every record. What follows the last whole one, and a last line that is not JSON, is what a
// run that died left unfinished: it is cut off, after a copy to OUT.torn. Error records that are to
// be retried are removed by writing the others to a new file, which then replaces the old one. Can
// itself be interrupted anywhere and run again.
//
// Throws Error(kInput), and changes nothing, when another line is not a record of llmrun, or two
// different records have the same id: file, line and byte offset are named.
RecoveredOutput recover_output(LockedFile& file, const RecoverOptions& options);

// Puts the records of a finished output into the order of their rows, in some 40 bytes a record.
// True when they were not.
// Throws Error(kInput) or Error(kOutput); the output is then as before.
bool sort_output(const std::string& path);

}  // namespace llmrun
