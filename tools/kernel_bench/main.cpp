// llmrun-kernel-bench: times the CPU backend's operations one by one, against the limits of the
// machine that it measures first in the same run.
//
// Each operation rotates over enough copies of its weights or caches to exceed the last-level
// cache, as a step of a real model does. A row's share is the time the binding limit allows (bytes
// at the read bandwidth, or operations at the arithmetic peak) over the median time measured.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/backend/cpu/cpu_backend.h"
#include "engine/backend/cpu/cpu_peaks.h"
#include "engine/core/cpu_info.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

struct ModelShape {
  const char* name;
  std::int64_t hidden_size, intermediate_size, num_layers;
  std::int64_t num_query_heads, num_kv_heads, head_dim, vocab_size;
};

constexpr ModelShape kModelShapes[] = {
    {"qwen2.5-0.5b", 896, 4864, 24, 14, 2, 64, 151936},
    {"llama-3.2-1b", 2048, 8192, 16, 32, 8, 64, 128256},
    {"qwen2-7b", 3584, 18944, 28, 28, 4, 128, 152064},
    {"llama-3-8b", 4096, 14336, 32, 32, 8, 128, 128256},
};

struct Options {
  std::string model_shape = "qwen2.5-0.5b";
  std::string filter;
  std::string isa = "best";
  std::string dtype = "bf16";
  std::string output = "md";
  std::vector<std::int64_t> num_tokens = {1, 8, 25, 64, 512};
  std::int32_t num_threads = 0;
  double seconds = 0.2;
};

// What one timed operation moves and computes, and how long it took.
struct Row {
  std::string kernel;
  std::string shape;
  std::int64_t num_tokens = 0;
  double bytes = 0;
  double flops = 0;
  double peak_flops_per_s = 0;  // of the arithmetic it uses
  double median_s = 0;
  double best_s = 0;
};

class KernelBench {
 public:
  explicit KernelBench(const Options& options)
      : options_(options), isa_(resolve_isa(options.isa)), dtype_(resolve_dtype(options.dtype)) {
    peaks_ = measure_cpu_peaks(options.num_threads, isa_);
    backend_ = make_cpu_backend({.num_threads = options.num_threads, .isa = isa_});
    const CpuInfo info = read_cpu_info();
    cold_bytes_ = 2.0 * static_cast<double>(std::max<std::int64_t>(info.last_cache_bytes, 1 << 25));
    cold_bytes_ = std::min(cold_bytes_, static_cast<double>(info.available_memory_bytes) / 4);
  }

  void run() {
    const ModelShape& m = find_shape(options_.model_shape);
    const std::int64_t qkv_size = (m.num_query_heads + 2 * m.num_kv_heads) * m.head_dim;
    bench_linear("qkv", qkv_size, m.hidden_size);
    bench_linear("lm_head", m.vocab_size, m.hidden_size);
    bench_linear_add("o", m.hidden_size, m.num_query_heads * m.head_dim);
    bench_gate_up("gate_up", m.intermediate_size, m.hidden_size);
    bench_linear_add("down", m.hidden_size, m.intermediate_size);
    bench_embedding(m.vocab_size, m.hidden_size);
    for (const std::int64_t tokens : options_.num_tokens) bench_rms_norm(tokens, m.hidden_size);
    for (const std::int64_t context : {128, 512, 4096}) {
      for (const std::int64_t sequences : {1, 25}) bench_attention(m, sequences, 1, context);
    }
    bench_attention(m, 1, 512, 512);
    bench_attention(m, 1, 512, 4096);
  }

  void print() const { options_.output == "json" ? print_json() : print_markdown(); }

