#include "engine/backend/cpu/cpu_memory.h"

#include <new>
#include <utility>

#include <fmt/format.h>
#include <sys/mman.h>

#include "engine/core/cpu_info.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr std::size_t kAlignment = 64;
// From here on buffers come straight from the system; one huge page is 2 MiB.
constexpr std::size_t kMappedBytes = std::size_t{2} << 20;
// From here on the system is asked what it has left: it would otherwise promise the memory and kill
// the process when it is used.
constexpr std::size_t kCheckedBytes = std::size_t{64} << 20;

void check_available(std::size_t num_bytes) {
  const auto available = static_cast<std::size_t>(read_cpu_info().available_memory_bytes);
  if (available > 0 && num_bytes > available) {
    throw Error(ErrorKind::kMemory,
                fmt::format("not enough host memory: {} MiB needed, {} MiB available",
                            num_bytes >> 20, available >> 20));
  }
}

void* map(std::size_t num_bytes) {
  if (num_bytes >= kCheckedBytes) check_available(num_bytes);
  void* data = mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    throw Error(ErrorKind::kMemory,
                fmt::format("the system refused {} MiB of host memory", num_bytes >> 20));
  }
  madvise(data, num_bytes, MADV_HUGEPAGE);  // best effort
  return data;
}

void* allocate_small(std::size_t num_bytes) {
  void* data = ::operator new (num_bytes, std::align_val_t{kAlignment}, std::nothrow);
  if (data == nullptr) {
    throw Error(ErrorKind::kMemory,
                fmt::format("the system refused {} bytes of host memory", num_bytes));
  }
  return data;
}

}  // namespace

HostBuffer::HostBuffer(std::size_t num_bytes) : num_bytes_(num_bytes) {
  data_ = num_bytes >= kMappedBytes ? map(num_bytes) : allocate_small(num_bytes);
}

HostBuffer::~HostBuffer() {
  if (num_bytes_ >= kMappedBytes) {
    munmap(data_, num_bytes_);
  } else if (data_ != nullptr) {
    ::operator delete (data_, std::align_val_t{kAlignment});
  }
}

HostBuffer::HostBuffer(HostBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), num_bytes_(std::exchange(other.num_bytes_, 0)) {}

HostBuffer& HostBuffer::operator=(HostBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(num_bytes_, other.num_bytes_);
  return *this;
}

void HostBuffer::reserve(std::size_t num_bytes) {
  if (num_bytes <= num_bytes_) return;
  *this = HostBuffer();  // give back first: both need not fit
  *this = HostBuffer(num_bytes);
}

}  // namespace llmrun
