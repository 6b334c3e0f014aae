// The attention kernels against a plain softmax in double precision. Unused cache memory, the keys
// and values of qkv, and the output before each run hold NaN.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/backend/cuda/attention_plan.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/element.cuh"
#include "tests/support/cuda_device.h"

namespace llmrun::kernels {
namespace {

using testing::has_cuda_device;

struct Sequence {
  std::int32_t num_new = 1;
  std::int32_t length = 1;  // new tokens included
};

struct Setting {
  DType dtype = DType::kBf16;
  int num_kv_heads = 2;
  int group_size = 4;
  int head_dim = 128;
  int block_size = 16;
  float softcap = 0;
  int window = 0;
  bool has_alibi = false;

  int num_query_heads() const { return num_kv_heads * group_size; }
};

std::string describe(const Setting& s) {
  return std::string(to_string(s.dtype)) + " kv heads " + std::to_string(s.num_kv_heads) +
         " group " + std::to_string(s.group_size) + " head size " + std::to_string(s.head_dim) +
         " block " + std::to_string(s.block_size) + " softcap " + std::to_string(s.softcap) +
         " window " + std::to_string(s.window) + (s.has_alibi ? " alibi" : "");
}

std::size_t element_bytes(DType dtype) {
  return dtype_bytes(dtype);
}
void store_element(unsigned char* memory, std::size_t i, float x, DType dtype) {
  dispatch_float_type(dtype, [&](auto element) {
    using T = decltype(element);
    const T value = static_cast<T>(x);
    std::memcpy(memory + i * sizeof(T), &value, sizeof(T));
  });
}
float load_element(const unsigned char* memory, std::size_t i, DType dtype) {
  float x = 0;
  dispatch_float_type(dtype, [&](auto element) {
    using T = decltype(element);
    T value;
    std::memcpy(&value, memory + i * sizeof(T), sizeof(T));
    x = static_cast<float>(value);
  });
  return x;
}

class DeviceMemory {
 public:
  explicit DeviceMemory(std::size_t num_bytes) : num_bytes_(num_bytes) {
    check_cuda(cudaMalloc(&data_, std::max<std::size_t>(num_bytes, 16)), "cudaMalloc");
  }
  template <typename T>
  explicit DeviceMemory(const std::vector<T>& host) : DeviceMemory(host.size() * sizeof(T)) {
    check_cuda(cudaMemcpy(data_, host.data(), num_bytes_, cudaMemcpyHostToDevice), "copy");
  }
  ~DeviceMemory() { cudaFree(data_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void fill(int byte) { check_cuda(cudaMemset(data_, byte, num_bytes_), "cudaMemset"); }
  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t num_bytes() const { return num_bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t num_bytes_;
};

// Copies late, after its successor may have started.
__global__ void late_copy_kernel(uint4* target, const uint4* source, std::size_t count) {
  wait_for_inputs();
  allow_next();
  const long long start = clock64();
  while (clock64() - start < 100000) {
  }
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count;
       i += static_cast<std::size_t>(gridDim.x) * blockDim.x) {
    target[i] = source[i];
  }
}

// A stream whose work is recorded in a graph and run from there.
class RecordedStream {
 public:
  RecordedStream() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
  }
  ~RecordedStream() { cudaStreamDestroy(stream_); }
  RecordedStream(const RecordedStream&) = delete;
  RecordedStream& operator=(const RecordedStream&) = delete;
  cudaStream_t get() const { return stream_; }
  void run() {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    check_cuda(cudaStreamEndCapture(stream_, &graph), "end of capture");
    check_cuda(cudaGraphInstantiate(&executable, graph, 0), "graph");
    check_cuda(cudaGraphLaunch(executable, stream_), "launch of the graph");
    check_cuda(cudaStreamSynchronize(stream_), "graph");
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }

 private:
  cudaStream_t stream_ = nullptr;
};

// A step over a cache of shuffled blocks. Values are those of the element type.
class AttentionCase {
 public:
  AttentionCase(const Setting& setting, std::vector<Sequence> sequences)
      : s_(setting), sequences_(std::move(sequences)), random_(7) {
    make_inputs();
    fill_cache();
  }

