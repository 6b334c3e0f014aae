// ModelDriver: a model, a backend and a KV cache without scheduler or runner. Builds the inputs of
// each step by hand, with cache blocks handed out in a scattered order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/backend/backend.h"
#include "engine/core/error.h"
#include "engine/kv_cache/block_table.h"
#include "engine/models/causal_lm.h"

namespace llmrun::testing {

struct DriverOptions {
  std::int32_t block_size = 16;
  std::int32_t num_blocks = 64;  // the reserved one included
  std::int64_t max_tokens = 512;
  DType kv_dtype = DType::kF32;
};

class ModelDriver {
 public:
  ModelDriver(Backend& backend, CausalLm& model, const DriverOptions& options)
      : backend_(backend), model_(model), options_(options) {
    const ModelConfig& config = model.config();
    model.allocate_workspace(backend, options.max_tokens, options.max_tokens);
    for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
      KvCacheView view;
      for (Tensor* side : {&view.key, &view.value}) {
        memory_.push_back(backend.allocate_tensor(
            options.kv_dtype,
            {options.num_blocks, config.num_kv_heads, options.block_size, config.head_dim}));
        *side = memory_.back().tensor;
      }
      layers_.push_back(view);
    }
    backend.prepare({.max_num_tokens = static_cast<std::int32_t>(options.max_tokens),
                     .max_num_sequences = static_cast<std::int32_t>(options.max_tokens),
                     .max_num_slots = 64,
                     .max_num_blocks = options.num_blocks,
                     .max_logits_rows = static_cast<std::int32_t>(options.max_tokens),
                     .num_query_heads = config.num_query_heads,
                     .vocab_size = config.vocab_size,
                     .intermediate_size = config.intermediate_size,
                     .kv_cache = {.num_layers = config.num_layers,
                                  .num_blocks = options.num_blocks,
                                  .block_size = options.block_size,
                                  .num_kv_heads = config.num_kv_heads,
                                  .head_dim = config.head_dim,
                                  .dtype = options.kv_dtype}});
    logits_ = backend.allocate_tensor(DType::kF32, {options.max_tokens, config.vocab_size});
    // Odd numbers downwards, then even ones: neighbours in a sequence are never neighbours here.
    for (BlockId block = 1; block < options.num_blocks; block += 2) free_.push_back(block);
    for (BlockId block = 2; block < options.num_blocks; block += 2) free_.push_back(block);
  }

  // One sequence: its tokens, and how many of them are in the cache.
  struct Sequence {
    std::vector<TokenId> tokens;
    std::int64_t num_computed = 0;
    BlockTable blocks{};
  };
  // The next `num_tokens` tokens of a sequence, and whether the logits of all of them are wanted,
  // or of the last one only, or of none.
  enum class Rows { kNone, kLast, kAll };
  struct Chunk {
    Sequence* sequence = nullptr;
    std::int64_t num_tokens = 0;
    Rows rows = Rows::kAll;
  };

  void release(Sequence& sequence) {
    free_.insert(free_.end(), sequence.blocks.begin(), sequence.blocks.end());
    sequence.blocks.clear();
    sequence.num_computed = 0;
  }

  // Runs one step; one row of logits per row asked for, in order.
  std::vector<std::vector<float>> step(std::span<const Chunk> chunks) {
    StepInputs inputs;
    inputs.query_start_loc = {0};
    for (const Chunk& chunk : chunks) append(inputs, chunk);
    for (const Chunk& chunk : chunks) {
      std::vector<std::int32_t> row(chunk.sequence->blocks.begin(), chunk.sequence->blocks.end());
      row.resize(static_cast<std::size_t>(inputs.max_num_blocks), kReservedBlock);
      inputs.block_tables.insert(inputs.block_tables.end(), row.begin(), row.end());
    }
    const ForwardBatch batch = backend_.upload(inputs);
    backend_.execute(batch, [&] { model_.forward(backend_, batch, layers_); });
    const std::int64_t num_rows = batch.num_logits_rows;
    if (num_rows == 0) return {};
    const Tensor hidden = model_.hidden_states(num_rows);
    LLMRUN_CHECK(hidden.dim(0) == num_rows && hidden.dim(1) == model_.config().embedding_width());
    const Tensor logits = logits_.tensor.rows(num_rows);
    model_.compute_logits(backend_, logits, hidden);
    std::vector<float> flat(static_cast<std::size_t>(logits.num_elements()));
    backend_.copy_to_host(flat.data(), logits);
    std::vector<std::vector<float>> rows;
    const std::ptrdiff_t width = model_.config().vocab_size;
    for (auto begin = flat.begin(); begin != flat.end(); begin += width) {
      rows.emplace_back(begin, begin + width);
    }
    return rows;
  }

 private:
  void append(StepInputs& inputs, const Chunk& chunk) {
    Sequence& sequence = *chunk.sequence;
    const std::int64_t end = sequence.num_computed + chunk.num_tokens;
    LLMRUN_CHECK(end <= static_cast<std::int64_t>(sequence.tokens.size()));
    while (static_cast<std::int64_t>(sequence.blocks.size()) * options_.block_size < end) {
      LLMRUN_CHECK(!free_.empty());
      sequence.blocks.push_back(free_.back());
      free_.pop_back();
    }
    for (std::int64_t p = sequence.num_computed; p < end; ++p) {
      const std::int64_t block = sequence.blocks[static_cast<std::size_t>(p / options_.block_size)];
      const bool is_wanted =
          chunk.rows == Rows::kAll || (chunk.rows == Rows::kLast && p == end - 1);
      if (is_wanted) inputs.logits_indices.push_back(inputs.num_tokens());
      inputs.token_ids.push_back(sequence.tokens[static_cast<std::size_t>(p)]);
      inputs.positions.push_back(static_cast<std::int32_t>(p));
      inputs.slot_mapping.push_back(block * options_.block_size + p % options_.block_size);
    }
    inputs.query_start_loc.push_back(inputs.num_tokens());
    inputs.seq_lens.push_back(static_cast<std::int32_t>(end));
    inputs.max_num_blocks =
        std::max(inputs.max_num_blocks, static_cast<std::int32_t>(sequence.blocks.size()));
    sequence.num_computed = end;
  }

  Backend& backend_;
  CausalLm& model_;
  DriverOptions options_;
  std::vector<DeviceTensor> memory_;
  std::vector<KvCacheView> layers_;
  DeviceTensor logits_;
  std::vector<BlockId> free_;
};

// log softmax(logits)[id]
inline double logprob_of(std::span<const float> logits, TokenId id) {
  const double greatest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - greatest);
  return logits[static_cast<std::size_t>(id)] - greatest - std::log(sum);
}

inline TokenId argmax(std::span<const float> logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace llmrun::testing
