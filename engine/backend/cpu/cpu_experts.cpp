#include "engine/backend/cpu/cpu_experts.h"

#include <algorithm>
#include <cmath>

#include "engine/backend/cpu/cpu_elementwise.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

const CpuLinearWeight& weight_of(const std::unique_ptr<LinearWeight>& weight) {
  const auto* cpu_weight = dynamic_cast<const CpuLinearWeight*>(weight.get());
  LLMRUN_CHECK(cpu_weight != nullptr);
  return *cpu_weight;
}

}  // namespace

void route_to_experts(const Tensor& inout, std::int32_t top_k) {
  LLMRUN_CHECK(inout.rank() == 2);
  check_tensor(inout, DType::kF32, {inout.dim(0), inout.dim(1)});
  const std::int64_t num_experts = inout.dim(1);
  LLMRUN_CHECK(top_k >= 1 && top_k <= num_experts);
  std::vector<std::int64_t> order(static_cast<std::size_t>(num_experts));
  for (std::int64_t t = 0; t < inout.dim(0); ++t) {
    float* row = inout.as<float>() + t * num_experts;
    for (std::size_t e = 0; e < order.size(); ++e) order[e] = static_cast<std::int64_t>(e);
    std::partial_sort(order.begin(), order.begin() + top_k, order.end(),
                      [&](std::int64_t a, std::int64_t b) {
                        return row[a] > row[b] || (row[a] == row[b] && a < b);
                      });
    const float greatest = row[order[0]];
    float sum = 0;
    for (std::int64_t k = 0; k < num_experts; ++k) {
      float& value = row[order[static_cast<std::size_t>(k)]];
      value = k < top_k ? std::exp(value - greatest) : 0.0F;
      sum += value;
    }
    for (std::int64_t e = 0; e < num_experts; ++e) row[e] /= sum;
  }
}

void CpuExperts::add(const Tensor& inout, const Tensor& x, const Tensor& routing,
                     std::span<const Expert> experts, Activation activation,
                     const Tensor& scratch) {
  LLMRUN_CHECK(x.rank() == 2 && scratch.rank() == 2);
  const std::int64_t num_tokens = x.dim(0);
  const auto num_experts = static_cast<std::int64_t>(experts.size());
  check_tensor(x, DType::kF32, {num_tokens, x.dim(1)});
  check_tensor(inout, DType::kF32, {num_tokens, x.dim(1)});
  check_tensor(routing, DType::kF32, {num_tokens, num_experts});
  check_tensor(scratch, DType::kF32, {num_tokens, scratch.dim(1)});
  for (std::int64_t e = 0; e < num_experts; ++e) {
    add_expert(inout, x, routing.as<float>() + e, num_experts, experts[static_cast<std::size_t>(e)],
               activation, scratch);
  }
}

// factors[t * factor_stride]: the weight of this expert for token t.
void CpuExperts::add_expert(const Tensor& inout, const Tensor& x, const float* factors,
                            std::int64_t factor_stride, const Expert& expert, Activation activation,
                            const Tensor& scratch) {
  rows_.clear();
  for (std::int64_t t = 0; t < x.dim(0); ++t) {
    if (factors[t * factor_stride] != 0.0F) rows_.push_back(t);
  }
  if (rows_.empty()) return;
  const std::int64_t hidden_size = x.dim(1);
  const auto num_rows = static_cast<std::int64_t>(rows_.size());
  const CpuLinearWeight& gate_up = weight_of(expert.gate_up);
  const CpuLinearWeight& down = weight_of(expert.down);
  LLMRUN_CHECK(gate_up.is_gate_up() && gate_up.num_columns() == hidden_size);
  LLMRUN_CHECK(down.num_rows() == hidden_size && down.num_columns() == scratch.dim(1) &&
               gate_up.num_rows() == 2 * scratch.dim(1));
  const std::size_t num_bytes = static_cast<std::size_t>(num_rows * hidden_size) * sizeof(float);
  gathered_.reserve(num_bytes);
  result_.reserve(num_bytes);
  for (std::int64_t i = 0; i < num_rows; ++i) {
    std::copy_n(x.as<float>() + rows_[static_cast<std::size_t>(i)] * hidden_size, hidden_size,
                gathered_.as<float>() + i * hidden_size);
  }
  const Tensor activations = scratch.rows(num_rows);
  const Tensor gathered(gathered_.data(), DType::kF32, {num_rows, hidden_size});
  const Tensor result(result_.data(), DType::kF32, {num_rows, hidden_size});
  linear_.run(activations, gathered, gate_up, kernels::LinearEpilogue::kGateMul, activation);
  linear_.run(result, activations, down, kernels::LinearEpilogue::kStore);
  for (std::int64_t i = 0; i < num_rows; ++i) {
    const std::int64_t t = rows_[static_cast<std::size_t>(i)];
    kernels_.add(inout.as<float>() + t * hidden_size, result_.as<float>() + i * hidden_size,
                 factors[t * factor_stride], hidden_size);
  }
}

}  // namespace llmrun
