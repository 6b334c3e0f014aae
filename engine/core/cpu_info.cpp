#include "engine/core/cpu_info.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace llmrun {
namespace {

#if defined(__x86_64__)

struct CpuidRegisters {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

CpuidRegisters cpuid(unsigned leaf, unsigned subleaf = 0) {
  CpuidRegisters r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

bool has_bit(unsigned word, unsigned bit) {
  return ((word >> bit) & 1U) != 0;
}

// Register state the operating system saves. REQUIRES: CPUID.1:ECX.OSXSAVE.
std::uint64_t read_xcr0() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

bool has_state(std::uint64_t xcr0, std::uint64_t mask) {
  return (xcr0 & mask) == mask;
}

#ifdef LLMRUN_EMULATE_AMX
constexpr bool kEmulatesAmx = true;
#else
constexpr bool kEmulatesAmx = false;
#endif

// Linux gives the 8 KiB of tile state only to processes that ask.
bool request_amx() {
  constexpr long kArchReqXcompPerm = 0x1023;
  constexpr long kXfeatureXtileData = 18;
  return syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureXtileData) == 0;
}

std::vector<CpuIsa> detect_isas() {
  constexpr std::uint64_t kAvxState = 0x6;
  constexpr std::uint64_t kAvx512State = 0xe6;
  constexpr std::uint64_t kTileState = 0x60000;

  std::vector<CpuIsa> isas = {CpuIsa::kPortable};
  const CpuidRegisters leaf1 = cpuid(1);
  const CpuidRegisters leaf7 = cpuid(7, 0);
  const CpuidRegisters leaf7_1 = cpuid(7, 1);
  if (!has_bit(leaf1.ecx, 27)) return isas;  // OSXSAVE
  const std::uint64_t xcr0 = read_xcr0();

  const bool fma = has_bit(leaf1.ecx, 12);
  const bool f16c = has_bit(leaf1.ecx, 29);
  const bool avx2 = has_bit(leaf7.ebx, 5);
  if (!(fma && f16c && avx2 && has_state(xcr0, kAvxState))) return isas;
  isas.push_back(CpuIsa::kAvx2);

  const bool avx512 = has_bit(leaf7.ebx, 16) && has_bit(leaf7.ebx, 17) &&  // F, DQ
                      has_bit(leaf7.ebx, 30) && has_bit(leaf7.ebx, 31);    // BW, VL
  const bool avx512_bf16 = has_bit(leaf7_1.eax, 5);
  if (!(avx512 && avx512_bf16 && has_state(xcr0, kAvx512State))) return isas;
  isas.push_back(CpuIsa::kAvx512Bf16);

  const bool amx = has_bit(leaf7.edx, 22) && has_bit(leaf7.edx, 24);  // BF16, TILE
  if (kEmulatesAmx || (amx && has_state(xcr0, kTileState) && request_amx())) {
    isas.push_back(CpuIsa::kAmx);
  }
  return isas;
}

std::string cpu_brand() {
  std::string brand;
  if (cpuid(0x80000000U).eax < 0x80000004U) return brand;
  for (unsigned leaf = 0x80000002U; leaf <= 0x80000004U; ++leaf) {
    const CpuidRegisters r = cpuid(leaf);
    for (const unsigned word : {r.eax, r.ebx, r.ecx, r.edx}) {
      for (unsigned shift = 0; shift < 32; shift += 8) {
        const char c = static_cast<char>((word >> shift) & 0xffU);
        if (c != '\0') brand.push_back(c);
      }
    }
  }
  const std::size_t begin = brand.find_first_not_of(' ');
  const std::size_t end = brand.find_last_not_of(' ');
  return begin == std::string::npos ? std::string() : brand.substr(begin, end - begin + 1);
}

#else

std::vector<CpuIsa> detect_isas() {
  return {CpuIsa::kPortable};
}

std::string cpu_brand() {
  return {};
}

#endif

std::string read_first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Logical processors of the affinity mask. Machines with more than 1,024 need a larger mask.
std::vector<int> allowed_cpus() {
  constexpr int kMaxCpus = 16384;
  std::vector<int> cpus;
  cpu_set_t* set = CPU_ALLOC(kMaxCpus);
  const std::size_t bytes = CPU_ALLOC_SIZE(kMaxCpus);
  if (set != nullptr && sched_getaffinity(0, bytes, set) == 0) {
    for (int cpu = 0; cpu < kMaxCpus; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set)) cpus.push_back(cpu);
    }
  }
  CPU_FREE(set);
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

// Groups of hyper-threads are told apart by the list of siblings the kernel shows.
std::int32_t count_cores(const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const std::string siblings = read_first_line(
        "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(cpu) : siblings);
  }
  return static_cast<std::int32_t>(cores.size());
}

// "max 100000" or "200000 100000" of control groups v2, in processors; 0: no limit.
double read_quota_cpus() {
  std::istringstream fields(read_first_line("/sys/fs/cgroup/cpu.max"));
  double quota = 0;
  double period = 0;
  if (!(fields >> quota >> period) || period <= 0) return 0;
  return quota / period;
}

std::int64_t read_last_cache_bytes() {
  std::int64_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    const std::string size = read_first_line("/sys/devices/system/cpu/cpu0/cache/index" +
                                             std::to_string(index) + "/size");
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), value);
    if (error != std::errc()) continue;
    const bool is_mebibytes = end != size.data() + size.size() && *end == 'M';
    largest = std::max(largest, value << (is_mebibytes ? 20 : 10));
  }
  return largest;
}

