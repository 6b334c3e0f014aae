// How much of the heap is in use, for tests of what memory grows with.
#pragma once

#include <cstddef>

#include <malloc.h>

namespace llmrun::testing {

// 0 where nothing tells: under a sanitizer, and with a C library before glibc 2.33.
inline std::size_t heap_bytes_in_use() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC_PREREQ)
  return 0;
#elif __GLIBC_PREREQ(2, 33)
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
#else
  return 0;
#endif
}

}  // namespace llmrun::testing
