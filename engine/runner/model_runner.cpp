#include "engine/runner/model_runner.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kNoOwner = ~std::uint64_t{0};

// A choice that is no token would index out of tables: the device, or its memory, is broken.
void check_token(const SampledToken& sampled, std::int64_t vocab_size, const Backend& backend) {
  if (!sampled.is_finite || (sampled.token_id >= 0 && sampled.token_id < vocab_size)) return;
  throw Error(ErrorKind::kDevice, fmt::format("{} chose token {}, but the vocabulary has {} tokens",
                                              backend.name(), sampled.token_id, vocab_size));
}

}  // namespace

StepLimits ModelRunner::step_limits(const Options& options, const ModelConfig& config) {
  const std::int32_t max_model_len =
      options.max_model_len > 0 ? options.max_model_len : options.num_blocks * options.block_size;
  return {.max_num_tokens = options.max_num_batched_tokens,
          // Each padding token is a sequence of its own.
          .max_num_sequences =
              options.pads_batches ? options.max_num_batched_tokens : options.max_num_seqs,
          .max_num_slots = options.max_num_seqs,
          .max_num_blocks = (max_model_len + options.block_size - 1) / options.block_size,
          .max_logits_rows = options.max_logits_rows,
          .num_query_heads = config.num_query_heads,
          .vocab_size = config.vocab_size,
          .intermediate_size = config.intermediate_size,
          .kv_cache = {.num_layers = config.num_layers,
                       .num_blocks = options.num_blocks,
                       .block_size = options.block_size,
                       .num_kv_heads = config.num_kv_heads,
                       .head_dim = config.head_dim,
                       .dtype = options.kv_cache_dtype}};
}

ModelRunner::ModelRunner(Backend& backend, CausalLm& model, const Options& options)
    : backend_(backend), model_(model), options_(options) {
  LLMRUN_CHECK(options.num_blocks >= 2 && options.block_size >= 1);
  LLMRUN_CHECK(options.max_num_seqs >= 1 && options.max_num_batched_tokens >= 1);
  const ModelConfig& config = model.config();
  LLMRUN_CHECK(options.vocab_size >= 1 && options.vocab_size <= config.vocab_size);
  model.allocate_workspace(backend, options.max_num_batched_tokens, options.max_num_batched_tokens);
  logits_ = backend.allocate_tensor(DType::kF32, {options.max_logits_rows, config.vocab_size});
  backend.prepare(step_limits(options, config));
  for (std::int32_t layer = 0; layer < config.num_layers; ++layer) {
    KvCacheView view;
    for (Tensor* side : {&view.key, &view.value}) {
      kv_memory_.push_back(backend.allocate_tensor(
          options.kv_cache_dtype,
          {options.num_blocks, config.num_kv_heads, options.block_size, config.head_dim}));
      *side = kv_memory_.back().tensor;
    }
    kv_layers_.push_back(view);
  }
  slot_owner_.assign(static_cast<std::size_t>(options.max_num_seqs), kNoOwner);
}

void ModelRunner::submit(const ScheduledBatch& batch, std::span<const SamplingPlan> plans) {
  LLMRUN_CHECK(plans.size() == batch.sequences.size());
  build_inputs(batch, plans);
  reset_penalties(batch);
  const ForwardBatch forward_batch = backend_.upload(inputs_);
  backend_.execute(forward_batch, [&] { model_.forward(backend_, forward_batch, kv_layers_); });

  StepInFlight step{.num_sequences = static_cast<std::int32_t>(batch.sequences.size()),
                    .rows = std::exchange(logits_rows_, {}),
                    .tickets = {}};
  const auto num_rows = static_cast<std::int64_t>(step.rows.size());
  const Tensor hidden = model_.hidden_states(num_rows);
  for (std::int64_t begin = 0; begin < num_rows; begin += options_.max_logits_rows) {
    const std::int64_t count = std::min<std::int64_t>(options_.max_logits_rows, num_rows - begin);
    const Tensor logits = logits_.tensor.rows(count);
    model_.compute_logits(backend_, logits, hidden.rows(begin, count));
    const std::span<const SamplingRow> rows =
        std::span(sampling_rows_)
            .subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    step.tickets.push_back(backend_.sample(logits, rows, options_.vocab_size));
  }
  if (num_rows == 0) {
    step.tickets.push_back(backend_.sample(logits_.tensor.rows(0), {}, options_.vocab_size));
  }
  in_flight_.push_back(std::move(step));
}

std::vector<SequenceOutput> ModelRunner::collect() {
  LLMRUN_CHECK(!in_flight_.empty());
  StepInFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  std::vector<SequenceOutput> outputs(static_cast<std::size_t>(step.num_sequences));
  std::size_t row = 0;
  for (const std::uint64_t ticket : step.tickets) {
    for (SampledToken& sampled : backend_.collect(ticket)) {
      const LogitsRow& logits_row = step.rows[row++];
      SequenceOutput& output = outputs[static_cast<std::size_t>(logits_row.sequence_idx)];
      output.is_finite = output.is_finite && sampled.is_finite;
      if (logits_row.prompt_position >= 0) {
        output.prompt_logprobs.push_back({logits_row.prompt_position, std::move(sampled.logprobs)});
      } else {
        check_token(sampled, options_.vocab_size, backend_);
        output.sampled = std::move(sampled);
      }
    }
  }
  LLMRUN_CHECK(row == step.rows.size());
  return outputs;
}

