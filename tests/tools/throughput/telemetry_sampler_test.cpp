#include "tools/throughput/telemetry_sampler.h"

#include <atomic>
#include <thread>

#include <doctest/doctest.h>

namespace llmrun {

using std::chrono::milliseconds;

TEST_CASE("sensors are read before, while and after") {
  std::atomic<int> count = 0;
  TelemetrySampler sampler(
      [&] {
        DeviceTelemetry reading;
        reading.energy_joules = ++count;
        return reading;
      },
      milliseconds(1));
  while (count < 4) std::this_thread::sleep_for(milliseconds(1));
  const auto samples = sampler.stop();
  REQUIRE(samples.size() >= 5);
  CHECK(samples.front().energy_joules == 1.0);
  CHECK(samples.back().energy_joules == static_cast<double>(samples.size()));
}

TEST_CASE("a device without sensors is asked once") {
  int count = 0;
  TelemetrySampler sampler(
      [&] {
        ++count;
        return DeviceTelemetry{};
      },
      milliseconds(1));
  std::this_thread::sleep_for(milliseconds(5));
  CHECK(sampler.stop().size() == 1);
  CHECK(count == 1);
}

TEST_CASE("stopping does not wait for the interval") {
  const auto start = std::chrono::steady_clock::now();
  TelemetrySampler sampler(
      [] {
        DeviceTelemetry reading;
        reading.clock_mhz = 1980;
        return reading;
      },
      milliseconds(60000));
  CHECK(sampler.stop().size() == 2);
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(30));
}

}  // namespace llmrun
