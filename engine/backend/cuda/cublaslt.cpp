#include "engine/backend/cuda/cublaslt.h"

#include <cstdlib>
#include <vector>

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

template <typename Function>
void load_function(void* library, Function& function, const char* name) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) {
    throw Error(ErrorKind::kDevice, fmt::format("libcublasLt has no function {}", name));
  }
}

std::vector<std::string> candidates() {
  if (const char* path = std::getenv("LLMRUN_CUBLASLT")) return {path};
  std::vector<std::string> paths = {"libcublasLt.so.13", "libcublasLt.so.12"};
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const char* folder = std::getenv(variable)) {
      paths.push_back(std::string(folder) + "/lib64/libcublasLt.so");
    }
  }
  paths.emplace_back("/usr/local/cuda/lib64/libcublasLt.so");
  return paths;
}

CublasLt open_cublaslt() {
  const std::vector<std::string> paths = candidates();
  void* library = nullptr;
  CublasLt functions;
  for (const std::string& path : paths) {
    library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) continue;
    functions.path = path;
    break;
  }
  if (library == nullptr) {
    throw Error(ErrorKind::kDevice,
                fmt::format("the CUDA backend needs cuBLASLt and found none of: {}; install "
                            "libcublas or set LLMRUN_CUBLASLT to its file",
                            fmt::join(paths, ", ")));
  }
  load_function(library, functions.create, "cublasLtCreate");
  load_function(library, functions.destroy, "cublasLtDestroy");
  load_function(library, functions.get_version, "cublasLtGetVersion");
  load_function(library, functions.matmul, "cublasLtMatmul");
  load_function(library, functions.algo_get_heuristic, "cublasLtMatmulAlgoGetHeuristic");
  load_function(library, functions.algo_check, "cublasLtMatmulAlgoCheck");
  load_function(library, functions.desc_init, "cublasLtMatmulDescInit_internal");
  load_function(library, functions.desc_set, "cublasLtMatmulDescSetAttribute");
  load_function(library, functions.layout_init, "cublasLtMatrixLayoutInit_internal");
  load_function(library, functions.preference_init, "cublasLtMatmulPreferenceInit_internal");
  load_function(library, functions.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  return functions;
}

}  // namespace

const CublasLt& cublaslt() {
  static const CublasLt kFunctions = open_cublaslt();
  return kFunctions;
}

void check_cublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorKind::kDevice,
              fmt::format("cuBLASLt: {}: status {}", what, static_cast<int>(status)));
}

}  // namespace llmrun
