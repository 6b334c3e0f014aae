// WeightLoader: gives a model its weights by name, from a checkpoint or made up. A model states the
// shape it needs; what has another shape is Error(kModel).
//
// Names are those of the checkpoint without ".weight" and ".bias".
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/weights/checkpoint.h"

namespace llmrun {

// A weight matrix [sum of rows, columns], stacked from named parts.
struct LinearSpec {
  struct Part {
    std::string name;
    std::int64_t num_rows = 0;
    // A part of a larger tensor: rows [first_row, first_row + num_rows) of `total_rows`.
    std::int64_t first_row = 0;
    std::int64_t total_rows = 0;  // 0: num_rows

    std::int64_t stored_rows() const { return total_rows > 0 ? total_rows : num_rows; }
  };
  std::vector<Part> parts{};
  std::int64_t num_columns = 0;
  bool has_bias = false;
  bool is_transposed = false;    // the checkpoint holds [columns, rows], as GPT-2's Conv1D
  bool normalizes_rows = false;  // each row is divided by its Euclidean norm
};

class WeightLoader {
 public:
  virtual ~WeightLoader() = default;
  virtual std::unique_ptr<LinearWeight> linear(const LinearSpec& spec) = 0;
  // For Backend::gate_up. Two parts, gate and up.
  virtual std::unique_ptr<LinearWeight> gate_up(const LinearSpec& spec) = 0;
  // A vector [size] by its full name, with `added` to each element: a norm's weight or bias.
  virtual DeviceTensor vector(const std::string& name, std::int64_t size, float added = 0.0F) = 0;
  // What the model computed itself, as it is. host: float32, rank 1 or 2.
  virtual DeviceTensor constant(Tensor host) = 0;
  // Whether the checkpoint has a tensor of this full name; made-up weights have any.
  virtual bool contains(const std::string& name) const {
    static_cast<void>(name);
    return true;
  }
  // The checkpoint may hold this tensor (full name), but the model has no use for it.
  virtual void ignore(const std::string& name) { static_cast<void>(name); }
};

// Bytes of weights done, and in all.
using LoadProgress = std::function<void(std::uint64_t done, std::uint64_t total)>;

// Reads one matrix at a time, so that host memory holds little more than the largest; a backend
// that reads in pieces needs only those.
class CheckpointWeightLoader final : public WeightLoader {
 public:
  // `dtype` is what matrices are stored and multiplied in. The checkpoint and the backend must
  // outlive this.
  CheckpointWeightLoader(Checkpoint& checkpoint, Backend& backend, DType dtype,
                         LoadProgress progress = nullptr);

  std::unique_ptr<LinearWeight> linear(const LinearSpec& spec) override;
  std::unique_ptr<LinearWeight> gate_up(const LinearSpec& spec) override;
  DeviceTensor vector(const std::string& name, std::int64_t size, float added) override;
  DeviceTensor constant(Tensor host) override;
  bool contains(const std::string& name) const override { return checkpoint_.contains(name); }
  void ignore(const std::string& name) override { checkpoint_.ignore(name); }

 private:
  // The tensors of a LinearSpec in host memory, and the matrix they make.
  struct Read {
    std::map<std::string, HostTensor> tensors;
    LinearSource source;
  };
  Read read(const LinearSpec& spec);
  // For a backend that reads in pieces: the parts without memory, and the way to read them.
  LinearSource unread_source(const LinearSpec& spec);
  HostTensor read(const std::string& name, std::initializer_list<std::int64_t> shape);
  void report_progress() const;

  Checkpoint& checkpoint_;
  Backend& backend_;
  DType dtype_;
  LoadProgress progress_;
  std::uint64_t num_bytes_done_ = 0;
};

// Random weights as a fresh model has them: normal with standard deviation 0.02, norms 1, their
// biases 0. Logits are finite and no token is always the likeliest.
class RandomWeightLoader final : public WeightLoader {
 public:
  RandomWeightLoader(Backend& backend, DType dtype, std::uint64_t seed, std::uint64_t total_bytes,
                     LoadProgress progress = nullptr);

  std::unique_ptr<LinearWeight> linear(const LinearSpec& spec) override;
  std::unique_ptr<LinearWeight> gate_up(const LinearSpec& spec) override;
  DeviceTensor vector(const std::string& name, std::int64_t size, float added) override;
  DeviceTensor constant(Tensor host) override;

 private:
  std::uint64_t seed_of(const std::string& name) const;
  void report_progress(std::int64_t num_elements);

  Backend& backend_;
  DType dtype_;
  std::uint64_t seed_;
  std::uint64_t total_bytes_;
  LoadProgress progress_;
  std::uint64_t num_bytes_done_ = 0;
};

// Counts parameters; gives null weights. A model made with it must not be run.
class CountingWeightLoader final : public WeightLoader {
 public:
  std::unique_ptr<LinearWeight> linear(const LinearSpec& spec) override;
  std::unique_ptr<LinearWeight> gate_up(const LinearSpec& spec) override;
  DeviceTensor vector(const std::string& name, std::int64_t size, float added) override;
  DeviceTensor constant(Tensor host) override;

  std::int64_t num_parameters() const { return num_parameters_; }

 private:
  std::int64_t num_parameters_ = 0;
};

}  // namespace llmrun
