#include "engine/backend/cuda/cuda_linear.h"

#include <algorithm>
#include <map>

#include "engine/backend/cuda/cuda_graph.h"
#include "engine/core/error.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/gate_up_linear.h"
#include "kernels/cuda/skinny_linear.h"
#include "kernels/cuda/weights.h"

namespace llmrun {
namespace {

using kernels::check_cuda;
using kernels::CudaLinearEpilogue;

// Longer steps compute gate and up in slices of so many tokens, to bound the scratch memory.
constexpr std::int64_t kGateUpTokens = 4096;

// The most tokens that products are measured with; longer steps run like these.
constexpr std::int64_t kTunedTokens = 8192;

// A model of fewer bytes gains nothing from measurements that take longer than its work.
constexpr std::size_t kSmallestTunedModel = std::size_t{256} << 20;

kernels::LinearArguments linear_arguments(const GemmCall& call, CudaLinearEpilogue epilogue) {
  return {.out = call.out,
          .x = call.x,
          .weight = call.weight,
          .bias = call.bias,
          .num_tokens = call.num_tokens,
          .num_rows = call.shape.num_rows,
          .num_columns = call.shape.num_columns,
          .dtype = call.shape.dtype,
          .out_dtype = call.shape.out_dtype,
          .epilogue = epilogue};
}

// Rows of the scratch memory for gate and up: as many as are measured, too.
std::int64_t gate_up_tokens(std::int64_t max_num_tokens) {
  return std::min(GemmPlanner::measured_size(max_num_tokens), kGateUpTokens);
}

std::byte* offset(const void* base, std::int64_t num_elements, DType dtype) {
  return static_cast<std::byte*>(const_cast<void*>(base)) +
         static_cast<std::size_t>(num_elements) * dtype_bytes(dtype);
}

}  // namespace

CudaLinear::CudaLinear(kernels::Launch launch, const Options& options)
    : launch_(launch),
      options_(options),
      planner_(gemm_,
               {.deterministic = options.deterministic, .device_name = options.device_name}) {}

void CudaLinear::note_weight(const CudaLinearWeight& weight) {
  noted_weights_.push_back(weight.weak_reference());
  if (!weight.is_gate_up()) return;
  gate_up_row_bytes_ = std::max(gate_up_row_bytes_, static_cast<std::size_t>(weight.num_rows()) *
                                                        dtype_bytes(weight.dtype()));
}

std::size_t CudaLinear::num_bytes(std::int64_t max_num_tokens, std::int64_t intermediate_size,
                                  DType dtype) {
  return CublasLtGemm::kWorkspaceBytes +
         static_cast<std::size_t>(gate_up_tokens(max_num_tokens) * 2 * intermediate_size) *
             dtype_bytes(dtype);
}

void CudaLinear::prepare(std::int64_t max_num_tokens, std::int64_t vocab_size,
                         std::int64_t max_logits_rows) {
  gate_up_ = std::make_unique<CudaBuffer>(static_cast<std::size_t>(gate_up_tokens(max_num_tokens)) *
                                          gate_up_row_bytes_);
  std::size_t total_bytes = 0;
  for (const auto& noted : noted_weights_) {
    const std::shared_ptr<const CudaLinearWeight> weight = noted.lock();
    if (weight == nullptr) continue;
    weights_.push_back(weight.get());
    total_bytes += weight->num_bytes();
  }
  noted_weights_.clear();
  if (options_.tune && !options_.deterministic && total_bytes >= kSmallestTunedModel) {
    tune(max_num_tokens, vocab_size, max_logits_rows);
  }
  weights_.clear();
}

void CudaLinear::run(void* out, DType out_dtype, const void* x, std::int64_t num_tokens,
                     const CudaLinearWeight& weight, CudaLinearEpilogue epilogue) {
  LLMRUN_CHECK(!weight.is_gate_up());
  if (num_tokens == 0) return;
  GemmCall call = call_of(out, out_dtype, x, num_tokens, weight);
  call.adds = epilogue == CudaLinearEpilogue::kAdd;
  run_chosen(call, epilogue, planner_.choose(call.shape, num_tokens, [&](GemmKernel kernel) {
    return can_run(kernel, call, epilogue);
  }));
}

void CudaLinear::run_gate_up(void* out, const void* x, std::int64_t num_tokens,
                             const CudaLinearWeight& weight, Activation activation) {
  LLMRUN_CHECK(weight.is_gate_up());
  if (num_tokens == 0) return;
  const GemmCall call = call_of(out, weight.dtype(), x, num_tokens, weight);
  const GemmChoice& choice = planner_.choose(call.shape, num_tokens, [&](GemmKernel kernel) {
    return activation == Activation::kSilu && can_run(kernel, call, CudaLinearEpilogue::kSiluMul);
  });
  if (choice.kernel == GemmKernel::kCublasLt) {
    run_gate_up_slices(call, activation, choice);
  } else {
    run_chosen(call, CudaLinearEpilogue::kSiluMul, choice);
  }
}

GemmCall CudaLinear::call_of(void* out, DType out_dtype, const void* x, std::int64_t num_tokens,
                             const CudaLinearWeight& weight) const {
  return {.shape = shape_of(weight, out_dtype),
          .num_tokens = num_tokens,
          .out = out,
          .x = x,
          .weight = weight.data(),
          .bias = weight.bias(),
          .adds = false};
}

GemmShape CudaLinear::shape_of(const CudaLinearWeight& weight, DType out_dtype) const {
  return {.num_rows = weight.num_rows(),
          .num_columns = weight.num_columns(),
          .dtype = weight.dtype(),
          .out_dtype = out_dtype,
          .has_bias = weight.has_bias(),
          .is_gate_up = weight.is_gate_up()};
}

bool CudaLinear::can_run(GemmKernel kernel, const GemmCall& call,
                         CudaLinearEpilogue epilogue) const {
  if (options_.deterministic) return false;
  const kernels::LinearArguments args = linear_arguments(call, epilogue);
  return kernel == GemmKernel::kSkinny ? kernels::supports_skinny_linear(args)
                                       : kernels::supports_gate_up_linear(args);
}

void CudaLinear::run_chosen(const GemmCall& call, CudaLinearEpilogue epilogue,
                            const GemmChoice& choice) {
  switch (choice.kernel) {
    case GemmKernel::kSkinny:
      kernels::skinny_linear(launch_, linear_arguments(call, epilogue));
      return;
    case GemmKernel::kGateUp:
      kernels::gate_up_linear(launch_, linear_arguments(call, epilogue));
      return;
    case GemmKernel::kCublasLt: break;
  }
  if (epilogue == CudaLinearEpilogue::kSiluMul) {
    run_gate_up_slices(call, Activation::kSilu, choice);
  } else {
    gemm_.run(call, choice.algo, workspace_.data(), launch_.stream);
  }
}

void CudaLinear::run_gate_up_slices(const GemmCall& call, Activation activation,
                                    const GemmChoice& choice) {
  const std::int64_t intermediate_size = call.shape.num_rows / 2;
  for (std::int64_t begin = 0; begin < call.num_tokens; begin += kGateUpTokens) {
    GemmCall slice = call;
    slice.num_tokens = std::min(kGateUpTokens, call.num_tokens - begin);
    slice.x = offset(call.x, begin * call.shape.num_columns, call.shape.dtype);
    slice.out = gate_up_->data();
    const bool is_whole = slice.num_tokens == call.num_tokens;
    const auto no_own_kernel = [](GemmKernel) { return false; };
    gemm_.run(
        slice,
        is_whole ? choice.algo : planner_.choose(call.shape, slice.num_tokens, no_own_kernel).algo,
        workspace_.data(), launch_.stream);
    kernels::gate_mul(launch_, offset(call.out, begin * intermediate_size, call.shape.dtype),
                      slice.out, slice.num_tokens, intermediate_size, activation, call.shape.dtype);
  }
}

void CudaLinear::tune(std::int64_t max_num_tokens, std::int64_t vocab_size,
                      std::int64_t max_logits_rows) {
  const std::filesystem::path path = GemmPlanner::default_path();
  planner_.load(path);
  const std::int64_t logits_tokens = GemmPlanner::measured_size(max_logits_rows);
  const std::int64_t layer_tokens =
      GemmPlanner::measured_size(std::min(max_num_tokens, kTunedTokens));
  std::map<GemmShape, std::int64_t> largest;  // and the most tokens it is used with
  std::size_t x_row_bytes = 0;
  std::size_t out_row_bytes = 0;  // of layers
  for (const CudaLinearWeight* weight : weights_) {
    const bool makes_logits = weight->num_rows() == vocab_size;
    largest[shape_of(*weight, makes_logits ? DType::kF32 : weight->dtype())] =
        makes_logits ? logits_tokens : layer_tokens;
    const std::size_t element = dtype_bytes(weight->dtype());
    x_row_bytes = std::max(x_row_bytes, static_cast<std::size_t>(weight->num_columns()) * element);
    if (makes_logits) continue;
    out_row_bytes = std::max(out_row_bytes, static_cast<std::size_t>(weight->num_rows()) * element);
  }
  // Operands of the largest products; of smaller ones when memory is short.
  const auto logits_bytes = static_cast<std::size_t>(logits_tokens * vocab_size) * sizeof(float);
  std::int64_t num_tokens = std::max(layer_tokens, logits_tokens);
  const auto scratch_bytes = [&] {
    return static_cast<std::size_t>(num_tokens) * (x_row_bytes + out_row_bytes) + logits_bytes;
  };
  while (num_tokens > 1 && scratch_bytes() > free_device_bytes() / 2) num_tokens /= 2;
  if (scratch_bytes() > free_device_bytes() / 2) return;
  CudaBuffer x(static_cast<std::size_t>(num_tokens) * x_row_bytes);
  CudaBuffer out(std::max(static_cast<std::size_t>(num_tokens) * out_row_bytes, logits_bytes));
  const DType dtype = weights_.front()->dtype();
  kernels::fill_normal(launch_, x.data(), dtype,
                       static_cast<std::int64_t>(x.num_bytes() / dtype_bytes(dtype)), 1.0F, 1);
  int num_measured = 0;
  for (const auto& entry : largest) {
    const GemmShape& shape = entry.first;
    num_measured += planner_.tune(shape, std::min(entry.second, num_tokens),
                                  [&](std::int64_t tokens, const GemmChoice& choice) {
                                    return measure(shape, tokens, choice, out.data(), x.data());
                                  });
  }
  if (num_measured > 0) planner_.save(path);
}

// Seconds of a product. Over all weights of the shape in turn, so that none is in the cache by
// luck, and as a graph, so that no launch is measured. An own product of few tokens overlaps with
// the different kernels before and after it in a step, which a row of equal products does not show:
// on an H200 one of cuBLASLt in the place of `down`, 34 us at one token and not slower in a row,
// makes a layer of Qwen2-7B 6.5 us longer.
double CudaLinear::measure(const GemmShape& shape, std::int64_t num_tokens,
                           const GemmChoice& choice, void* out, const void* x) {
  const CudaLinearEpilogue epilogue =
      shape.is_gate_up ? CudaLinearEpilogue::kSiluMul : CudaLinearEpilogue::kStore;
  GemmCall call{.shape = shape, .num_tokens = num_tokens, .out = out, .x = x};
  std::vector<const CudaLinearWeight*> weights;
  for (const CudaLinearWeight* weight : weights_) {
    if (shape_of(*weight, shape.out_dtype) == shape) weights.push_back(weight);
  }
  call.weight = weights.front()->data();
  call.bias = weights.front()->bias();
  if (choice.kernel != GemmKernel::kCublasLt && !can_run(choice.kernel, call, epilogue)) return -1;
  const std::size_t num_calls = num_tokens <= 512 ? std::max<std::size_t>(weights.size(), 4) : 4;
  CudaEvent begin(true);
  CudaEvent end(true);
  try {
    run_chosen(call, epilogue, choice);  // loads the kernel
    const CudaGraph calls(launch_.stream, [&] {
      for (std::size_t i = 0; i < num_calls; ++i) {
        call.weight = weights[i % weights.size()]->data();
        call.bias = weights[i % weights.size()]->bias();
        run_chosen(call, epilogue, choice);
      }
    });
    calls.launch(launch_.stream);
    begin.record(launch_.stream);
    calls.launch(launch_.stream);
    end.record(launch_.stream);
    end.wait();
  } catch (const Error&) {
    return -1;  // a candidate that this library only thought it could run
  }
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "cudaEventElapsedTime");
  const double seconds =
      static_cast<double>(milliseconds) / 1000.0 / static_cast<double>(num_calls);
  constexpr std::int64_t kOverlappingTokens = 32;
  constexpr double kOverlap = 5e-6;  // seconds; at most half of what was measured
  const bool overlaps =
      launch_.overlap && choice.kernel == GemmKernel::kSkinny && num_tokens <= kOverlappingTokens;
  return overlaps ? std::max(seconds - kOverlap, seconds / 2) : seconds;
}

}  // namespace llmrun