 private:
  static CpuIsa resolve_isa(const std::string& name) {
    if (name == "best") return best_cpu_isa();
    const std::optional<CpuIsa> isa = parse_cpu_isa(name);
    if (!isa.has_value()) {
      throw Error(ErrorKind::kUsage,
                  "--isa " + name + ": one of best, portable, avx2, avx512bf16, amx");
    }
    return *isa;
  }
  static DType resolve_dtype(const std::string& name) {
    if (name == "bf16") return DType::kBf16;
    if (name == "f32") return DType::kF32;
    throw Error(ErrorKind::kUsage, "--dtype " + name + ": one of bf16, f32");
  }
  static const ModelShape& find_shape(const std::string& name) {
    std::string names;
    for (const ModelShape& shape : kModelShapes) {
      if (name == shape.name) return shape;
      names += std::string(names.empty() ? "" : ", ") + shape.name;
    }
    throw Error(ErrorKind::kUsage, "--model-shape " + name + ": one of " + names);
  }

  double peak_flops() const {
    return dtype_ == DType::kBf16 ? peaks_.bf16_flops_per_s : peaks_.f32_flops_per_s;
  }
  // Copies needed for the caches to be cold at each use of `bytes`.
  std::int64_t num_copies(double bytes) const {
    return static_cast<std::int64_t>(std::ceil(cold_bytes_ / bytes)) + 1;
  }
  bool is_wanted(const Row& row) const {
    return options_.filter.empty() ||
           (row.kernel + " " + row.shape).find(options_.filter) != std::string::npos;
  }
  DeviceTensor random_tensor(std::initializer_list<std::int64_t> shape) {
    DeviceTensor tensor = backend_->allocate_tensor(DType::kF32, shape);
    std::mt19937 engine(1);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    float* values = tensor.tensor.as<float>();
    for (std::int64_t i = 0; i < tensor.tensor.num_elements(); ++i) values[i] = uniform(engine);
    return tensor;
  }

  // Times calls of body(i), i = 0, 1, ..., after one call for each of `num_copies` as warm-up.
  void measure(Row row, std::int64_t num_copies, const std::function<void(std::int64_t)>& body) {
    using Clock = std::chrono::steady_clock;
    for (std::int64_t i = 0; i < num_copies; ++i) body(i);
    std::vector<double> times;
    const Clock::time_point start = Clock::now();
    const auto elapsed = [](Clock::time_point since) {
      return std::chrono::duration<double>(Clock::now() - since).count();
    };
    for (std::int64_t i = 0; times.size() < 5 || elapsed(start) < options_.seconds; ++i) {
      const Clock::time_point begin = Clock::now();
      body(i % num_copies);
      times.push_back(elapsed(begin));
    }
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    row.median_s = *middle;
    row.best_s = *std::min_element(times.begin(), times.end());
    rows_.push_back(std::move(row));
  }

  Row linear_row(const std::string& name, std::int64_t tokens, std::int64_t rows,
                 std::int64_t columns) const {
    Row row;
    row.kernel = name;
    row.shape = fmt::format("[{}, {}] {}", rows, columns, options_.dtype);
    row.num_tokens = tokens;
    const auto weights = static_cast<double>(rows * columns);
    row.bytes = weights * static_cast<double>(dtype_bytes(dtype_));
    row.flops = 2.0 * weights * static_cast<double>(tokens);
    row.peak_flops_per_s = peak_flops();
    return row;
  }

