#include "engine/backend/cuda/nvml.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <unistd.h>

namespace llmrun {
namespace {

// The few declarations of nvml.h that are used, so that the build needs no NVML package.
// Source: NVIDIA Management Library API reference.
using Device = void*;
constexpr int kSuccess = 0;
constexpr unsigned kClockSm = 1;  // NVML_CLOCK_SM
constexpr unsigned kTemperatureGpu = 0;
struct ProcessInfo {  // nvmlProcessInfo_t, version 3 of the call
  unsigned pid;
  unsigned long long used_memory;
  unsigned gpu_instance_id;
  unsigned compute_instance_id;
};

struct Nvml {
  int (*init)() = nullptr;
  int (*driver_version)(char*, unsigned) = nullptr;
  int (*device_by_pci)(const char*, Device*) = nullptr;
  int (*energy)(Device, unsigned long long*) = nullptr;       // mJ
  int (*power)(Device, unsigned*) = nullptr;                  // mW
  int (*power_limit)(Device, unsigned*) = nullptr;            // mW
  int (*temperature)(Device, unsigned, unsigned*) = nullptr;  // Celsius
  int (*clock)(Device, unsigned, unsigned*) = nullptr;        // MHz
  int (*max_clock)(Device, unsigned, unsigned*) = nullptr;
  int (*throttle_reasons)(Device, unsigned long long*) = nullptr;
  int (*processes)(Device, unsigned*, ProcessInfo*) = nullptr;
  bool is_usable = false;
};

template <typename Function>
void load_if_there(void* library, Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(library, name));
}

Nvml open_nvml() {
  Nvml nvml;
  void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nvml;
  load_if_there(library, nvml.init, "nvmlInit_v2");
  load_if_there(library, nvml.driver_version, "nvmlSystemGetDriverVersion");
  load_if_there(library, nvml.device_by_pci, "nvmlDeviceGetHandleByPciBusId_v2");
  load_if_there(library, nvml.energy, "nvmlDeviceGetTotalEnergyConsumption");
  load_if_there(library, nvml.power, "nvmlDeviceGetPowerUsage");
  load_if_there(library, nvml.power_limit, "nvmlDeviceGetEnforcedPowerLimit");
  load_if_there(library, nvml.temperature, "nvmlDeviceGetTemperature");
  load_if_there(library, nvml.clock, "nvmlDeviceGetClockInfo");
  load_if_there(library, nvml.max_clock, "nvmlDeviceGetMaxClockInfo");
  load_if_there(library, nvml.throttle_reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
  load_if_there(library, nvml.processes, "nvmlDeviceGetComputeRunningProcesses_v3");
  nvml.is_usable = nvml.init != nullptr && nvml.device_by_pci != nullptr && nvml.init() == kSuccess;
  return nvml;
}

const Nvml& nvml() {
  static const Nvml kFunctions = open_nvml();
  return kFunctions;
}

// Absent when the function is missing or refuses.
template <typename Value, typename Function, typename... Arguments>
std::optional<Value> ask(Function function, Device device, Arguments... arguments) {
  Value value{};
  if (function == nullptr || function(device, arguments..., &value) != kSuccess) return {};
  return value;
}

std::optional<double> in_units(std::optional<unsigned> thousandths) {
  if (!thousandths) return {};
  return *thousandths / 1000.0;
}

std::vector<std::string> names_of(unsigned long long reasons) {
  struct Reason {
    unsigned long long bit;
    const char* name;
  };
  // nvmlClocksThrottleReason*: bit 0 (idle) and bit 1 (clocks set by an application) disturb
  // nothing.
  constexpr std::array kReasons = {Reason{0x4, "power cap"},
                                   Reason{0x8, "hardware slowdown"},
                                   Reason{0x10, "sync boost"},
                                   Reason{0x20, "software thermal slowdown"},
                                   Reason{0x40, "hardware thermal slowdown"},
                                   Reason{0x80, "hardware power brake"},
                                   Reason{0x100, "display clocks"}};
  std::vector<std::string> names;
  for (const Reason& reason : kReasons) {
    if ((reasons & reason.bit) != 0) names.emplace_back(reason.name);
  }
  return names;
}

std::optional<std::int32_t> count_other_processes(Device device) {
  if (nvml().processes == nullptr) return {};
  std::array<ProcessInfo, 64> processes{};
  auto count = static_cast<unsigned>(processes.size());
  if (nvml().processes(device, &count, processes.data()) != kSuccess) return {};
  std::int32_t others = 0;
  const auto own = static_cast<unsigned>(getpid());
  for (unsigned i = 0; i < count; ++i) others += processes[i].pid == own ? 0 : 1;
  // In a container or a virtual machine a process's own id may be another one: it is there anyway.
  bool found_own = false;
  for (unsigned i = 0; i < count; ++i) found_own = found_own || processes[i].pid == own;
  return found_own || others == 0 ? others : others - 1;
}

}  // namespace

DeviceTelemetry read_nvml(const std::string& pci_bus_id) {
  DeviceTelemetry telemetry;
  Device device = nullptr;
  const Nvml& functions = nvml();
  if (!functions.is_usable || functions.device_by_pci(pci_bus_id.c_str(), &device) != kSuccess) {
    return telemetry;
  }
  if (const auto energy = ask<unsigned long long>(functions.energy, device)) {
    telemetry.energy_joules = static_cast<double>(*energy) / 1000.0;
  }
  telemetry.power_watts = in_units(ask<unsigned>(functions.power, device));
  telemetry.power_limit_watts = in_units(ask<unsigned>(functions.power_limit, device));
  telemetry.temperature_celsius = ask<unsigned>(functions.temperature, device, kTemperatureGpu);
  telemetry.clock_mhz = ask<unsigned>(functions.clock, device, kClockSm);
  telemetry.max_clock_mhz = ask<unsigned>(functions.max_clock, device, kClockSm);
  if (const auto reasons = ask<unsigned long long>(functions.throttle_reasons, device)) {
    telemetry.throttle_reasons = names_of(*reasons);
  }
  telemetry.num_other_processes = count_other_processes(device);
  return telemetry;
}

std::string nvml_driver_version() {
  std::array<char, 96> version{};
  const Nvml& functions = nvml();
  if (!functions.is_usable || functions.driver_version == nullptr ||
      functions.driver_version(version.data(), static_cast<unsigned>(version.size())) != kSuccess) {
    return {};
  }
  return version.data();
}

}  // namespace llmrun