  // out as floats, from `run`, which launches on the default stream.
  template <typename Run>
  std::vector<float> output(const Run& run) {
    const std::size_t size = out_size();
    DeviceMemory out(size * element_bytes(s_.dtype));
    DeviceMemory qkv(qkv_);
    DeviceMemory keys(key_cache_);
    DeviceMemory values(value_cache_);
    DeviceMemory tables(inputs_.block_tables);
    DeviceMemory slopes(slopes_);
    out.fill(0xff);
    PagedAttention args;
    args.shape = shape();
    args.out = out.data();
    args.qkv = qkv.data();
    args.key_cache = keys.data();
    args.value_cache = values.data();
    args.block_tables = tables.as<std::int32_t>();
    args.max_num_blocks = inputs_.max_num_blocks;
    args.scale = scale();
    args.logit_softcap = s_.softcap;
    args.sliding_window = s_.window;
    args.alibi_slopes = s_.has_alibi ? slopes.as<float>() : nullptr;
    run(args);
    check_cuda(cudaDeviceSynchronize(), "attention");
    std::vector<unsigned char> host(out.num_bytes());
    check_cuda(cudaMemcpy(host.data(), out.data(), host.size(), cudaMemcpyDeviceToHost), "copy");
    std::vector<float> result(size);
    for (std::size_t i = 0; i < size; ++i) result[i] = load_element(host.data(), i, s_.dtype);
    return result;
  }

  std::vector<float> plain() {
    DeviceMemory query_start_loc(inputs_.query_start_loc);
    DeviceMemory seq_lens(inputs_.seq_lens);
    return output([&](const PagedAttention& args) {
      plain_attention({}, args, query_start_loc.as<std::int32_t>(), seq_lens.as<std::int32_t>(),
                      num_tokens(), inputs_.num_sequences());
    });
  }

  // num_workers 0: as many as fill the device.
  std::vector<float> tiled(bool batch_invariant, int num_workers = 0) {
    const int prepared = prepare_tiled_attention(shape());
    const AttentionPlanOptions options{num_workers > 0 ? num_workers : prepared, s_.group_size,
                                       batch_invariant};
    const AttentionPlanLimits limits =
        attention_plan_limits(options, num_tokens(), inputs_.num_sequences());
    std::vector<std::int32_t> words(limits.num_words);
    const AttentionPlan plan = plan_attention(inputs_, options, words);
    DeviceMemory device_plan(words);
    DeviceMemory workspace(decode_workspace_bytes(shape(), limits.num_slots));
    workspace.fill(0);
    return output([&](const PagedAttention& args) {
      for (int i = 0; i < 2; ++i) {  // the second finds the counters as the first left them
        if (plan.num_decode_items > 0) {
          decode_attention({}, args, device_plan.as<std::int32_t>(), options.num_workers,
                           workspace.data(), limits.num_slots);
        }
        prefill_attention({}, args, device_plan.as<std::int32_t>() + plan.prefill_offset,
                          plan.num_prefill_tiles);
      }
    });
  }

  // Only decode, in a graph, behind a kernel that is still writing this step's queries, keys and
  // values when decode starts.
  std::vector<float> overlapped() {
    const AttentionPlanOptions options{prepare_tiled_attention(shape()), s_.group_size, false};
    const AttentionPlanLimits limits =
        attention_plan_limits(options, num_tokens(), inputs_.num_sequences());
    std::vector<std::int32_t> words(limits.num_words);
    plan_attention(inputs_, options, words);
    DeviceMemory plan(words);
    DeviceMemory workspace(decode_workspace_bytes(shape(), limits.num_slots));
    workspace.fill(0);
    DeviceMemory qkv(qkv_);
    qkv.fill(0xff);
    DeviceMemory keys(without_new_tokens(key_cache_));
    DeviceMemory values(without_new_tokens(value_cache_));
    return output([&](const PagedAttention& args) {
      RecordedStream stream;
      const Launch options_of_launch{stream.get(), true};
      const auto copy = [&](const DeviceMemory& target, const void* source) {
        launch(options_of_launch, "late copy", late_copy_kernel, dim3(16), dim3(256), 0,
               target.as<uint4>(), static_cast<const uint4*>(source),
               target.num_bytes() / sizeof(uint4));
      };
      copy(qkv, args.qkv);
      copy(keys, args.key_cache);
      copy(values, args.value_cache);
      PagedAttention late = args;
      late.qkv = qkv.data();
      late.key_cache = keys.data();
      late.value_cache = values.data();
      decode_attention(options_of_launch, late, plan.as<std::int32_t>(), options.num_workers,
                       workspace.data(), limits.num_slots);
      stream.run();
    });
  }

