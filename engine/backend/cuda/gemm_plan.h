// GemmPlanner: how each matrix product runs: on one of the own kernels or by which of cuBLASLt's
// algorithms. Measured once on this device, kept in a file, else cuBLASLt's own guess.
//
// A product is out [M, N] = x [M, K] W [N, K]^T (+ bias), or out += that. Measured are M of a few
// dozen sizes; any M runs the way of the next measured size that is not smaller, if it was
// measured.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "engine/backend/cuda/cublaslt.h"
#include "engine/core/dtype.h"

namespace llmrun {

// Products that run alike, but for M.
struct GemmShape {
  std::int64_t num_rows = 0;     // N
  std::int64_t num_columns = 0;  // K
  DType dtype = DType::kBf16;
  DType out_dtype = DType::kBf16;
  bool has_bias = false;
  bool is_gate_up = false;  // followed by silu(gate) * up

  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 means the 0 that results are compared with
  auto operator<=>(const GemmShape&) const = default;
  std::string to_string() const;  // for the file of measurements and for people
};

// One product with its operands.
struct GemmCall {
  GemmShape shape;
  std::int64_t num_tokens = 0;  // M
  void* out = nullptr;
  const void* x = nullptr;
  const void* weight = nullptr;
  const void* bias = nullptr;
  bool adds = false;  // out += instead of out =
};

class CublasLtGemm {
 public:
  CublasLtGemm();
  ~CublasLtGemm();
  CublasLtGemm(const CublasLtGemm&) = delete;
  CublasLtGemm& operator=(const CublasLtGemm&) = delete;

  // cuBLASLt's guesses for this product, best first; `no_split`: without a reduction over parts of
  // K. For gate_up the product of all 2 I rows is meant, without what follows.
  std::vector<cublasLtMatmulAlgo_t> guesses(const GemmShape& shape, std::int64_t num_tokens,
                                            int max_count, bool no_split) const;
  // Whether the algorithm can run this product within the workspace.
  bool can_run(const GemmShape& shape, std::int64_t num_tokens,
               const cublasLtMatmulAlgo_t& algo) const;
  void run(const GemmCall& call, const cublasLtMatmulAlgo_t& algo, void* workspace,
           cudaStream_t stream) const;

  static constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
  std::size_t version() const;

 private:
  const CublasLt& library_;
  cublasLtHandle_t handle_ = nullptr;
};

enum class GemmKernel : std::uint8_t {
  kCublasLt,
  kSkinny,  // kernels/cuda/skinny_linear.h
  kGateUp,  // kernels/cuda/gate_up_linear.h
};

// What was decided for one (shape, M).
struct GemmChoice {
  GemmKernel kernel = GemmKernel::kCublasLt;
  cublasLtMatmulAlgo_t algo{};  // of cuBLASLt
};

class GemmPlanner {
 public:
  struct Options {
    bool deterministic = false;  // one algorithm for every M, sums never split
    std::string device_name;     // part of the key of the file
  };
  GemmPlanner(const CublasLtGemm& gemm, const Options& options) : gemm_(gemm), options_(options) {}

  // The way for this product. can_run(kernel): whether an own kernel takes it.
  using CanRun = std::function<bool(GemmKernel)>;
  const GemmChoice& choose(const GemmShape& shape, std::int64_t num_tokens, const CanRun& can_run);

  // The size that products of `num_tokens` run like: the next measured one that is not smaller,
  // else the largest.
  static std::int64_t measured_size(std::int64_t num_tokens);

  // Measures what is not known yet of a shape at sizes of up to `max_num_tokens`.
  // measure(M, choice) gives seconds per product with cold caches, or a negative number when it
  // cannot run. Returns how many sizes were measured.
  using Measure = std::function<double(std::int64_t num_tokens, const GemmChoice&)>;
  int tune(const GemmShape& shape, std::int64_t max_num_tokens, const Measure& measure);

  // The file of earlier measurements. A file that cannot be read is ignored, one that cannot be
  // written is no error: it only costs time.
  void load(const std::filesystem::path& path);
  void save(const std::filesystem::path& path) const;
  static std::filesystem::path default_path();

 private:
  using Key = std::tuple<GemmShape, std::int64_t>;

  GemmChoice decide(const GemmShape& shape, std::int64_t num_tokens, const CanRun& can_run) const;
  // At the next measured size that is not smaller, else the largest; null when there is none.
  const GemmChoice* find_measured(const GemmShape& shape, std::int64_t num_tokens) const;
  std::string library_key() const;

  const CublasLtGemm& gemm_;
  Options options_;
  std::map<Key, GemmChoice> measured_;  // at measured sizes
  std::map<Key, GemmChoice> chosen_;    // at sizes that were asked for
};

}  // namespace llmrun
