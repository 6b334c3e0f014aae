// WeightFile: the tensors of one file of weights, whatever its format, and their bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/weights/random_access_file.h"

namespace llmrun {

// An element type of a file. Most are only known by size: a file may hold them, but nothing here
// computes with them.
struct StoredType {
  std::string_view name;         // as safetensors spells it: "BF16"
  std::uint32_t num_bits = 0;    // of one element; may be less than 8
  std::optional<DType> dtype{};  // the same type in llmrun, if there is one
};

struct StoredTensor {
  std::string name;
  const StoredType* type = nullptr;  // never null in a file that was opened
  std::vector<std::uint64_t> shape;  // row-major; empty: a scalar
  std::uint64_t offset = 0;          // of the first byte, from the beginning of the file
  std::uint64_t num_bytes = 0;
};

class WeightFile {
 public:
  // REQUIRES: the tensors lie in the file.
  WeightFile(RandomAccessFile file, std::vector<StoredTensor> tensors)
      : file_(std::move(file)), tensors_(std::move(tensors)) {}

  const std::filesystem::path& path() const { return file_.path(); }
  std::uint64_t num_bytes() const { return file_.num_bytes(); }  // of the whole file
  // In the order of their bytes. Those of a PyTorch file may overlap.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }

  // Reads bytes [begin, begin + out.size()) of a tensor. Throws Error(kModel) when the file is not
  // what it was. Safe to call from several threads.
  void read(const StoredTensor& tensor, std::uint64_t begin, std::span<std::byte> out) const;

 private:
  RandomAccessFile file_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace llmrun
