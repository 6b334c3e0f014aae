// What the processor and the operating system offer: instruction sets, cores, names.
// Decided by CPUID feature bits and XCR0, never by model numbers: virtual machines spoof those.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llmrun {

// Instruction sets that kernels are written for, each with everything of those before it.
enum class CpuIsa : std::uint8_t {
  kPortable,    // what the compiler takes for granted
  kAvx2,        // AVX2, FMA, F16C
  kAvx512Bf16,  // AVX-512 F, BW, VL, DQ and BF16
  kAmx,         // the above, AMX-TILE and AMX-BF16
};

// "portable", "avx2", "avx512bf16", "amx"
const char* to_string(CpuIsa isa);
std::optional<CpuIsa> parse_cpu_isa(std::string_view name);

// All that can run here, ascending; never empty. Asks the operating system for the use of AMX, so
// that kAmx in the answer means that tiles may be used.
const std::vector<CpuIsa>& supported_cpu_isas();
CpuIsa best_cpu_isa();

struct CpuInfo {
  std::string model_name;             // as the processor reports it, "unknown" otherwise
  std::int32_t num_cpus = 0;          // logical processors this process may run on
  std::int32_t num_cores = 0;         // physical cores among them
  double quota_cpus = 0;              // CPU time limit of the control group, in processors; 0: none
  std::int64_t last_cache_bytes = 0;  // size of the last-level cache, 0: unknown
  std::int64_t total_memory_bytes = 0;
  std::int64_t available_memory_bytes = 0;  // at the time of the call, control group included
};
CpuInfo read_cpu_info();

// How many threads compute when the user does not say: OMP_NUM_THREADS when it is set to a positive
// number, else one a physical core, not more than the control group's quota allows. At least 1.
std::int32_t default_num_threads();

}  // namespace llmrun
