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
void load(void* library, Function& function, const char* name) {
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

CublasLt open() {
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
  load(library, functions.create, "cublasLtCreate");
  load(library, functions.destroy, "cublasLtDestroy");
  load(library, functions.get_version, "cublasLtGetVersion");
  load(library, functions.matmul, "cublasLtMatmul");
  load(library, functions.algo_get_heuristic, "cublasLtMatmulAlgoGetHeuristic");
  load(library, functions.algo_check, "cublasLtMatmulAlgoCheck");
  load(library, functions.desc_init, "cublasLtMatmulDescInit_internal");
  load(library, functions.desc_set, "cublasLtMatmulDescSetAttribute");
  load(library, functions.layout_init, "cublasLtMatrixLayoutInit_internal");
  load(library, functions.preference_init, "cublasLtMatmulPreferenceInit_internal");
  load(library, functions.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  return functions;
}

}  // namespace

const CublasLt& cublaslt() {
  static const CublasLt functions = open();
  return functions;
}

void check_cublas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorKind::kDevice,
              fmt::format("cuBLASLt: {}: status {}", what, static_cast<int>(status)));
}

}  // namespace llmrun
