#include "engine/backend/cpu/cpu_memory.h"

#include <cstdint>
#include <utility>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {

TEST_CASE("buffers are aligned and writable at every size") {
  for (const std::size_t num_bytes : {0UL, 1UL, 100UL, (2UL << 20) - 1, 2UL << 20, 70UL << 20}) {
    HostBuffer buffer(num_bytes);
    CHECK(buffer.num_bytes() == num_bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64 == 0);
    if (num_bytes > 0) {
      buffer.as<char>()[0] = 'a';
      buffer.as<char>()[num_bytes - 1] = 'b';
    }
  }
}

TEST_CASE("a buffer moves its memory and grows on demand") {
  HostBuffer a(100);
  void* data = a.data();
  HostBuffer b = std::move(a);
  CHECK(b.data() == data);
  b.reserve(50);
  CHECK(b.data() == data);
  b.reserve(std::size_t{4} << 20);
  CHECK(b.num_bytes() == std::size_t{4} << 20);
  b = HostBuffer();
  CHECK(b.data() == nullptr);
}

TEST_CASE("more memory than the machine has is a memory error that names the sizes") {
  try {
    HostBuffer buffer(std::size_t{1} << 50);
    FAIL("allocated a pebibyte");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kMemory);
    CHECK(std::string(error.what()).find("1073741824 MiB needed") != std::string::npos);
  }
}

}  // namespace llmrun
