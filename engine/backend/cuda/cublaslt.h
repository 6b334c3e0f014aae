// cuBLASLt, opened at run time: a build of llmrun starts on machines that have none.
#pragma once

#include <string>

#include <cublasLt.h>

namespace llmrun {

// The functions this project calls. Valid for the life of the process.
struct CublasLt {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) get_version = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) algo_get_heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) algo_check = nullptr;
  decltype(&cublasLtMatmulDescInit_internal) desc_init = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutInit_internal) layout_init = nullptr;
  decltype(&cublasLtMatmulPreferenceInit_internal) preference_init = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  std::string path;
};

// Opens the library on the first call: LLMRUN_CUBLASLT if set, else the system's, else the CUDA
// toolkit's. Throws Error(kDevice) that says what was looked for.
const CublasLt& cublaslt();

// Throws Error(kDevice) for a status that is not success.
void check_cublas(cublasStatus_t status, const char* what);

}  // namespace llmrun
