#include "engine/backend/cuda/cuda_graph.h"

#include "kernels/cuda/check.h"

namespace llmrun {

using kernels::check_cuda;

CudaGraph::CudaGraph(cudaStream_t stream, const std::function<void()>& work) {
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
             "cudaStreamBeginCapture");
  cudaGraph_t recorded = nullptr;
  try {
    work();
  } catch (...) {
    cudaStreamEndCapture(stream, &recorded);
    if (recorded != nullptr) cudaGraphDestroy(recorded);
    cudaGetLastError();  // what went wrong is on its way
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
  const cudaError_t status = cudaGraphInstantiate(&graph_, recorded, 0);
  cudaGraphDestroy(recorded);
  check_cuda(status, "cudaGraphInstantiate");
}

CudaGraph::~CudaGraph() {
  if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
}

void CudaGraph::launch(cudaStream_t stream) const {
  check_cuda(cudaGraphLaunch(graph_, stream), "cudaGraphLaunch");
}

}  // namespace llmrun
