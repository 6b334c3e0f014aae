#include "engine/core/cpu_info.h"

#include <cstdlib>

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("instruction sets are ascending and begin with the portable one") {
  const std::vector<CpuIsa>& isas = supported_cpu_isas();
  REQUIRE(!isas.empty());
  CHECK(isas.front() == CpuIsa::kPortable);
  for (std::size_t i = 1; i < isas.size(); ++i) CHECK(isas[i - 1] < isas[i]);
  CHECK(best_cpu_isa() == isas.back());
}

TEST_CASE("instruction sets have names that parse back") {
  for (const CpuIsa isa : {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512Bf16, CpuIsa::kAmx}) {
    CHECK(parse_cpu_isa(to_string(isa)) == isa);
  }
  CHECK(!parse_cpu_isa("avx9").has_value());
}

TEST_CASE("cpu info is plausible") {
  const CpuInfo info = read_cpu_info();
  CHECK(!info.model_name.empty());
  CHECK(info.num_cpus >= 1);
  CHECK(info.num_cores >= 1);
  CHECK(info.num_cores <= info.num_cpus);
  CHECK(info.total_memory_bytes > 0);
  CHECK(info.available_memory_bytes > 0);
  CHECK(info.available_memory_bytes <= info.total_memory_bytes);
}

TEST_CASE("OMP_NUM_THREADS decides the number of threads when it is a positive number") {
  const char* before = std::getenv("OMP_NUM_THREADS");
  const std::string saved = before == nullptr ? "" : before;
  setenv("OMP_NUM_THREADS", "3", 1);
  CHECK(default_num_threads() == 3);
  setenv("OMP_NUM_THREADS", "many", 1);
  CHECK(default_num_threads() >= 1);
  if (before == nullptr) {
    unsetenv("OMP_NUM_THREADS");
  } else {
    setenv("OMP_NUM_THREADS", saved.c_str(), 1);
  }
}

}  // namespace llmrun