  using MakeWeight = std::function<std::unique_ptr<LinearWeight>(std::uint64_t seed)>;
  using LinearOperation = std::function<void(Tensor, Tensor, const LinearWeight&)>;
  // One kind of linear layer, W [rows, columns], for all numbers of tokens.
  void bench_weights(const std::string& name, std::int64_t rows, std::int64_t columns,
                     std::int64_t out_size, const MakeWeight& make,
                     const LinearOperation& operation) {
    std::vector<std::unique_ptr<LinearWeight>> weights;
    for (const std::int64_t tokens : options_.num_tokens) {
      const Row row = linear_row(name, tokens, rows, columns);
      if (!is_wanted(row)) continue;
      for (auto i = static_cast<std::int64_t>(weights.size()); i < num_copies(row.bytes); ++i) {
        weights.push_back(make(static_cast<std::uint64_t>(i)));
      }
      const DeviceTensor x = random_tensor({tokens, columns});
      const DeviceTensor out = random_tensor({tokens, out_size});
      measure(row, static_cast<std::int64_t>(weights.size()), [&](std::int64_t i) {
        operation(out.tensor, x.tensor, *weights[static_cast<std::size_t>(i)]);
      });
    }
  }
  MakeWeight random_linear(std::int64_t rows, std::int64_t columns) {
    return [this, rows, columns](std::uint64_t seed) {
      return backend_->make_random_linear(rows, columns, false, dtype_, 0.02F, seed);
    };
  }
  void bench_linear(const std::string& name, std::int64_t rows, std::int64_t columns) {
    bench_weights(name, rows, columns, rows, random_linear(rows, columns),
                  [&](const Tensor& out, const Tensor& x, const LinearWeight& weight) {
                    backend_->linear(out, x, weight);
                  });
  }
  void bench_linear_add(const std::string& name, std::int64_t rows, std::int64_t columns) {
    bench_weights(name, rows, columns, rows, random_linear(rows, columns),
                  [&](const Tensor& inout, const Tensor& x, const LinearWeight& weight) {
                    backend_->linear_add(inout, x, weight);
                  });
  }
  void bench_gate_up(const std::string& name, std::int64_t size, std::int64_t columns) {
    const auto make = [&](std::uint64_t seed) {
      return backend_->make_random_gate_up(size, columns, dtype_, 0.02F, seed);
    };
    bench_weights(name, 2 * size, columns, size, make,
                  [&](const Tensor& out, const Tensor& x, const LinearWeight& weight) {
                    backend_->gate_up(out, x, weight, Activation::kSilu);
                  });
  }

  void bench_embedding(std::int64_t vocab_size, std::int64_t size) {
    constexpr std::int64_t kSteps = 64;
    std::unique_ptr<LinearWeight> table;
    for (const std::int64_t tokens : options_.num_tokens) {
      Row row = linear_row("embedding", tokens, vocab_size, size);
      row.bytes = static_cast<double>(tokens * size) *
                  static_cast<double>(dtype_bytes(dtype_) + sizeof(float));
      row.flops = 0;
      if (!is_wanted(row)) continue;
      if (table == nullptr) table = random_linear(vocab_size, size)(1);
      const DeviceTensor ids = backend_->allocate_tensor(DType::kI32, {kSteps * tokens});
      std::mt19937 engine(1);
      for (std::int64_t i = 0; i < kSteps * tokens; ++i) {
        ids.tensor.as<std::int32_t>()[i] =
            static_cast<std::int32_t>(engine() % static_cast<std::uint32_t>(vocab_size));
      }
      const DeviceTensor out = random_tensor({tokens, size});
      measure(row, kSteps, [&](std::int64_t i) {
        backend_->embedding(out.tensor, *table, ids.tensor.rows(i * tokens, tokens));
      });
    }
  }

  void bench_rms_norm(std::int64_t tokens, std::int64_t size) {
    Row row;
    row.kernel = "rms_norm";
    row.shape = fmt::format("[{}, {}] f32", tokens, size);
    row.num_tokens = tokens;
    row.bytes = 8.0 * static_cast<double>(tokens * size);
    if (!is_wanted(row)) return;
    const DeviceTensor x = random_tensor({tokens, size});
    const DeviceTensor out = random_tensor({tokens, size});
    const DeviceTensor weight = random_tensor({size});
    measure(row, 1,
            [&](std::int64_t) { backend_->rms_norm(out.tensor, x.tensor, weight.tensor, 1e-6F); });
  }

