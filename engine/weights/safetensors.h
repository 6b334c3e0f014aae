// SafetensorsFile: one .safetensors file, checked from end to end when it is opened.
//
// Accepted is what the format's own reader accepts: tensors fill the data section without a hole or
// an overlap, and each has the size its shape and dtype say. Bytes are read with pread into the
// caller's memory and never mapped: a file that is cut while it is in use is an error, not a
// SIGBUS. Every failure is Error(kModel) that names file, tensor, offset, expected and found.
// Source: https://github.com/huggingface/safetensors, safetensors/src/tensor.rs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/weights/random_access_file.h"

namespace llmrun {

// The element types of the format. Most are only known by size: a file may hold them, but nothing
// here computes with them.
struct SafetensorsDType {
  std::string_view name;         // as written in the header: "BF16"
  std::uint32_t num_bits = 0;    // of one element; may be less than 8
  std::optional<DType> dtype{};  // the same type in llmrun, if there is one
};

struct SafetensorsTensor {
  std::string name;
  const SafetensorsDType* type = nullptr;  // never null in a file that was opened
  std::vector<std::uint64_t> shape;        // empty: a scalar
  std::uint64_t offset = 0;                // of the first byte, from the beginning of the file
  std::uint64_t num_bytes = 0;
};

class SafetensorsFile {
 public:
  // REQUIRES: path is no symbolic link (see model_file() in model_location.h).
  explicit SafetensorsFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::uint64_t num_bytes() const { return file_.num_bytes(); }  // of the whole file
  // In the order of their bytes.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }

  // Reads bytes [begin, begin + out.size()) of a tensor. Throws when the file is not what it was.
  void read(const SafetensorsTensor& tensor, std::uint64_t begin, std::span<std::byte> out) const;

 private:
  RandomAccessFile file_;
  std::vector<SafetensorsTensor> tensors_;
};

}  // namespace llmrun
