# Run at every build: writes OUTPUT, the definition of kGitCommit, when SOURCE_DIR's commit is another one.
execute_process(COMMAND git describe --always --dirty --abbrev=12
  WORKING_DIRECTORY ${SOURCE_DIR} OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT [[
#include "engine/core/version.h"

namespace llmrun {

const char* const kGitCommit = "@commit@";

}  // namespace llmrun
]] @ONLY)
