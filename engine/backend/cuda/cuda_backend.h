// A GPU as a device: own kernels and cuBLASLt, one stream. Activations, weights and the KV cache
// share one float type. Operations are queued; sampled tokens stay on the device as the next step's
// input, and collect() waits for their copy.
//
// Decode steps (one token a sequence, a row of logits each) are padded to a few sizes and replayed
// as CUDA graphs, recorded when a size is first seen. Everything a graph reads lies in fixed
// places; what varies (lengths, block tables, the attention's work list) is read from there.
//
// This header is free of CUDA, and a build without CUDA has both functions: no device is usable.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/backend/backend.h"

namespace llmrun {

struct CudaBackendOptions {
  DType dtype = DType::kBf16;  // of activations: kBf16, kF16 or kF32
  bool plain_attention = false;
  bool graphs = true;
  bool deterministic = false;  // results of a row do not depend on the batch; slower
  bool tune = true;            // measure matrix products of large models at start, once a device
};

// Why no GPU can be used here, for people; empty when one can.
std::string cuda_unavailable_reason();

// The first visible GPU. Throws Error(kUsage) with cuda_unavailable_reason() when there is none.
std::unique_ptr<Backend> make_cuda_backend(const CudaBackendOptions& options = {});

}  // namespace llmrun
