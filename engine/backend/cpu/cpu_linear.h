// Weight matrices in packed form, and the linear layers that use them, over a thread pool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/backend/cpu/cpu_memory.h"
#include "engine/core/thread_pool.h"
#include "kernels/cpu/cpu_kernels.h"

namespace llmrun {

// A weight packed into panels (kernels/cpu/linear.h), stored as bf16 or float32.
class CpuLinearWeight final : public LinearWeight {
 public:
  CpuLinearWeight(std::int64_t num_rows, std::int64_t num_columns, DType dtype, bool is_gate_up,
                  bool has_bias);

  std::size_t num_bytes() const override { return panels_.num_bytes() + bias_.num_bytes(); }
  DType dtype() const { return dtype_; }
  bool is_gate_up() const { return is_gate_up_; }
  std::int64_t num_panels() const { return num_panels_; }
  std::int64_t padded_depth() const { return padded_depth_; }
  const void* panels() const { return panels_.data(); }
  const float* bias() const { return bias_.as<float>(); }

  void* panel(std::int64_t index);
  const void* panel(std::int64_t index) const;
  float* mutable_bias() { return bias_.as<float>(); }  // num_panels() * 16, padding included
  // Row of the weight that is column `column` of panel `panel`, or -1 for padding.
  std::int64_t row_at(std::int64_t panel, std::int64_t column) const;

 private:
  std::size_t panel_bytes() const;

  DType dtype_;
  bool is_gate_up_;
  std::int64_t num_panels_;
  std::int64_t padded_depth_;
  HostBuffer panels_;
  HostBuffer bias_;
};

class CpuLinear {
 public:
  // `deterministic`: one kernel whatever the number of rows. It matters only where few rows have a
  // kernel of their own, which is on AMX; other kernels give a row the same bits in any batch
  // anyway.
  CpuLinear(ThreadPool& pool, const kernels::CpuKernels& kernels, bool deterministic);

  std::unique_ptr<CpuLinearWeight> pack(const LinearSource& source, DType dtype);
  std::unique_ptr<CpuLinearWeight> pack_gate_up(const LinearSource& source, DType dtype);
  // Element (n, k) depends on (seed, n, k) only: the same matrix in every dtype and layout.
  std::unique_ptr<CpuLinearWeight> make_random(std::int64_t num_rows, std::int64_t num_columns,
                                               DType dtype, bool is_gate_up, bool has_bias,
                                               float stddev, std::uint64_t seed);

  // out [M, N] (or [M, N / 2] for kGateMul), x [M, K], each float32, or bf16 as input_dtype() and
  // Backend::linear_input_dtype() say: x where it is kBf16, out for kGateMul. `activation`: of
  // kGateMul.
  void run(const Tensor& out, const Tensor& x, const CpuLinearWeight& weight,
           kernels::LinearEpilogue epilogue, Activation activation = Activation::kSilu);
  // The dtype of x that needs no conversion.
  DType input_dtype(const CpuLinearWeight& weight) const;
  // out [K] = row `row` of the weight.
  void read_row(float* out, const CpuLinearWeight& weight, std::int64_t row) const;

 private:
  std::unique_ptr<CpuLinearWeight> pack_rows(const std::vector<Tensor>& parts,
                                             const std::vector<Tensor>& biases, DType dtype,
                                             bool is_gate_up);
  const kernels::LinearKernel& kernel_for(DType dtype, std::int64_t num_rows) const;
  void pack_activations(const kernels::LinearKernel& kernel, const Tensor& x,
                        const CpuLinearWeight& weight);
  std::int64_t panels_per_task(const kernels::LinearKernel& kernel, const kernels::LinearArgs& args,
                               std::int64_t num_panels) const;
  void run_tasks(const kernels::LinearKernel& kernel, const kernels::LinearArgs& args,
                 std::int64_t num_panels);
  std::int64_t depth_of_parts(const kernels::LinearKernel& kernel, const kernels::LinearArgs& args,
                              std::int64_t num_panels) const;
  void run_depth_parts(const kernels::LinearKernel& kernel, const kernels::LinearArgs& args,
                       std::int64_t num_panels, std::int64_t part_depth);

  // A half-open range of tasks.
  struct Tasks {
    std::int64_t begin;
    std::int64_t end;
  };

  // Tasks that a thread takes one after the other: these rows, and weights in the order of memory.
  // Threads count in their own parts without disturbing each other.
  struct alignas(64) Part {
    std::int64_t row_begin;
    std::int64_t row_end;
    std::int64_t next_task;
    std::int64_t end_task;

    // The next tasks, for the calling thread alone: up to `max_tasks`, at most half of what is left
    // so that the last are taken one by one. Nothing when all are taken.
    std::optional<Tasks> take(std::int64_t max_tasks);
  };
  // Tasks of a panel that are done, 0 between products.
  struct alignas(64) NumDone {
    std::int64_t count = 0;
  };
  // Parts of all rows, one a thread.
  void give_threads_parts(std::int64_t num_rows, std::int64_t num_tasks);
  // Calls run(part, tasks, scratch) until the tasks of all parts are done.
  template <typename F>
  void run_parts(std::int64_t num_tasks, std::int64_t max_tasks, const F& run);

  ThreadPool& pool_;
  const kernels::CpuKernels& kernels_;
  bool deterministic_;
  HostBuffer activations_;
  std::vector<Part> parts_;
  std::vector<NumDone> num_done_;  // a panel each
  HostBuffer sums_;                // of the tasks of run_depth_parts, each [num_rows, 16]
  HostBuffer scratch_;             // scratch_stride_ bytes a thread
  std::size_t scratch_stride_ = 0;
};

}  // namespace llmrun
