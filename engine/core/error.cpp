#include "engine/core/error.h"

namespace llmrun {

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage: return 2;
    case ErrorKind::kInput: return 3;
    case ErrorKind::kModel: return 4;
    case ErrorKind::kMemory: return 5;
    case ErrorKind::kDevice: return 6;
    case ErrorKind::kOutput: return 7;
    case ErrorKind::kInternal: return 8;
  }
  return 8;
}

const char* to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUsage: return "usage";
    case ErrorKind::kInput: return "input";
    case ErrorKind::kModel: return "model";
    case ErrorKind::kMemory: return "memory";
    case ErrorKind::kDevice: return "device";
    case ErrorKind::kOutput: return "output";
    case ErrorKind::kInternal: return "internal";
  }
  return "internal";
}

void check_failed(const char* condition, const char* file, int line) {
  throw Error(ErrorKind::kInternal, std::string("internal check failed: ") + condition + " at " +
                                        file + ":" + std::to_string(line) +
                                        "; this is a bug in llmrun, please report it");
}

}  // namespace llmrun
