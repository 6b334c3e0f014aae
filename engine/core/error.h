// The one exception type of llmrun: what ends a run, with the kind that decides the exit code.
// What happens to one request is never an exception; it is a value on that request's output.
#pragma once

#include <stdexcept>
#include <string>

namespace llmrun {

enum class ErrorKind {
  kInternal,  // a bug in llmrun                                        exit code 8
  kUsage,     // a bad flag or a bad combination of flags               exit code 2
  kInput,     // an input file, or an existing output file, is bad      exit code 3
  kModel,     // checkpoint, tokenizer or configuration is bad          exit code 4
  kMemory,    // weights or one full-length sequence do not fit         exit code 5
  kDevice,    // the device or its driver failed                        exit code 6
  kOutput,    // writing the output failed                              exit code 7
};

// The process exit code of an error kind, as listed above.
int exit_code(ErrorKind kind);

// One word for logs and JSON: "internal", "usage", ...
const char* to_string(ErrorKind kind);

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// Throws Error(kInternal) that names the condition and its place. Used by LLMRUN_CHECK.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace llmrun

// States what only a bug in llmrun can violate; never used on user input. Stays on in release
// builds.
#define LLMRUN_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::llmrun::check_failed(#condition, __FILE__, __LINE__))