  std::vector<double> reference() const {
    std::vector<double> out(out_size());
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      for (std::int32_t i = 0; i < sequences_[s].num_new; ++i) {
        for (int head = 0; head < s_.num_query_heads(); ++head) attend(s, i, head, out);
      }
    }
    return out;
  }

  AttentionShape shape() const {
    return {s_.num_query_heads(), s_.num_kv_heads, s_.head_dim, s_.block_size, s_.dtype};
  }

 private:
  int num_tokens() const { return inputs_.query_start_loc.back(); }
  std::size_t out_size() const {
    return static_cast<std::size_t>(num_tokens()) *
           static_cast<std::size_t>(s_.num_query_heads() * s_.head_dim);
  }
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(s_.head_dim)); }
  float random_value() { return normal_(random_); }
  // A random number of the element type, also written to `memory`.
  float random_element(std::vector<unsigned char>& memory, std::size_t i) {
    store_element(memory.data(), i, random_value(), s_.dtype);
    return load_element(memory.data(), i, s_.dtype);
  }

  void make_inputs() {
    inputs_.query_start_loc = {0};
    std::int32_t num_blocks = 1;  // block 0 is nobody's
    for (const Sequence& sequence : sequences_) {
      inputs_.query_start_loc.push_back(inputs_.query_start_loc.back() + sequence.num_new);
      inputs_.seq_lens.push_back(sequence.length);
      const std::int32_t blocks = (sequence.length + s_.block_size - 1) / s_.block_size;
      inputs_.max_num_blocks = std::max(inputs_.max_num_blocks, blocks);
      num_blocks += blocks;
    }
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(num_blocks - 1));
    std::iota(blocks.begin(), blocks.end(), 1);
    std::shuffle(blocks.begin(), blocks.end(), random_);
    std::size_t next = 0;
    for (const Sequence& sequence : sequences_) {
      for (std::int32_t b = 0; b < inputs_.max_num_blocks; ++b) {
        inputs_.block_tables.push_back(b * s_.block_size < sequence.length ? blocks[next++] : 0);
      }
    }
    cache_size_ = static_cast<std::size_t>(num_blocks) *
                  static_cast<std::size_t>(s_.num_kv_heads * s_.block_size * s_.head_dim);
    for (int i = 0; i < s_.num_query_heads(); ++i) {
      slopes_.push_back(std::abs(random_value()) * 0.1F);
    }
  }

  void fill_cache() {
    const auto row =
        static_cast<std::size_t>((s_.num_query_heads() + 2 * s_.num_kv_heads) * s_.head_dim);
    const auto query_row = static_cast<std::size_t>(s_.num_query_heads() * s_.head_dim);
    qkv_.assign(row * static_cast<std::size_t>(num_tokens()) * element_bytes(s_.dtype), 0xff);
    for (std::size_t t = 0; t < static_cast<std::size_t>(num_tokens()); ++t) {
      for (std::size_t i = 0; i < query_row; ++i) {
        query_.push_back(random_element(qkv_, t * row + i));
      }
    }
    key_cache_.assign(cache_size_ * element_bytes(s_.dtype), 0xff);
    value_cache_ = key_cache_;
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      keys_.emplace_back();
      values_.emplace_back();
      for (std::int32_t position = 0; position < sequences_[s].length; ++position) {
        for (int head = 0; head < s_.num_kv_heads; ++head) {
          for (int d = 0; d < s_.head_dim; ++d) {
            const std::size_t i = cache_index(s, position, head) + static_cast<std::size_t>(d);
            keys_[s].push_back(random_element(key_cache_, i));
            values_[s].push_back(random_element(value_cache_, i));
          }
        }
      }
    }
  }

  std::vector<unsigned char> without_new_tokens(std::vector<unsigned char> cache) const {
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      for (int head = 0; head < s_.num_kv_heads; ++head) {
        const std::size_t row = cache_index(s, sequences_[s].length - 1, head);
        std::fill_n(cache.begin() + static_cast<std::ptrdiff_t>(row * element_bytes(s_.dtype)),
                    static_cast<std::size_t>(s_.head_dim) * element_bytes(s_.dtype), 0xff);
      }
    }
    return cache;
  }

  std::size_t cache_index(std::size_t s, std::int32_t position, int head) const {
    const auto table_row = s * static_cast<std::size_t>(inputs_.max_num_blocks);
    const auto block = static_cast<std::size_t>(
        inputs_.block_tables[table_row + static_cast<std::size_t>(position / s_.block_size)]);
    return ((block * static_cast<std::size_t>(s_.num_kv_heads) + static_cast<std::size_t>(head)) *
                static_cast<std::size_t>(s_.block_size) +
            static_cast<std::size_t>(position % s_.block_size)) *
           static_cast<std::size_t>(s_.head_dim);
  }

  void attend(std::size_t s, std::int32_t i, int head, std::vector<double>& out) const {
    const std::int32_t position = sequences_[s].length - sequences_[s].num_new + i;
    const auto d_count = static_cast<std::size_t>(s_.head_dim);
    const std::size_t row = (static_cast<std::size_t>(inputs_.query_start_loc[s] + i) *
                                 static_cast<std::size_t>(s_.num_query_heads()) +
                             static_cast<std::size_t>(head)) *
                            d_count;
    const std::int32_t begin = s_.window > 0 ? std::max(0, position - s_.window + 1) : 0;
    const auto kv_row = [&](std::int32_t key) {
      return (static_cast<std::size_t>(key) * static_cast<std::size_t>(s_.num_kv_heads) +
              static_cast<std::size_t>(head / s_.group_size)) *
             d_count;
    };
    std::vector<double> scores;
    double largest = -1e300;
    for (std::int32_t key = begin; key <= position; ++key) {
      double score = 0;
      for (std::size_t d = 0; d < d_count; ++d) {
        score +=
            static_cast<double>(query_[row + d]) * static_cast<double>(keys_[s][kv_row(key) + d]);
      }
      score *= static_cast<double>(scale());
      const double cap = static_cast<double>(s_.softcap);
      if (cap > 0) score = cap * std::tanh(score / cap);
      if (s_.has_alibi) {
        score += static_cast<double>(slopes_[static_cast<std::size_t>(head)]) * (key - position);
      }
      scores.push_back(score);
      largest = std::max(largest, score);
    }
    double total = 0;
    for (std::int32_t key = begin; key <= position; ++key) {
      const double weight = std::exp(scores[static_cast<std::size_t>(key - begin)] - largest);
      total += weight;
      for (std::size_t d = 0; d < d_count; ++d) {
        out[row + d] += weight * static_cast<double>(values_[s][kv_row(key) + d]);
      }
    }
    for (std::size_t d = 0; d < d_count; ++d) out[row + d] /= total;
  }

  Setting s_;
  std::vector<Sequence> sequences_;
  std::mt19937_64 random_;
  std::normal_distribution<float> normal_;
  StepInputs inputs_;
  std::size_t cache_size_ = 0;
  std::vector<float> slopes_;
  std::vector<unsigned char> qkv_;
  std::vector<unsigned char> key_cache_;
  std::vector<unsigned char> value_cache_;
  std::vector<float> query_;                // [T, Hq, D]
  std::vector<std::vector<float>> keys_;    // of each sequence, [length, Hkv, D]
  std::vector<std::vector<float>> values_;  // likewise
};

