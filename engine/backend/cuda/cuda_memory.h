// Memory of a GPU and page-locked memory of the host, with owners; and the way from one to the
// other for weights: through page-locked pieces, so that the bus is kept busy.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <span>

#include <cuda_runtime_api.h>

#include "engine/backend/backend.h"
#include "engine/core/thread_pool.h"

namespace llmrun {

std::size_t free_device_bytes();

class CudaBuffer final : public DeviceBuffer {
 public:
  // Uninitialised. Throws Error(kMemory) with the bytes asked for and those free.
  explicit CudaBuffer(std::size_t num_bytes);
  ~CudaBuffer() override;
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;
  void* data() override { return data_; }
  std::size_t num_bytes() const override { return num_bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t num_bytes_;
};

class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t num_bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  std::byte* data() const { return data_; }
  std::size_t num_bytes() const { return num_bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t num_bytes_;
};

class CudaEvent {
 public:
  explicit CudaEvent(bool with_timing = false);
  ~CudaEvent();
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;
  cudaEvent_t get() const { return event_; }
  void record(cudaStream_t stream) const;
  void wait() const;  // the host waits

 private:
  cudaEvent_t event_ = nullptr;
};

// Brings bytes of the host to the device. While one piece crosses the bus, a few threads put the
// next into page-locked memory, from a file or from other memory: one alone is slower than the bus.
class HostToDeviceCopier {
 public:
  explicit HostToDeviceCopier(cudaStream_t stream);

  // Puts bytes [begin, begin + out.size()) of what is copied into `out`. Called by several threads.
  using Fill = std::function<void(std::size_t begin, std::span<std::byte> out)>;
  // `fill` is not used after this returns; the copy is queued on the stream. Throws what `fill`
  // throws; the device's memory is then filled in part.
  void copy(void* device, std::size_t num_bytes, const Fill& fill);
  static Fill from_memory(const void* source);

  // Page-locked memory it keeps, on the host.
  static constexpr std::size_t kPieceBytes = std::size_t{16} << 20;
  static constexpr std::size_t kNumPieces = 3;

 private:
  struct Piece {
    PinnedBuffer memory{kPieceBytes};
    CudaEvent is_free;
  };
  cudaStream_t stream_;
  ThreadPool threads_;
  std::array<Piece, kNumPieces> pieces_;
  std::size_t next_ = 0;
};

}  // namespace llmrun
