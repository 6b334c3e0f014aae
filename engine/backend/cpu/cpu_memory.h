// Host memory for weights, activations and caches.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/backend/backend.h"

namespace llmrun {

// 64-byte aligned memory, uninitialised. Large buffers are page aligned, backed by huge pages where
// the system grants them, and take physical memory only when they are first written, near the
// thread that writes. Throws Error(kMemory) when the system has too little.
class HostBuffer final : public DeviceBuffer {
 public:
  HostBuffer() = default;  // empty
  explicit HostBuffer(std::size_t num_bytes);
  ~HostBuffer() override;
  HostBuffer(HostBuffer&& other) noexcept;
  HostBuffer& operator=(HostBuffer&& other) noexcept;
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  void* data() override { return data_; }
  const void* data() const { return data_; }
  std::size_t num_bytes() const override { return num_bytes_; }
  template <typename T>
  T* as() {
    return static_cast<T*>(data_);
  }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data_);
  }
  // Makes room for `num_bytes`; what was inside is lost when it has to grow.
  void reserve(std::size_t num_bytes);

 private:
  void* data_ = nullptr;
  std::size_t num_bytes_ = 0;
};

}  // namespace llmrun
