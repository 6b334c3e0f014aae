// What each step of a run did, in files: JSON lines for scripts, and the Trace Event Format that
// chrome://tracing and ui.perfetto.dev show.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "tools/throughput/throughput_run.h"

namespace llmrun {

class ThroughputTrace {
 public:
  // Takes the steps of the case's last repeat.
  void add(const CaseMeasurement& measurement);

  // A JSON line for each step, cases after one another.
  std::string to_jsonl() const;
  // A process for each case; rows for the host and, where the device tells, the device.
  nlohmann::ordered_json to_chrome_json() const;

  // Writes FILE and FILE.chrome.json. Throws Error(kOutput).
  void write(const std::string& path) const;

 private:
  struct Case {
    std::string name;
    double start_s = 0;
    std::vector<StepRecord> steps;
  };
  std::vector<Case> cases_;
};

}  // namespace llmrun
