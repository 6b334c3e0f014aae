#include <algorithm>
#include <array>

#include "engine/backend/cuda/gemm_plan.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kF32: return CUDA_R_32F;
    case DType::kF16: return CUDA_R_16F;
    case DType::kBf16: return CUDA_R_16BF;
    default: throw Error(ErrorKind::kInternal, "a matrix product of integers");
  }
}

// cuBLASLt is column-major: out^T [N, M] = W [N, K] x^T [K, M], where W as it lies is [K, N].
struct Layouts {
  cublasLtMatmulDesc_t operation() { return &operation_; }
  cublasLtMatrixLayout_t weight() { return &weight_; }
  cublasLtMatrixLayout_t x() { return &x_; }
  cublasLtMatrixLayout_t out() { return &out_; }

  Layouts(const CublasLt& library, const GemmShape& shape, std::int64_t num_tokens,
          const void* bias) {
    const cudaDataType_t type = cuda_type(shape.dtype);
    const auto n = static_cast<std::uint64_t>(shape.num_rows);
    const auto k = static_cast<std::uint64_t>(shape.num_columns);
    const auto m = static_cast<std::uint64_t>(num_tokens);
    check_cublas(library.desc_init(&operation_, sizeof(operation_), CUBLAS_COMPUTE_32F, CUDA_R_32F),
                 "cublasLtMatmulDescInit");
    const cublasOperation_t transpose = CUBLAS_OP_T;
    set(library, CUBLASLT_MATMUL_DESC_TRANSA, transpose);
    if (shape.has_bias) {
      set(library, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(library, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
      set(library, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    const auto init = [&](cublasLtMatrixLayout_t layout, cudaDataType_t element, std::uint64_t rows,
                          std::uint64_t columns) {
      check_cublas(library.layout_init(layout, sizeof(*layout), element, rows, columns,
                                       static_cast<std::int64_t>(rows)),
                   "cublasLtMatrixLayoutInit");
    };
    init(&weight_, type, k, n);
    init(&x_, type, k, m);
    init(&out_, cuda_type(shape.out_dtype), n, m);
  }

 private:
  template <typename Value>
  void set(const CublasLt& library, cublasLtMatmulDescAttributes_t attribute, Value value) {
    check_cublas(library.desc_set(&operation_, attribute, &value, sizeof(value)),
                 "cublasLtMatmulDescSetAttribute");
  }

  cublasLtMatmulDescOpaque_t operation_{};
  cublasLtMatrixLayoutOpaque_t weight_{};
  cublasLtMatrixLayoutOpaque_t x_{};
  cublasLtMatrixLayoutOpaque_t out_{};
};

}  // namespace

CublasLtGemm::CublasLtGemm() : library_(cublaslt()) {
  check_cublas(library_.create(&handle_), "cublasLtCreate");
}

CublasLtGemm::~CublasLtGemm() {
  library_.destroy(handle_);
}

std::size_t CublasLtGemm::version() const {
  return library_.get_version();
}

std::vector<cublasLtMatmulAlgo_t> CublasLtGemm::guesses(const GemmShape& shape,
                                                        std::int64_t num_tokens, int max_count,
                                                        bool no_split) const {
  Layouts layouts(library_, shape, num_tokens, nullptr);
  cublasLtMatmulPreferenceOpaque_t preference{};
  check_cublas(library_.preference_init(&preference, sizeof(preference)), "preference");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check_cublas(library_.preference_set(&preference, attribute, &value, sizeof(value)),
                 "cublasLtMatmulPreferenceSetAttribute");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kWorkspaceBytes});
  // Rows of odd sizes begin anywhere.
  const auto alignment_of = [](std::int64_t row_elements, DType dtype) {
    const auto bytes =
        static_cast<std::uint32_t>(row_elements) * static_cast<std::uint32_t>(dtype_bytes(dtype));
    return std::min<std::uint32_t>(bytes & (~bytes + 1), 16);
  };
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(shape.num_columns, shape.dtype));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(shape.num_columns, shape.dtype));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(shape.num_rows, shape.out_dtype));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(shape.num_rows, shape.out_dtype));
  if (no_split) {
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  }
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<std::size_t>(max_count));
  int count = 0;
  const cublasStatus_t status = library_.algo_get_heuristic(
      handle_, layouts.operation(), layouts.weight(), layouts.x(), layouts.out(), layouts.out(),
      &preference, max_count, results.data(), &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return {};
  check_cublas(status, "cublasLtMatmulAlgoGetHeuristic");
  std::vector<cublasLtMatmulAlgo_t> algos;
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& result = results[static_cast<std::size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS) algos.push_back(result.algo);
  }
  return algos;
}

bool CublasLtGemm::can_run(const GemmShape& shape, std::int64_t num_tokens,
                           const cublasLtMatmulAlgo_t& algo) const {
  Layouts layouts(library_, shape, num_tokens, nullptr);
  cublasLtMatmulHeuristicResult_t result{};
  return library_.algo_check(handle_, layouts.operation(), layouts.weight(), layouts.x(),
                             layouts.out(), layouts.out(), &algo,
                             &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspaceBytes;
}

void CublasLtGemm::run(const GemmCall& call, const cublasLtMatmulAlgo_t& algo, void* workspace,
                       cudaStream_t stream) const {
  Layouts layouts(library_, call.shape, call.num_tokens, call.bias);
  const float alpha = 1.0F;
  const float beta = call.adds ? 1.0F : 0.0F;
  check_cublas(library_.matmul(handle_, layouts.operation(), &alpha, call.weight, layouts.weight(),
                               call.x, layouts.x(), &beta, call.out, layouts.out(), call.out,
                               layouts.out(), &algo, workspace, kWorkspaceBytes, stream),
               "cublasLtMatmul");
}

}  // namespace llmrun