void check_near(const std::vector<float>& out, const std::vector<double>& reference, DType dtype,
                const std::string& what) {
  double largest = 0;
  double max_error = 0;
  double sum_error = 0;
  bool is_finite = true;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double error = std::abs(static_cast<double>(out[i]) - reference[i]);
    is_finite = is_finite && std::isfinite(out[i]);
    largest = std::max(largest, std::abs(reference[i]));
    max_error = std::max(max_error, error);
    sum_error += error;
  }
  const double mean_error = sum_error / static_cast<double>(out.size());
  const double tolerance = dtype == DType::kF32 ? 2e-5 : dtype == DType::kF16 ? 2e-3 : 1e-2;
  INFO(what << ": max error " << max_error << ", mean " << mean_error << ", largest " << largest);
  CHECK(is_finite);
  CHECK(max_error <= tolerance * std::max(largest, 1e-3));
  CHECK(mean_error <= 0.2 * tolerance * std::max(largest, 1e-3));
}

void check_case(const Setting& setting, const std::vector<Sequence>& sequences) {
  INFO(describe(setting));
  AttentionCase attention(setting, sequences);
  const std::vector<double> reference = attention.reference();
  check_near(attention.plain(), reference, setting.dtype, "plain");
  if (!has_tiled_attention(attention.shape())) return;
  check_near(attention.tiled(false), reference, setting.dtype, "tiled");
  check_near(attention.tiled(true), reference, setting.dtype, "tiled, fixed splits");
  check_near(attention.tiled(false, 3), reference, setting.dtype, "tiled, 3 workers");
}

