#include "engine/models/weight_loader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/float16.h"
#include "engine/core/random.h"

namespace llmrun {
namespace {

constexpr float kInitialStddev = 0.02F;  // initializer_range of Hugging Face configurations

DeviceTensor upload(Backend& backend, const Tensor& host) {
  LLMRUN_CHECK((host.rank() == 1 || host.rank() == 2) && host.dtype() == DType::kF32);
  DeviceTensor device = host.rank() == 1
                            ? backend.allocate_tensor(DType::kF32, {host.dim(0)})
                            : backend.allocate_tensor(DType::kF32, {host.dim(0), host.dim(1)});
  backend.copy_to_device(device.tensor, host.data());
  return device;
}

std::int64_t num_rows(const LinearSpec& spec) {
  std::int64_t count = 0;
  for (const LinearSpec::Part& part : spec.parts) count += part.num_rows;
  return count;
}

// Rows of the tensors that a matrix is made of, used or not.
std::int64_t num_stored_rows(const LinearSpec& spec) {
  std::map<std::string, std::int64_t> rows;
  for (const LinearSpec::Part& part : spec.parts) rows[part.name] = part.stored_rows();
  std::int64_t count = 0;
  for (const auto& [name, stored] : rows) count += stored;
  return count;
}

float load_as_float(const Tensor& tensor, std::int64_t i) {
  switch (tensor.dtype()) {
    case DType::kF16: return f16_to_float(tensor.as<std::uint16_t>()[i]);
    case DType::kBf16: return bf16_to_float(tensor.as<std::uint16_t>()[i]);
    default: return tensor.as<float>()[i];
  }
}

// [K, N] to [N, K].
HostTensor transposed(const Tensor& tensor) {
  const std::int64_t num_columns = tensor.dim(0);
  const std::int64_t num_rows = tensor.dim(1);
  HostTensor result(tensor.dtype(), {num_rows, num_columns});
  const auto copy = [&]<typename T>(T* to, const T* from) {
    for (std::int64_t k = 0; k < num_columns; ++k) {
      for (std::int64_t n = 0; n < num_rows; ++n) to[n * num_columns + k] = from[k * num_rows + n];
    }
  };
  if (tensor.dtype() == DType::kF32) {
    copy(result.tensor().as<float>(), tensor.as<float>());
  } else {
    copy(result.tensor().as<std::uint16_t>(), tensor.as<std::uint16_t>());
  }
  return result;
}

// Rows of length 1, as torch.nn.functional.normalize makes them, in float32.
HostTensor normalized_rows(const Tensor& tensor) {
  constexpr float kSmallestNorm = 1e-12F;
  const std::int64_t num_columns = tensor.dim(1);
  HostTensor result(DType::kF32, {tensor.dim(0), num_columns});
  for (std::int64_t n = 0; n < tensor.dim(0); ++n) {
    float* row = result.tensor().as<float>() + n * num_columns;
    double sum = 0;
    for (std::int64_t k = 0; k < num_columns; ++k) {
      row[k] = load_as_float(tensor, n * num_columns + k);
      sum += double{row[k]} * row[k];
    }
    const float norm = std::max(static_cast<float>(std::sqrt(sum)), kSmallestNorm);
    for (std::int64_t k = 0; k < num_columns; ++k) row[k] /= norm;
  }
  return result;
}

}  // namespace

CheckpointWeightLoader::CheckpointWeightLoader(Checkpoint& checkpoint, Backend& backend,
                                               DType dtype, LoadProgress progress)
    : checkpoint_(checkpoint), backend_(backend), dtype_(dtype), progress_(std::move(progress)) {}

CheckpointWeightLoader::Read CheckpointWeightLoader::read(const LinearSpec& spec) {
  Read result;
  const auto tensor_of = [&](const std::string& name, auto&& make) -> Tensor {
    const auto found = result.tensors.find(name);
    if (found != result.tensors.end()) return found->second.tensor();
    return result.tensors.emplace(name, make(name)).first->second.tensor();
  };
  if (backend_.reads_weights_in_pieces() && !spec.is_transposed && !spec.normalizes_rows) {
    result.source = unread_source(spec);
  } else {
    for (const LinearSpec::Part& part : spec.parts) {
      const Tensor weight = tensor_of(part.name + ".weight", [&](const std::string& name) {
        if (spec.is_transposed) {
          return transposed(read(name, {spec.num_columns, part.stored_rows()}).tensor());
        }
        HostTensor tensor = read(name, {part.stored_rows(), spec.num_columns});
        return spec.normalizes_rows ? normalized_rows(tensor.tensor()) : std::move(tensor);
      });
      result.source.parts.push_back(weight.rows(part.first_row, part.num_rows));
    }
  }
  if (!spec.has_bias) return result;
  for (const LinearSpec::Part& part : spec.parts) {
    const Tensor bias = tensor_of(part.name + ".bias", [&](const std::string& name) {
      return read(name, {part.stored_rows()});
    });
    result.source.biases.push_back(bias.rows(part.first_row, part.num_rows));
  }
  return result;
}

LinearSource CheckpointWeightLoader::unread_source(const LinearSpec& spec) {
  LinearSource source;
  struct Place {
    StoredTensorReader tensor;
    std::size_t first_byte;
  };
  std::vector<Place> places;
  std::map<std::string, std::uint64_t> bytes_of_tensor;
  for (const LinearSpec::Part& part : spec.parts) {
    const StoredTensorReader tensor =
        checkpoint_.find(part.name + ".weight", {part.stored_rows(), spec.num_columns});
    source.parts.emplace_back(nullptr, tensor.dtype(),
                              std::initializer_list<std::int64_t>{part.num_rows, spec.num_columns});
    places.push_back({tensor, static_cast<std::size_t>(part.first_row * spec.num_columns) *
                                  dtype_bytes(tensor.dtype())});
    bytes_of_tensor[part.name] = tensor.num_bytes();
  }
  source.read_part = [places = std::move(places)](std::size_t part, std::size_t begin,
                                                  std::span<std::byte> out) {
    places[part].tensor.read(places[part].first_byte + begin, out);
  };
  for (const auto& [name, num_bytes] : bytes_of_tensor) num_bytes_done_ += num_bytes;
  return source;
}

std::unique_ptr<LinearWeight> CheckpointWeightLoader::linear(const LinearSpec& spec) {
  const Read host = read(spec);
  std::unique_ptr<LinearWeight> weight = backend_.make_linear(host.source, dtype_);
  report_progress();
  return weight;
}

std::unique_ptr<LinearWeight> CheckpointWeightLoader::gate_up(const LinearSpec& spec) {
  const Read host = read(spec);
  std::unique_ptr<LinearWeight> weight = backend_.make_gate_up(host.source, dtype_);
  report_progress();
  return weight;
}

DeviceTensor CheckpointWeightLoader::vector(const std::string& name, std::int64_t size,
                                            float added) {
  const HostTensor tensor = read(name, {size});
  if (added == 0.0F) return backend_.make_vector(tensor.tensor());
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i) {
    values[static_cast<std::size_t>(i)] = load_as_float(tensor.tensor(), i) + added;
  }
  return backend_.make_vector(Tensor(values.data(), DType::kF32, {size}));
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

std::unique_ptr<LinearWeight> RandomWeightLoader::gate_up(const LinearSpec& spec) {
  std::unique_ptr<LinearWeight> weight =
      backend_.make_random_gate_up(spec.parts.front().num_rows, spec.num_columns, dtype_,
                                   kInitialStddev, seed_of(spec.parts.front().name));
  report_progress(num_rows(spec) * spec.num_columns);
  return weight;
}

DeviceTensor RandomWeightLoader::vector(const std::string& name, std::int64_t size,
                                        float /*added*/) {
  std::vector<float> values(static_cast<std::size_t>(size), name.ends_with(".bias") ? 0.0F : 1.0F);
  return backend_.make_vector(Tensor(values.data(), DType::kF32, {size}));
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
  num_parameters_ += num_stored_rows(spec) * (spec.num_columns + (spec.has_bias ? 1 : 0));
  return nullptr;
}

std::unique_ptr<LinearWeight> CountingWeightLoader::gate_up(const LinearSpec& spec) {
  return linear(spec);
}

DeviceTensor CountingWeightLoader::vector(const std::string& /*name*/, std::int64_t size,
                                          float /*added*/) {
  num_parameters_ += size;
  return {};
}

DeviceTensor CountingWeightLoader::constant(Tensor /*host*/) {
  return {};
}

}  // namespace llmrun
