// What a device says of itself for reports: how fast it can be at best, what it drew and how it
// was disturbed, and when its steps ran.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace llmrun {

// The best rates this device reached in loops made to reach them, here and now. 0: not known.
struct DeviceLimits {
  double read_bytes_per_second = 0;
  double multiply_flops_per_second = 0;  // matrix products in `multiply_dtype`, random data
  std::string multiply_dtype;            // "bfloat16", "float32"
};

// A moment of the device's sensors. Absent: the device has no such sensor, or may not be asked.
struct DeviceTelemetry {
  std::optional<double> energy_joules;  // since the driver was loaded, all users of the device
  std::optional<double> power_watts;    // now
  std::optional<double> power_limit_watts;
  std::optional<double> temperature_celsius;
  std::optional<std::int32_t> clock_mhz;  // of the multiprocessors, now
  std::optional<std::int32_t> max_clock_mhz;
  std::vector<std::string> throttle_reasons;        // active now; idle is none
  std::optional<std::int32_t> num_other_processes;  // that compute on the device
};

// When the device worked on one step.
struct StepTiming {
  double busy_seconds = 0;  // from the step's first work to its last
  double idle_seconds = 0;  // before it, since the end of the step before: nothing to do
  bool replayed_graph = false;
  std::int32_t num_padding_rows = 0;  // added by the backend, to fill a graph
};

}  // namespace llmrun
