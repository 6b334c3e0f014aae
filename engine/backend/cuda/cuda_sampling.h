// Sampling on the GPU, as engine/backend/sampling_batch.h defines it and with the CPU's choices
// (engine/backend/cpu/cpu_sampling.h): the same logits give the same tokens. The host only sends
// parameters; what a step chose stays on the device for the next one and arrives here later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include <cuda_runtime_api.h>

#include "engine/backend/cuda/cuda_memory.h"
#include "engine/backend/sampling_batch.h"
#include "engine/core/token_id.h"
#include "kernels/cuda/sampling.h"

namespace llmrun {

class CudaSampler {
 public:
  struct Options {
    std::int32_t max_num_slots = 0;
    std::int32_t max_num_rows = 0;    // of one sample()
    std::int64_t vocab_size_max = 0;  // columns of the logits
  };

  // Allocates num_bytes(options) on the device. Work is queued on `stream`, which must outlive the
  // sampler.
  CudaSampler(const Options& options, cudaStream_t stream);
  ~CudaSampler();
  CudaSampler(const CudaSampler&) = delete;
  CudaSampler& operator=(const CudaSampler&) = delete;

  // Device memory, but for the penalty state of a slot, 4 bytes a vocabulary entry, which is
  // allocated when a request of the slot first has penalties, and for lists of edits of unusual
  // length.
  static std::size_t num_bytes(const Options& options);
  static std::size_t penalty_bytes_per_slot(const Options& options);

  // Queues the choice of one token from each row and returns a ticket. Row r is logits[r *
  // row_stride, ...) on the device, `vocab_size` logits and then padding. At most one row that
  // samples (target_token < 0) per slot. `rows` and what they point at may go when this returns.
  std::uint64_t sample(const float* logits, std::int64_t row_stride, std::int64_t vocab_size,
                       std::span<const SamplingRow> rows);

  // Waits for a ticket's tokens. Each is collected once; any number may be outstanding.
  std::vector<SampledToken> collect(std::uint64_t ticket);

  // See Backend::reset_penalty_state. Queued; does not wait.
  void reset_penalty_state(std::int32_t slot, std::span<const TokenId> prompt_tokens,
                           std::span<const TokenId> output_tokens, std::int64_t vocab_size);

  // On the device, [max_num_slots]: the token sampled last for each slot, 0 after a row that
  // failed.
  const std::int32_t* feedback_tokens() const { return workspace_.feedback_tokens; }

 private:
  struct Flight;
  struct Plan;
  struct TokenUpload;
  class UploadStream {
   public:
    UploadStream();
    ~UploadStream();
    UploadStream(const UploadStream&) = delete;
    UploadStream& operator=(const UploadStream&) = delete;
    cudaStream_t get() const { return stream_; }

   private:
    cudaStream_t stream_ = nullptr;
  };

  Plan make_plan(std::span<const SamplingRow> rows, std::int64_t vocab_size) const;
  kernels::SamplingRowParams make_params(const SamplingRow& row, std::int64_t vocab_size,
                                         std::int32_t max_listed_top_k) const;
  std::unique_ptr<Flight> take_flight(const Plan& plan);
  void queue_upload(const Plan& plan, Flight& flight);
  void queue_passes(const Plan& plan, const kernels::SamplingBatch& batch);

  Options options_;
  cudaStream_t stream_;
  int num_multiprocessors_ = 1;
  bool overlaps_launches_ = false;
  CudaBuffer memory_;
  kernels::SamplingWorkspace workspace_{};
  UploadStream upload_stream_;
  std::vector<std::unique_ptr<CudaBuffer>> penalty_states_;  // by slot
  std::vector<std::unique_ptr<TokenUpload>> token_uploads_;
  std::deque<std::unique_ptr<Flight>> flights_;  // queued and not collected, oldest first
  std::vector<std::unique_ptr<Flight>> idle_flights_;
  std::uint64_t next_ticket_ = 1;
};

}  // namespace llmrun
