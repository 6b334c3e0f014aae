#include "engine/models/weight_loader.h"

#include <utility>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace llmrun {
namespace {

constexpr float kInitialStddev = 0.02F;  // initializer_range of Hugging Face configurations

DeviceTensor upload(Backend& backend, const Tensor& host) {
  LLMRUN_CHECK(host.rank() == 2 && host.dtype() == DType::kF32);
  DeviceTensor device = backend.allocate_tensor(DType::kF32, {host.dim(0), host.dim(1)});
  backend.copy_to_device(device.tensor, host.data());
  return device;
}

std::int64_t num_rows(const LinearSpec& spec) {
  std::int64_t count = 0;
  for (const LinearSpec::Part& part : spec.parts) count += part.num_rows;
  return count;
}

}  // namespace

CheckpointWeightLoader::CheckpointWeightLoader(Checkpoint& checkpoint, Backend& backend,
                                               DType dtype, LoadProgress progress)
    : checkpoint_(checkpoint), backend_(backend), dtype_(dtype), progress_(std::move(progress)) {}

std::unique_ptr<LinearWeight> CheckpointWeightLoader::linear(const LinearSpec& spec) {
  std::vector<HostTensor> tensors;
  LinearSource source;
  for (const LinearSpec::Part& part : spec.parts) {
    tensors.push_back(read(part.name + ".weight", {part.num_rows, spec.num_columns}));
    source.parts.push_back(tensors.back().tensor());
    if (!spec.has_bias) continue;
    tensors.push_back(read(part.name + ".bias", {part.num_rows}));
    source.biases.push_back(tensors.back().tensor());
  }
  std::unique_ptr<LinearWeight> weight = backend_.make_linear(source, dtype_);
  report_progress();
  return weight;
}

std::unique_ptr<LinearWeight> CheckpointWeightLoader::gate_up(const std::string& gate,
                                                              const std::string& up,
                                                              std::int64_t intermediate_size,
                                                              std::int64_t hidden_size) {
  const HostTensor gate_tensor = read(gate + ".weight", {intermediate_size, hidden_size});
  const HostTensor up_tensor = read(up + ".weight", {intermediate_size, hidden_size});
  std::unique_ptr<LinearWeight> weight =
      backend_.make_gate_up(gate_tensor.tensor(), up_tensor.tensor(), dtype_);
  report_progress();
  return weight;
}

DeviceTensor CheckpointWeightLoader::norm(const std::string& name, std::int64_t size) {
  const HostTensor tensor = read(name + ".weight", {size});
  return backend_.make_vector(tensor.tensor());
}

DeviceTensor CheckpointWeightLoader::constant(Tensor host) {
  return upload(backend_, host);
}

HostTensor CheckpointWeightLoader::read(const std::string& name,
                                        std::initializer_list<std::int64_t> shape) {
  HostTensor tensor = checkpoint_.require(name, shape);
  num_bytes_done_ += tensor.tensor().num_bytes();
  return tensor;
}

void CheckpointWeightLoader::report_progress() const {
  if (progress_) progress_(num_bytes_done_, checkpoint_.num_bytes());
}

RandomWeightLoader::RandomWeightLoader(Backend& backend, DType dtype, std::uint64_t seed,
                                       std::uint64_t total_bytes, LoadProgress progress)
    : backend_(backend),
      dtype_(dtype),
      seed_(seed),
      total_bytes_(total_bytes),
      progress_(std::move(progress)) {}

std::unique_ptr<LinearWeight> RandomWeightLoader::linear(const LinearSpec& spec) {
  std::unique_ptr<LinearWeight> weight =
      backend_.make_random_linear(num_rows(spec), spec.num_columns, spec.has_bias, dtype_,
                                  kInitialStddev, seed_of(spec.parts.front().name));
  report_progress(num_rows(spec) * spec.num_columns);
  return weight;
}

std::unique_ptr<LinearWeight> RandomWeightLoader::gate_up(const std::string& gate,
                                                          const std::string& /*up*/,
                                                          std::int64_t intermediate_size,
                                                          std::int64_t hidden_size) {
  std::unique_ptr<LinearWeight> weight = backend_.make_random_gate_up(
      intermediate_size, hidden_size, dtype_, kInitialStddev, seed_of(gate));
  report_progress(2 * intermediate_size * hidden_size);
  return weight;
}

DeviceTensor RandomWeightLoader::norm(const std::string& /*name*/, std::int64_t size) {
  std::vector<float> ones(static_cast<std::size_t>(size), 1.0F);
  return backend_.make_vector(Tensor(ones.data(), DType::kF32, {size}));
}

DeviceTensor RandomWeightLoader::constant(Tensor host) {
  return upload(backend_, host);
}

// From the name, so that a weight does not depend on the order of loading.
std::uint64_t RandomWeightLoader::seed_of(const std::string& name) const {
  std::uint64_t hash = 0;
  for (const char c : name) hash = mix64(hash ^ static_cast<std::uint8_t>(c));
  return derive_seed(seed_, hash);
}

void RandomWeightLoader::report_progress(std::int64_t num_elements) {
  num_bytes_done_ += static_cast<std::uint64_t>(num_elements) * dtype_bytes(dtype_);
  if (progress_) progress_(num_bytes_done_, total_bytes_);
}

std::unique_ptr<LinearWeight> CountingWeightLoader::linear(const LinearSpec& spec) {
  num_parameters_ += num_rows(spec) * (spec.num_columns + (spec.has_bias ? 1 : 0));
  return nullptr;
}

std::unique_ptr<LinearWeight> CountingWeightLoader::gate_up(const std::string& /*gate*/,
                                                            const std::string& /*up*/,
                                                            std::int64_t intermediate_size,
                                                            std::int64_t hidden_size) {
  num_parameters_ += 2 * intermediate_size * hidden_size;
  return nullptr;
}

DeviceTensor CountingWeightLoader::norm(const std::string& /*name*/, std::int64_t size) {
  num_parameters_ += size;
  return {};
}

DeviceTensor CountingWeightLoader::constant(Tensor /*host*/) {
  return {};
}

}  // namespace llmrun
