// Checkpoint: the weights of a model folder, by name, whether they lie in one file or many.
//
// Reads model.safetensors, else model.safetensors.index.json and the files it names, else
// pytorch_model.bin, else pytorch_model.bin.index.json and its files. Everything is checked when
// the checkpoint is opened, before gigabytes are read. Errors are Error(kModel).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "engine/core/json.h"
#include "engine/core/tensor.h"
#include "engine/core/thread_pool.h"
#include "engine/weights/weight_file.h"

namespace llmrun {

struct WeightFormat;  // how the files of a kind are called and opened

// A tensor in host memory that it owns.
class HostTensor {
 public:
  // Uninitialised.
  HostTensor(DType dtype, std::initializer_list<std::int64_t> shape);

  Tensor tensor() const { return tensor_; }

 private:
  friend class Checkpoint;
  struct Free {
    void operator()(std::byte* bytes) const { ::operator delete[](bytes, kAlignment); }
  };
  static constexpr std::align_val_t kAlignment{4096};  // a page, for madvise

  std::unique_ptr<std::byte[], Free> bytes_;
  Tensor tensor_;
};

class Checkpoint;

// A tensor that is still in its file, to be read in pieces. The checkpoint must outlive it.
class StoredTensorReader {
 public:
  DType dtype() const { return *tensor_->type->dtype; }
  std::uint64_t num_bytes() const { return tensor_->num_bytes; }
  // Reads bytes [begin, begin + out.size()), whole elements. Throws Error(kModel) that names file
  // and offset. Safe to call from several threads.
  void read(std::uint64_t begin, std::span<std::byte> out) const;

 private:
  friend class Checkpoint;
  StoredTensorReader(Checkpoint& checkpoint, const WeightFile& file, const StoredTensor& tensor)
      : checkpoint_(&checkpoint), file_(&file), tensor_(&tensor) {}

  Checkpoint* checkpoint_;
  const WeightFile* file_;
  const StoredTensor* tensor_;
};

class Checkpoint {
 public:
  struct Options {
    bool allow_symlinks = false;  // links that lead out of the folder and out of its cache
  };

  explicit Checkpoint(const std::filesystem::path& folder) : Checkpoint(folder, Options{}) {}
  Checkpoint(const std::filesystem::path& folder, Options options);

  bool contains(const std::string& name) const { return entries_.contains(name); }
  // The type that most bytes of the weights have. Throws when it is none to compute with
  // (float32, float16, bfloat16).
  DType main_dtype() const;
  // Bytes of all tensors.
  std::uint64_t num_bytes() const { return num_bytes_; }

  // Reads a tensor. Throws when there is none of this name, or its shape is another, or its type is
  // none to compute with. Rank 0 to 4. Several threads read pieces of it.
  HostTensor require(const std::string& name, std::initializer_list<std::int64_t> shape);
  // The same without reading it yet.
  StoredTensorReader find(const std::string& name, std::initializer_list<std::int64_t> shape);

  // Marks a tensor as known and not needed.
  void ignore(const std::string& name);
  // Names never asked for, in order: weights that the model does not use.
  std::vector<std::string> unused_names() const;

  // What is odd about the files but does not stop a run; one line each.
  // Complete when no tensor is being read.
  const std::vector<std::string>& notes() const { return notes_; }

  // 16 hexadecimal digits that change with config.json, with any name, type or shape, and, all but
  // surely, with the values: 64 bytes from the middle of each tensor are read. The same for copies.
  std::string fingerprint() const;

 private:
  struct Entry {
    std::size_t file = 0;   // index into files_
    std::size_t index = 0;  // into its tensors()
    bool was_used = false;
  };

  void open(const WeightFormat& format);
  void open_index(const WeightFormat& format, const std::filesystem::path& index_path);
  void check_total_size(const JsonObject& index, const std::string& place);
  void open_single_file(const WeightFormat& format, const std::filesystem::path& path);
  const StoredTensor& tensor_of(const Entry& entry) const {
    return files_[entry.file].tensors()[entry.index];
  }
  [[noreturn]] void fail_no_weights() const;
  ThreadPool& readers();
  friend class StoredTensorReader;
  void note_not_finite(const WeightFile& file, const StoredTensor& tensor);

  std::filesystem::path folder_;
  Options options_;
  std::vector<WeightFile> files_;
  std::map<std::string, Entry> entries_;
  std::uint64_t num_bytes_ = 0;
  std::mutex notes_mutex_;
  std::vector<std::string> notes_;  // guarded by notes_mutex_ while tensors are read
  std::set<const StoredTensor*> noted_not_finite_;  // guarded by notes_mutex_
  std::unique_ptr<ThreadPool> readers_;             // made when the first tensor is read
};

}  // namespace llmrun
