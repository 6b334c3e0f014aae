// Reads a device's sensors while it works, from a thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include "engine/llm_engine.h"

namespace llmrun {

class TelemetrySampler {
 public:
  using Read = std::function<DeviceTelemetry()>;

  // Reads once now. A device without sensors is not asked again, and no thread is started.
  TelemetrySampler(Read read, std::chrono::milliseconds interval);

  // Reads once more and returns all that was read, first to last. Call once.
  std::vector<DeviceTelemetry> stop();

 private:
  void sample(const std::stop_token& stopped, std::chrono::milliseconds interval);

  Read read_;
  std::vector<DeviceTelemetry> samples_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread thread_;  // last: it uses the others
};

// Whether any sensor answered.
bool has_sensors(const DeviceTelemetry& telemetry);

}  // namespace llmrun
