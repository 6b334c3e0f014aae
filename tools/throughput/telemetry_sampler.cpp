#include "tools/throughput/telemetry_sampler.h"

#include <utility>

namespace llmrun {

bool has_sensors(const DeviceTelemetry& telemetry) {
  return telemetry.energy_joules || telemetry.power_watts || telemetry.clock_mhz ||
         telemetry.temperature_celsius || telemetry.num_other_processes;
}

TelemetrySampler::TelemetrySampler(Read read, std::chrono::milliseconds interval)
    : read_(std::move(read)) {
  samples_.push_back(read_());
  if (!has_sensors(samples_.front())) return;
  thread_ =
      std::jthread([this, interval](const std::stop_token& stopped) { sample(stopped, interval); });
}

void TelemetrySampler::sample(const std::stop_token& stopped, std::chrono::milliseconds interval) {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, stopped, interval, [] { return false; });
    }
    if (stopped.stop_requested()) return;
    samples_.push_back(read_());
  }
}

std::vector<DeviceTelemetry> TelemetrySampler::stop() {
  if (thread_.joinable()) {
    thread_.request_stop();
    thread_.join();
    samples_.push_back(read_());
  }
  return std::move(samples_);
}

}  // namespace llmrun