const std::vector<std::int32_t> kLengths = {1,  2,  15, 16,  17,  31,  32,  33,
                                            63, 64, 65, 127, 128, 129, 130, 300};

std::vector<Sequence> decodes(const std::vector<std::int32_t>& lengths) {
  std::vector<Sequence> sequences;
  for (const std::int32_t length : lengths) sequences.push_back({1, length});
  return sequences;
}

const std::vector<Sequence> kMixed = {{1, 40},    {40, 40},  {1, 700},  {2, 2},     {17, 100},
                                      {64, 64},   {65, 200}, {1, 1},    {129, 129}, {3, 1030},
                                      {33, 1000}, {1, 130},  {128, 300}};

TEST_CASE("attention: decode, lengths around tiles and blocks") {
  if (!has_cuda_device()) return;
  for (const DType dtype : {DType::kBf16, DType::kF16, DType::kF32}) {
    check_case({.dtype = dtype}, decodes(kLengths));
    check_case({.dtype = dtype, .block_size = 64}, decodes({1000, 1, 4100, 20}));
  }
}

TEST_CASE("attention: decode, head sizes and groups") {
  if (!has_cuda_device()) return;
  for (const int head_dim : {64, 80, 96, 128, 256}) {
    for (const int group_size : {1, 4, 7, 8, 12}) {
      check_case({.num_kv_heads = group_size == 12 ? 1 : 2,
                  .group_size = group_size,
                  .head_dim = head_dim},
                 decodes({1, 17, 130, 1100}));
    }
  }
}

TEST_CASE("attention: decode in a graph, started before its inputs are there") {
  if (!has_cuda_device()) return;
  // The three copies are one another's predecessors, so all but the last are complete.
  for (const auto& lengths : {kLengths, std::vector<std::int32_t>{1000, 17, 5000, 16}}) {
    AttentionCase attention({}, decodes(lengths));
    check_near(attention.overlapped(), attention.reference(), DType::kBf16, "overlapped");
  }
}

TEST_CASE("attention: mixed batches, head sizes and groups") {
  if (!has_cuda_device()) return;
  for (const int head_dim : {64, 80, 96, 128, 256}) {
    for (const int group_size : {1, 4, 7}) {
      check_case({.num_kv_heads = 1, .group_size = group_size, .head_dim = head_dim}, kMixed);
    }
  }
  check_case({.dtype = DType::kF16}, kMixed);
  check_case({.dtype = DType::kF32}, kMixed);
}

TEST_CASE("attention: block sizes") {
  if (!has_cuda_device()) return;
  for (const int block_size : {8, 16, 24, 32, 64, 128, 100, 2048, 2000}) {
    check_case({.num_kv_heads = 2, .group_size = 2, .head_dim = 64, .block_size = block_size},
               kMixed);
  }
}

TEST_CASE("attention: windows, ALiBi, softcap") {
  if (!has_cuda_device()) return;
  for (const int window : {1, 5, 16, 100, 600}) {
    check_case({.num_kv_heads = 1, .window = window}, kMixed);
  }
  check_case({.num_kv_heads = 1, .head_dim = 64, .has_alibi = true}, kMixed);
  check_case({.num_kv_heads = 1, .head_dim = 256, .softcap = 2.0F}, kMixed);
  check_case({.num_kv_heads = 1, .softcap = 30.0F, .window = 50, .has_alibi = true}, kMixed);
}

TEST_CASE("attention: head sizes that only the plain kernel takes") {
  if (!has_cuda_device()) return;
  for (const int head_dim : {3, 40, 72, 129, 320}) {
    for (const DType dtype : {DType::kBf16, DType::kF32}) {
      check_case({.dtype = dtype, .num_kv_heads = 1, .group_size = 2, .head_dim = head_dim},
                 {{1, 40}, {20, 33}});
    }
  }
}

TEST_CASE("attention: fixed splits do not depend on the batch") {
  if (!has_cuda_device()) return;
  const Setting setting;
  std::vector<Sequence> many = decodes({1500, 3000, 700, 64});
  AttentionCase batch(setting, many);
  const std::vector<float> expected = batch.tiled(true);
  CHECK(std::memcmp(expected.data(), batch.tiled(true, 2).data(),
                    expected.size() * sizeof(float)) == 0);
  CHECK(std::memcmp(expected.data(), batch.tiled(true, 40).data(),
                    expected.size() * sizeof(float)) == 0);
}

}  // namespace
}  // namespace llmrun::kernels
