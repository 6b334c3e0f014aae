// The sensors of a GPU, through NVML opened at run time. Without the library, or for a sensor the
// device does not have, values are absent; nothing here ends a run.
#pragma once

#include <string>

#include "engine/backend/device_report.h"

namespace llmrun {

// `pci_bus_id` as cudaDeviceGetPCIBusId gives it.
DeviceTelemetry read_nvml(const std::string& pci_bus_id);

// "580.159.04", or empty.
std::string nvml_driver_version();

}  // namespace llmrun