  // `sequences` sequences of `context` tokens, the last `query_len` of them new.
  void bench_attention(const ModelShape& m, std::int64_t sequences, std::int64_t query_len,
                       std::int64_t context) {
    constexpr std::int64_t kBlockSize = 16;
    const std::int64_t tokens = sequences * query_len;
    Row row;
    row.kernel = query_len == 1 ? "attention decode" : "attention prefill";
    row.shape = fmt::format("{} x {} of {}, {}", sequences, query_len, context, options_.dtype);
    row.num_tokens = tokens;
    const std::int64_t kv_size = m.num_kv_heads * m.head_dim;
    row.bytes = 2.0 * static_cast<double>(sequences * context * kv_size) *
                static_cast<double>(dtype_bytes(dtype_));
    const double pairs = static_cast<double>(tokens) *
                         (static_cast<double>(context) - static_cast<double>(query_len - 1) / 2.0);
    row.flops = 4.0 * pairs * static_cast<double>(m.num_query_heads * m.head_dim);
    row.peak_flops_per_s = peaks_.f32_flops_per_s;
    if (!is_wanted(row)) return;

    const std::int64_t blocks_per_sequence = (context + kBlockSize - 1) / kBlockSize;
    const std::int64_t copies = std::min<std::int64_t>(num_copies(row.bytes), 200);
    const std::int64_t num_blocks = copies * sequences * blocks_per_sequence;
    const DeviceTensor key = make_cache({num_blocks, m.num_kv_heads, kBlockSize, m.head_dim});
    const DeviceTensor value = make_cache({num_blocks, m.num_kv_heads, kBlockSize, m.head_dim});
    const DeviceTensor qkv =
        random_tensor({tokens, (m.num_query_heads + 2 * m.num_kv_heads) * m.head_dim});
    const DeviceTensor out = random_tensor({tokens, m.num_query_heads * m.head_dim});
    AttentionParams params;
    params.scale = 1.0F / std::sqrt(static_cast<float>(m.head_dim));
    StepInputs inputs = make_step(sequences, query_len, context, kBlockSize);
    std::vector<std::int32_t> blocks(static_cast<std::size_t>(num_blocks));
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), std::mt19937(1));
    measure(row, copies, [&](std::int64_t i) {
      const auto first = blocks.begin() + i * sequences * blocks_per_sequence;
      inputs.block_tables.assign(first, first + sequences * blocks_per_sequence);
      const ForwardBatch batch = backend_->upload(inputs);
      backend_->attention(out.tensor, qkv.tensor, {key.tensor, value.tensor}, batch, params);
    });
  }
  static StepInputs make_step(std::int64_t sequences, std::int64_t query_len, std::int64_t context,
                              std::int64_t block_size) {
    StepInputs inputs;
    const auto tokens = static_cast<std::size_t>(sequences * query_len);
    inputs.token_ids.assign(tokens, 0);
    inputs.positions.assign(tokens, 0);
    inputs.slot_mapping.assign(tokens, 0);
    for (std::int64_t s = 0; s <= sequences; ++s) {
      inputs.query_start_loc.push_back(static_cast<std::int32_t>(s * query_len));
    }
    inputs.seq_lens.assign(static_cast<std::size_t>(sequences), static_cast<std::int32_t>(context));
    inputs.max_num_blocks = static_cast<std::int32_t>((context + block_size - 1) / block_size);
    inputs.block_tables.assign(static_cast<std::size_t>(sequences * inputs.max_num_blocks), 0);
    return inputs;
  }
  // A KV cache of small nonzero values.
  DeviceTensor make_cache(std::initializer_list<std::int64_t> shape) {
    DeviceTensor cache = backend_->allocate_tensor(dtype_, shape);
    const std::int64_t count = cache.tensor.num_elements();
    for (std::int64_t i = 0; i < count; ++i) {
      const float value = static_cast<float>(i % 251 - 125) / 128.0F;  // exact in bf16
      if (dtype_ == DType::kF32) {
        cache.tensor.as<float>()[i] = value;
      } else {
        cache.tensor.as<std::uint16_t>()[i] =
            static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
      }
    }
    return cache;
  }

  double memory_s(const Row& row) const { return row.bytes / peaks_.read_bytes_per_s; }
  double compute_s(const Row& row) const {
    return row.flops > 0 ? row.flops / row.peak_flops_per_s : 0;
  }
  double share(const Row& row) const {
    return std::max(memory_s(row), compute_s(row)) / row.median_s;
  }
  const char* bound(const Row& row) const {
    return compute_s(row) > memory_s(row) ? "compute" : "memory";
  }

  void print_markdown() const {
    fmt::print("{}\n\n", backend_->description());
    fmt::print("| limit, measured | |\n|---|---|\n");
    fmt::print("| read bandwidth | {:.1f} GB/s |\n", peaks_.read_bytes_per_s / 1e9);
    fmt::print("| float32 multiply-add | {:.3f} TFLOP/s |\n", peaks_.f32_flops_per_s / 1e12);
    fmt::print("| bf16 multiply-add | {:.3f} TFLOP/s |\n\n", peaks_.bf16_flops_per_s / 1e12);
    fmt::print("{}: median times, weights and caches cold\n\n", options_.model_shape);
    fmt::print("| kernel | shape | tokens | us | best us | GB/s | TFLOP/s | bound | share |\n");
    fmt::print("|---|---|---|---|---|---|---|---|---|\n");
    for (const Row& row : rows_) {
      fmt::print("| {} | {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.3f} | {} | {:.0f} % |\n",
                 row.kernel, row.shape, row.num_tokens, row.median_s * 1e6, row.best_s * 1e6,
                 row.bytes / row.median_s / 1e9, row.flops / row.median_s / 1e12, bound(row),
                 share(row) * 100);
    }
  }

  void print_json() const {
    nlohmann::ordered_json json;
    json["device"] = backend_->description();
    json["model_shape"] = options_.model_shape;
    json["read_bytes_per_s"] = peaks_.read_bytes_per_s;
    json["f32_flops_per_s"] = peaks_.f32_flops_per_s;
    json["bf16_flops_per_s"] = peaks_.bf16_flops_per_s;
    json["kernels"] = nlohmann::ordered_json::array();
    for (const Row& row : rows_) {
      json["kernels"].push_back({{"kernel", row.kernel},
                                 {"shape", row.shape},
                                 {"num_tokens", row.num_tokens},
                                 {"median_s", row.median_s},
                                 {"best_s", row.best_s},
                                 {"bytes", row.bytes},
                                 {"flops", row.flops},
                                 {"bound", bound(row)},
                                 {"share_of_limit", share(row)}});
    }
    fmt::print("{}\n", json.dump(2));
  }

  Options options_;
  CpuIsa isa_;
  DType dtype_;
  CpuPeaks peaks_;
  std::unique_ptr<Backend> backend_;
  double cold_bytes_ = 0;
  std::vector<Row> rows_;
};

