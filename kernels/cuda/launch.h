// How a kernel is put on a stream. With `overlap` it is launched with programmatic dependent launch
// (sm_90): it may start while the kernel before it ends, so it must call wait_for_inputs() before
// it reads what earlier kernels wrote or writes what they read; until then it may only touch
// weights. A kernel that never calls allow_next() releases its successor when it ends; one that
// calls it first thing lets its successor fetch weights meanwhile, and no more: the successor's own
// wait lasts until this kernel has ended.
#pragma once

#include <array>
#include <cstddef>

#include <cuda_runtime.h>

#include "kernels/cuda/check.h"

namespace llmrun::kernels {

struct Launch {
  cudaStream_t stream = nullptr;
  bool overlap = false;
  // Blocks of a cluster, which run at the same time and reach each other's shared memory
  // (compute capability 9); the grid's width is a multiple of it. 1: no clusters.
  unsigned cluster_blocks = 1;
};

#ifdef __CUDACC__

__device__ __forceinline__ void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}
__device__ __forceinline__ void allow_next() {
#if __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

// Launches kernel(args...). `name` is told when it fails.
template <typename... Parameters, typename... Arguments>
void launch(const Launch& options, const char* name, void (*kernel)(Parameters...), dim3 grid,
            dim3 block, std::size_t shared_bytes, Arguments... arguments) {
  std::array<cudaLaunchAttribute, 2> attributes{};
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = options.stream;
  config.attrs = attributes.data();
  if (options.overlap) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (options.cluster_blocks > 1) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = options.cluster_blocks;
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
  }
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name);
}

#endif

}  // namespace llmrun::kernels