void ModelRunner::build_inputs(const ScheduledBatch& batch, std::span<const SamplingPlan> plans) {
  inputs_.token_ids.clear();
  inputs_.positions.clear();
  inputs_.slot_mapping.clear();
  inputs_.query_start_loc.assign(1, 0);
  inputs_.seq_lens.clear();
  inputs_.block_tables.clear();
  inputs_.logits_indices.clear();
  inputs_.max_num_blocks = 1;
  sampling_rows_.clear();
  logits_rows_.clear();

  for (const ScheduledSequence& scheduled : batch.sequences) {
    const std::int64_t length = scheduled.first_position + scheduled.num_new_tokens;
    const std::int64_t num_blocks = (length + options_.block_size - 1) / options_.block_size;
    inputs_.max_num_blocks =
        std::max(inputs_.max_num_blocks, static_cast<std::int32_t>(num_blocks));
  }
  for (std::size_t i = 0; i < batch.sequences.size(); ++i) {
    append_sequence(batch.sequences[i]);
    append_logits_rows(batch.sequences[i], plans[i], static_cast<std::int32_t>(i));
  }
  append_padding(batch.num_padding_tokens);
  LLMRUN_CHECK(inputs_.num_tokens() >= 1 &&
               inputs_.num_tokens() <= options_.max_num_batched_tokens);
}

void ModelRunner::append_sequence(const ScheduledSequence& scheduled) {
  const Sequence& sequence = *scheduled.sequence;
  LLMRUN_CHECK(scheduled.num_new_tokens >= 1 && sequence.slot >= 0 &&
               sequence.slot < options_.max_num_seqs);
  const std::span<const TokenId> known = sequence.token_ids();
  const std::int64_t end = scheduled.first_position + scheduled.num_new_tokens;
  for (std::int64_t position = scheduled.first_position; position < end; ++position) {
    const auto index = static_cast<std::size_t>(position);
    inputs_.token_ids.push_back(index < known.size() ? known[index]
                                                     : feedback_token(sequence.slot));
    inputs_.positions.push_back(static_cast<std::int32_t>(position));
    const BlockId block =
        sequence.block_table[static_cast<std::size_t>(position / options_.block_size)];
    LLMRUN_CHECK(block != kReservedBlock);
    inputs_.slot_mapping.push_back(std::int64_t{block} * options_.block_size +
                                   position % options_.block_size);
  }
  inputs_.query_start_loc.push_back(inputs_.num_tokens());
  inputs_.seq_lens.push_back(static_cast<std::int32_t>(end));
  const std::size_t row_begin = inputs_.block_tables.size();
  const auto num_blocks =
      static_cast<std::size_t>((end + options_.block_size - 1) / options_.block_size);
  inputs_.block_tables.resize(row_begin + static_cast<std::size_t>(inputs_.max_num_blocks),
                              kReservedBlock);
  std::copy_n(sequence.block_table.begin(), num_blocks,
              inputs_.block_tables.begin() + static_cast<std::ptrdiff_t>(row_begin));
}

void ModelRunner::append_logits_rows(const ScheduledSequence& scheduled, const SamplingPlan& plan,
                                     std::int32_t sequence_idx) {
  const Sequence& sequence = *scheduled.sequence;
  const std::int32_t first_token = inputs_.num_tokens() - scheduled.num_new_tokens;
  if (plan.num_prompt_logprobs >= 0) {
    // The token at position p rates the prompt token at p + 1.
    const std::int64_t end = std::min(scheduled.first_position + scheduled.num_new_tokens,
                                      sequence.num_prompt_tokens() - 1);
    for (std::int64_t position = scheduled.first_position; position < end; ++position) {
      SamplingRow row{.slot = sequence.slot};
      row.target_token = sequence.token_ids()[static_cast<std::size_t>(position + 1)];
      row.num_logprobs = plan.num_prompt_logprobs;
      sampling_rows_.push_back(row);
      inputs_.logits_indices.push_back(
          first_token + static_cast<std::int32_t>(position - scheduled.first_position));
      logits_rows_.push_back({sequence_idx, position + 1});
    }
  }
  if (scheduled.samples) {
    sampling_rows_.push_back(plan.row);
    sampling_rows_.back().slot = sequence.slot;
    inputs_.logits_indices.push_back(inputs_.num_tokens() - 1);
    logits_rows_.push_back({sequence_idx, -1});
  }
}

void ModelRunner::append_padding(std::int32_t num_padding_tokens) {
  for (std::int32_t i = 0; i < num_padding_tokens; ++i) {
    inputs_.token_ids.push_back(0);
    inputs_.positions.push_back(0);
    inputs_.slot_mapping.push_back(std::int64_t{kReservedBlock} * options_.block_size);
    inputs_.query_start_loc.push_back(inputs_.num_tokens());
    inputs_.seq_lens.push_back(1);
    inputs_.block_tables.resize(
        inputs_.block_tables.size() + static_cast<std::size_t>(inputs_.max_num_blocks),
        kReservedBlock);
  }
}

void ModelRunner::reset_penalties(const ScheduledBatch& batch) {
  for (const LogitsRow& row : logits_rows_) {
    if (row.prompt_position >= 0) continue;
    const SamplingRow& sampling =
        sampling_rows_[static_cast<std::size_t>(&row - logits_rows_.data())];
    const Sequence& sequence =
        *batch.sequences[static_cast<std::size_t>(row.sequence_idx)].sequence;
    std::uint64_t& owner = slot_owner_[static_cast<std::size_t>(sequence.slot)];
    if (owner == sequence.id()) continue;
    owner = sequence.id();
    if (!sampling.has_penalties()) continue;
    // A sequence that changes its slot has no step in flight: the scheduler waits for that.
    backend_.reset_penalty_state(
        sequence.slot,
        sequence.token_ids().first(static_cast<std::size_t>(sequence.num_prompt_tokens())),
        sequence.output_token_ids(), model_.config().vocab_size);
  }
}

}  // namespace llmrun