int run(int argc, char** argv) {
  Options options;
  CLI::App app("Times the CPU backend's operations against the machine's measured limits.");
  app.add_option("--model-shape", options.model_shape,
                 "qwen2.5-0.5b, llama-3.2-1b, qwen2-7b or llama-3-8b")
      ->capture_default_str();
  app.add_option("--filter", options.filter, "Only rows whose kernel and shape contain this text");
  app.add_option("--tokens", options.num_tokens, "Tokens in a step")->delimiter(',');
  app.add_option("--threads", options.num_threads, "Threads; 0: one a core")
      ->check(CLI::Range(0, 4096));
  app.add_option("--isa", options.isa, "best, portable, avx2, avx512bf16 or amx")
      ->capture_default_str();
  app.add_option("--dtype", options.dtype, "Weights and KV cache: bf16 or f32")
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "Time spent on each row")->capture_default_str();
  app.add_option("--output", options.output, "md or json")
      ->check(CLI::IsMember({"md", "json"}))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  KernelBench bench(options);
  bench.run();
  bench.print();
  return 0;
}

}  // namespace
}  // namespace llmrun

int main(int argc, char** argv) {
  try {
    return llmrun::run(argc, argv);
  } catch (const llmrun::Error& error) {
    fmt::print(stderr, "llmrun-kernel-bench: {}\n", error.what());
    return llmrun::exit_code(error.kind());
  } catch (const std::exception& error) {
    fmt::print(stderr, "llmrun-kernel-bench: {}\n", error.what());
    return llmrun::exit_code(llmrun::ErrorKind::kInternal);
  }
}