std::int64_t meminfo_bytes(std::string_view key) {
  std::ifstream file("/proc/meminfo");
  std::string name;
  std::int64_t kibibytes = 0;
  std::string rest;
  while (file >> name >> kibibytes && std::getline(file, rest)) {
    if (name == key) return kibibytes * 1024;
  }
  return 0;
}

// Limit and use of the control group, when it has a limit.
std::int64_t cgroup_bytes(const char* path) {
  const std::string line = read_first_line(path);
  std::int64_t value = -1;
  std::from_chars(line.data(), line.data() + line.size(), value);
  return value;
}

}  // namespace

const char* to_string(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kPortable: return "portable";
    case CpuIsa::kAvx2: return "avx2";
    case CpuIsa::kAvx512Bf16: return "avx512bf16";
    case CpuIsa::kAmx: return "amx";
  }
  return "?";
}

std::optional<CpuIsa> parse_cpu_isa(std::string_view name) {
  for (const CpuIsa isa : {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512Bf16, CpuIsa::kAmx}) {
    if (name == to_string(isa)) return isa;
  }
  return std::nullopt;
}

const std::vector<CpuIsa>& supported_cpu_isas() {
  static const std::vector<CpuIsa> kIsas = detect_isas();
  return kIsas;
}

CpuIsa best_cpu_isa() {
  return supported_cpu_isas().back();
}

CpuInfo read_cpu_info() {
  CpuInfo info;
  info.model_name = cpu_brand();
  if (info.model_name.empty()) info.model_name = "unknown";
  const std::vector<int> cpus = allowed_cpus();
  info.num_cpus = static_cast<std::int32_t>(cpus.size());
  info.num_cores = count_cores(cpus);
  info.quota_cpus = read_quota_cpus();
  info.last_cache_bytes = read_last_cache_bytes();
  info.total_memory_bytes = meminfo_bytes("MemTotal:");
  info.available_memory_bytes = meminfo_bytes("MemAvailable:");
  const std::int64_t limit = cgroup_bytes("/sys/fs/cgroup/memory.max");
  const std::int64_t used = cgroup_bytes("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) {
    info.total_memory_bytes = std::min(info.total_memory_bytes, limit);
    info.available_memory_bytes =
        std::min(info.available_memory_bytes, std::max<std::int64_t>(limit - used, 0));
  }
  return info;
}

std::int32_t default_num_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS"); text != nullptr) {
    const std::int64_t wanted = std::strtol(text, nullptr, 10);
    if (wanted > 0) return static_cast<std::int32_t>(std::min<std::int64_t>(wanted, 4096));
  }
  const CpuInfo info = read_cpu_info();
  std::int32_t threads = info.num_cores;
  if (info.quota_cpus > 0) {
    threads = std::min(threads, static_cast<std::int32_t>(std::ceil(info.quota_cpus)));
  }
  return std::max(threads, 1);
}

}  // namespace llmrun
