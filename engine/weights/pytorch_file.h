// PytorchFile: the tensors of one pytorch_model.bin, as torch.save has written it since torch 1.6.
//
// Such a file is a zip archive of stored members: NAME/data.pkl, a pickle of the state dict, and
// one member NAME/data/KEY a storage, raw and little-endian. The pickle is read as data and nothing
// in it is run (pickle_reader.h). A tensor is a view of a storage: shared storages and offsets are
// honoured, other orders than row-major are refused. Everything is checked when the file is opened.
// Every failure is Error(kModel) that names the file and the place.
// Source: PyTorch, torch/serialization.py and torch/_utils.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "engine/weights/random_access_file.h"
#include "engine/weights/safetensors.h"

namespace llmrun {

class PytorchFile {
 public:
  // REQUIRES: path is no symbolic link (see model_file() in model_location.h).
  explicit PytorchFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return file_.path(); }
  std::uint64_t num_bytes() const { return file_.num_bytes(); }  // of the whole file
  // Described as those of a safetensors file; in the order of their bytes. They may overlap.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }

  // Reads bytes [begin, begin + out.size()) of a tensor. Throws when the file is not what it was.
  void read(const SafetensorsTensor& tensor, std::uint64_t begin, std::span<std::byte> out) const;

 private:
  RandomAccessFile file_;
  std::vector<SafetensorsTensor> tensors_;
};

}  // namespace llmrun
