#include "engine/backend/cuda/step_staging.h"

#include <algorithm>
#include <cstring>

#include "engine/core/error.h"
#include "kernels/cuda/check.h"

namespace llmrun {
namespace {

using kernels::check_cuda;
using kernels::StepArrays;

constexpr std::size_t kAlignment = 16;

std::size_t round_up(std::size_t num_bytes) {
  return (num_bytes + kAlignment - 1) / kAlignment * kAlignment;
}

struct Counts {
  std::size_t tokens = 0;
  std::size_t sequences = 0;
  std::size_t logits_rows = 0;
  std::size_t plan_words = 0;
  std::size_t block_entries = 0;
};

// Lays the arrays out back to back from `base` and returns the end.
std::byte* lay_out(StepArrays& arrays, std::byte* base, const Counts& counts) {
  const auto take = [&](auto*& array, std::size_t count) {
    using Element = std::remove_reference_t<decltype(*array)>;
    array = reinterpret_cast<Element*>(base);
    base += round_up(count * sizeof(Element));
  };
  take(arrays.slot_mapping, counts.tokens);
  take(arrays.token_ids, counts.tokens);
  take(arrays.positions, counts.tokens);
  take(arrays.query_start_loc, counts.sequences + 1);
  take(arrays.seq_lens, counts.sequences);
  take(arrays.logits_indices, counts.logits_rows);
  take(arrays.attention_plan, counts.plan_words);
  take(arrays.block_tables, counts.block_entries);
  return base;
}

Counts largest_counts(const StepStaging::Limits& limits) {
  return {
      .tokens = static_cast<std::size_t>(limits.max_num_tokens),
      .sequences = static_cast<std::size_t>(limits.max_num_sequences),
      .logits_rows = static_cast<std::size_t>(limits.max_num_tokens),
      .plan_words = static_cast<std::size_t>(limits.max_plan_words),
      .block_entries = static_cast<std::size_t>(limits.max_num_sequences * limits.max_num_blocks)};
}

std::size_t array_bytes(const StepStaging::Limits& limits) {
  StepArrays arrays{};
  return static_cast<std::size_t>(lay_out(arrays, nullptr, largest_counts(limits)) -
                                  static_cast<std::byte*>(nullptr));
}

template <typename T>
void fill(T* target, std::span<const T> source) {
  if (!source.empty()) std::memcpy(target, source.data(), source.size_bytes());
}

}  // namespace

StepStaging::StepStaging(kernels::Launch launch, const Limits& limits)
    : launch_(launch),
      limits_(limits),
      packed_(array_bytes(limits)),
      arrays_(array_bytes(limits)),
      slots_{Slot(array_bytes(limits)), Slot(array_bytes(limits)), Slot(array_bytes(limits))} {
  lay_out(spread_, static_cast<std::byte*>(arrays_.data()), largest_counts(limits));
}

std::size_t StepStaging::num_bytes(const Limits& limits) {
  return 2 * array_bytes(limits);
}

ForwardBatch StepStaging::upload(const StepInputs& inputs, std::span<const std::int32_t> plan,
                                 const std::int32_t* feedback_tokens) {
  const std::int64_t num_tokens = inputs.num_tokens();
  const std::int64_t num_sequences = inputs.num_sequences();
  LLMRUN_CHECK(num_tokens <= limits_.max_num_tokens);
  LLMRUN_CHECK(num_sequences <= limits_.max_num_sequences);
  LLMRUN_CHECK(inputs.max_num_blocks <= limits_.max_num_blocks);
  LLMRUN_CHECK(static_cast<std::int64_t>(plan.size()) <= limits_.max_plan_words);
  LLMRUN_CHECK(static_cast<std::int64_t>(inputs.positions.size()) == num_tokens);
  LLMRUN_CHECK(static_cast<std::int64_t>(inputs.slot_mapping.size()) == num_tokens);
  LLMRUN_CHECK(static_cast<std::int64_t>(inputs.query_start_loc.size()) == num_sequences + 1);
  LLMRUN_CHECK(static_cast<std::int64_t>(inputs.block_tables.size()) ==
               num_sequences * inputs.max_num_blocks);

  Slot& slot = slots_[next_slot_];
  next_slot_ = (next_slot_ + 1) % slots_.size();
  slot.is_copied.wait();
  const Counts counts{.tokens = inputs.token_ids.size(),
                      .sequences = inputs.seq_lens.size(),
                      .logits_rows = inputs.logits_indices.size(),
                      .plan_words = plan.size(),
                      .block_entries = inputs.block_tables.size()};
  StepArrays host{};
  const std::byte* end = lay_out(host, slot.memory.data(), counts);
  fill<std::int64_t>(host.slot_mapping, inputs.slot_mapping);
  fill<std::int32_t>(host.token_ids, inputs.token_ids);
  fill<std::int32_t>(host.positions, inputs.positions);
  fill<std::int32_t>(host.query_start_loc, inputs.query_start_loc);
  fill<std::int32_t>(host.seq_lens, inputs.seq_lens);
  fill<std::int32_t>(host.logits_indices, inputs.logits_indices);
  fill<std::int32_t>(host.attention_plan, plan);
  fill<std::int32_t>(host.block_tables, inputs.block_tables);
  StepArrays packed{};
  lay_out(packed, static_cast<std::byte*>(packed_.data()), counts);
  check_cuda(cudaMemcpyAsync(packed_.data(), slot.memory.data(),
                             static_cast<std::size_t>(end - slot.memory.data()),
                             cudaMemcpyHostToDevice, launch_.stream),
             "the copy of a step's inputs");
  slot.is_copied.record(launch_.stream);
  kernels::spread_step_inputs({.stream = launch_.stream}, spread_, packed,
                              {.num_tokens = num_tokens,
                               .num_sequences = num_sequences,
                               .num_logits_rows = static_cast<std::int64_t>(counts.logits_rows),
                               .num_plan_words = static_cast<std::int64_t>(counts.plan_words),
                               .num_blocks = inputs.max_num_blocks,
                               .max_num_blocks = limits_.max_num_blocks},
                              feedback_tokens);

  ForwardBatch batch;
  batch.num_tokens = inputs.num_tokens();
  batch.num_sequences = inputs.num_sequences();
  batch.num_logits_rows = static_cast<std::int32_t>(counts.logits_rows);
  batch.token_ids = Tensor(spread_.token_ids, DType::kI32, {num_tokens});
  batch.positions = Tensor(spread_.positions, DType::kI32, {num_tokens});
  batch.slot_mapping = Tensor(spread_.slot_mapping, DType::kI64, {num_tokens});
  batch.query_start_loc = Tensor(spread_.query_start_loc, DType::kI32, {num_sequences + 1});
  batch.seq_lens = Tensor(spread_.seq_lens, DType::kI32, {num_sequences});
  batch.block_tables =
      Tensor(spread_.block_tables, DType::kI32, {num_sequences, limits_.max_num_blocks});
  batch.logits_indices = Tensor(spread_.logits_indices, DType::kI32, {batch.num_logits_rows});
  for (std::size_t s = 0; s < inputs.seq_lens.size(); ++s) {
    const std::int32_t query_len = inputs.query_start_loc[s + 1] - inputs.query_start_loc[s];
    LLMRUN_CHECK(query_len >= 0 && inputs.seq_lens[s] >= query_len);
    batch.max_query_len = std::max(batch.max_query_len, query_len);
    batch.max_seq_len = std::max(batch.max_seq_len, inputs.seq_lens[s]);
  }
  LLMRUN_CHECK(inputs.query_start_loc.front() == 0 && inputs.query_start_loc.back() == num_tokens);
  return batch;
}

void pad_step_inputs(StepInputs& inputs, std::int32_t num_sequences) {
  while (inputs.num_sequences() < num_sequences) {
    inputs.logits_indices.push_back(inputs.num_tokens());
    inputs.token_ids.push_back(0);
    inputs.positions.push_back(0);
    inputs.slot_mapping.push_back(0);  // block 0 is reserved
    inputs.query_start_loc.push_back(inputs.num_tokens());
    inputs.seq_lens.push_back(1);
    inputs.block_tables.resize(
        inputs.block_tables.size() + static_cast<std::size_t>(inputs.max_num_blocks), 0);
  }
}

}  // namespace llmrun
