// Tensor: a shaped view of memory that somebody else owns. Contiguous, row-major. No arithmetic.
// The memory is on the host or on one backend's device; the owner's contract says which.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "engine/core/dtype.h"
#include "engine/core/error.h"

namespace llmrun {

class Tensor {
 public:
  static constexpr int kMaxRank = 4;

  Tensor() = default;  // empty: no data, rank 0
  Tensor(void* data, DType dtype, std::initializer_list<std::int64_t> shape)
      : data_(data), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
    LLMRUN_CHECK(shape.size() <= kMaxRank);
    int i = 0;
    for (const std::int64_t extent : shape) shape_[static_cast<std::size_t>(i++)] = extent;
  }

  bool empty() const { return data_ == nullptr; }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  // Extent of one dimension; 0 <= dim < rank().
  std::int64_t dim(int dim) const { return shape_[static_cast<std::size_t>(dim)]; }
  std::int64_t num_elements() const {
    std::int64_t count = 1;
    for (int i = 0; i < rank_; ++i) count *= shape_[static_cast<std::size_t>(i)];
    return count;
  }
  std::size_t num_bytes() const {
    return static_cast<std::size_t>(num_elements()) * dtype_bytes(dtype_);
  }

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    LLMRUN_CHECK(sizeof(T) == dtype_bytes(dtype_));
    return static_cast<T*>(data_);
  }

  // The first `count` rows (extent of dimension 0), or rows [begin, begin + count).
  Tensor rows(std::int64_t count) const { return rows(0, count); }
  Tensor rows(std::int64_t begin, std::int64_t count) const {
    LLMRUN_CHECK(rank_ >= 1 && begin >= 0 && count >= 0 && begin + count <= shape_[0]);
    Tensor result = *this;
    const std::int64_t row = shape_[0] == 0 ? 0 : num_elements() / shape_[0];
    result.data_ = static_cast<std::byte*>(data_) +
                   static_cast<std::size_t>(begin * row) * dtype_bytes(dtype_);
    result.shape_[0] = count;
    return result;
  }

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  int rank_ = 0;
  std::array<std::int64_t, kMaxRank> shape_{};
};

}  // namespace llmrun
