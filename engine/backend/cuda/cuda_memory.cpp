#include "engine/backend/cuda/cuda_memory.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "engine/core/cpu_info.h"
#include "engine/core/error.h"
#include "kernels/cuda/check.h"

namespace llmrun {
namespace {

constexpr std::int32_t kMaxThreads = 8;
constexpr std::int64_t kFillBytes = 1 << 20;  // one thread fills at once

}  // namespace

using kernels::check_cuda;

std::size_t free_device_bytes() {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
  return free_bytes;
}

CudaBuffer::CudaBuffer(std::size_t num_bytes) : num_bytes_(num_bytes) {
  if (num_bytes == 0) return;
  const cudaError_t status = cudaMalloc(&data_, num_bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is told here
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    throw Error(ErrorKind::kMemory,
                fmt::format("the GPU has no room for {:.1f} MiB: {:.1f} MiB of {:.1f} MiB are free",
                            static_cast<double>(num_bytes) / 1048576.0,
                            static_cast<double>(free_bytes) / 1048576.0,
                            static_cast<double>(total_bytes) / 1048576.0));
  }
  check_cuda(status, "cudaMalloc");
}

CudaBuffer::~CudaBuffer() {
  if (data_ != nullptr) cudaFree(data_);
}

PinnedBuffer::PinnedBuffer(std::size_t num_bytes) : num_bytes_(num_bytes) {
  void* memory = nullptr;
  check_cuda(cudaHostAlloc(&memory, std::max<std::size_t>(num_bytes, 1), cudaHostAllocDefault),
             "cudaHostAlloc");
  data_ = static_cast<std::byte*>(memory);
}

PinnedBuffer::~PinnedBuffer() {
  cudaFreeHost(data_);
}

CudaEvent::CudaEvent(bool with_timing) {
  check_cuda(
      cudaEventCreateWithFlags(&event_, with_timing ? cudaEventDefault : cudaEventDisableTiming),
      "cudaEventCreate");
}

CudaEvent::~CudaEvent() {
  cudaEventDestroy(event_);
}

void CudaEvent::record(cudaStream_t stream) const {
  check_cuda(cudaEventRecord(event_, stream), "cudaEventRecord");
}

void CudaEvent::wait() const {
  check_cuda(cudaEventSynchronize(event_), "a step on the GPU");
}

HostToDeviceCopier::HostToDeviceCopier(cudaStream_t stream)
    : stream_(stream), threads_({.num_threads = std::min(kMaxThreads, default_num_threads())}) {}

HostToDeviceCopier::Fill HostToDeviceCopier::from_memory(const void* source) {
  return [source](std::size_t begin, std::span<std::byte> out) {
    std::memcpy(out.data(), static_cast<const std::byte*>(source) + begin, out.size());
  };
}

void HostToDeviceCopier::copy(void* device, std::size_t num_bytes, const Fill& fill) {
  for (std::size_t begin = 0; begin < num_bytes; begin += kPieceBytes) {
    const std::size_t count = std::min(kPieceBytes, num_bytes - begin);
    Piece& piece = pieces_[next_];
    next_ = (next_ + 1) % pieces_.size();
    piece.is_free.wait();
    threads_.parallel_ranges(static_cast<std::int64_t>(count), kFillBytes,
                             [&](std::int64_t first, std::int64_t last, std::int32_t /*thread*/) {
                               fill(begin + static_cast<std::size_t>(first),
                                    {piece.memory.data() + first, piece.memory.data() + last});
                             });
    check_cuda(cudaMemcpyAsync(static_cast<std::byte*>(device) + begin, piece.memory.data(), count,
                               cudaMemcpyHostToDevice, stream_),
               "cudaMemcpyAsync to the GPU");
    piece.is_free.record(stream_);
  }
}

}  // namespace llmrun
