// Work on a stream, recorded once and launched many times.
#pragma once

#include <functional>

#include <cuda_runtime_api.h>

namespace llmrun {

class CudaGraph {
 public:
  // Records what `work` puts on the stream, without running it. What `work` throws is thrown on,
  // and the stream is as before.
  CudaGraph(cudaStream_t stream, const std::function<void()>& work);
  ~CudaGraph();
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void launch(cudaStream_t stream) const;

 private:
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace llmrun
