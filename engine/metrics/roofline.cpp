#include "engine/metrics/roofline.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace llmrun {

StepWork& StepWork::operator+=(const StepWork& other) {
  bytes += other.bytes;
  flops += other.flops;
  limit_s += other.limit_s;
  return *this;
}

Roofline::Roofline(const TransformerShape& shape, const DeviceRates& rates) : rates_(rates) {
  const std::int64_t q_size = shape.num_query_heads * shape.head_dim;
  const std::int64_t kv_size = shape.num_kv_heads * shape.head_dim;
  const std::int64_t h = shape.hidden_size;
  const std::int64_t layer =
      h * q_size + 2 * h * kv_size + q_size * h + 3 * h * shape.intermediate_size;
  const std::int64_t bias = shape.has_qkv_bias ? q_size + 2 * kv_size : 0;
  const std::int64_t small = shape.num_layers * (2 * h + bias) + h;
  const auto element = static_cast<double>(shape.weight_bytes_per_element);
  layer_params_ = static_cast<double>(shape.num_layers * layer);
  head_params_ = static_cast<double>(shape.vocab_size * h);
  layer_bytes_ = (layer_params_ + static_cast<double>(small)) * element;
  head_bytes_ = head_params_ * element;
  kv_bytes_per_token_ = 2 * shape.num_layers * kv_size * shape.kv_bytes_per_element;
  flops_per_context_token_ = static_cast<double>(4 * shape.num_layers * q_size);
}

StepWork Roofline::work(const StepRecord& step) const {
  const auto tokens = static_cast<double>(step.num_tokens());
  const auto sampled = static_cast<double>(step.num_sampled_rows);
  const auto kv = static_cast<double>(kv_bytes_per_token_);
  if (tokens == 0) return {};
  const double layer_flops = 2 * layer_params_ * tokens;
  const double head_flops = 2 * head_params_ * sampled;
  const double head_bytes = sampled > 0 ? head_bytes_ : 0;
  const double decode_bytes = kv * (static_cast<double>(step.num_decode_context_tokens) + tokens);
  const double past_bytes = kv * static_cast<double>(step.num_prefill_past_tokens);
  const double prefill_attention_flops =
      flops_per_context_token_ * static_cast<double>(step.num_prefill_context_tokens);
  const double decode_attention_flops =
      flops_per_context_token_ * static_cast<double>(step.num_decode_context_tokens);

  StepWork work;
  work.bytes = layer_bytes_ + head_bytes + decode_bytes + past_bytes;
  work.flops = layer_flops + head_flops + prefill_attention_flops + decode_attention_flops;
  if (rates_.bytes_per_s > 0 && rates_.flops_per_s > 0) {
    const auto longer = [&](double bytes, double flops) {
      return std::max(bytes / rates_.bytes_per_s, flops / rates_.flops_per_s);
    };
    work.limit_s = longer(layer_bytes_, layer_flops) + longer(head_bytes, head_flops) +
                   longer(decode_bytes, 0) + longer(past_bytes, prefill_attention_flops);
  }
  return work;
}

double Roofline::ideal_seconds(std::span<const std::pair<std::int64_t, std::int64_t>> requests,
                               const IdealSchedule& schedule) const {
  struct Running {
    std::int64_t context = 0;
    std::int64_t outputs_left = 0;
    std::int64_t reserved = 0;
  };
  std::vector<Running> running;
  std::size_t next = 0;           // request to start
  std::int64_t num_computed = 0;  // prompt tokens of it
  std::int64_t num_kv_tokens = 0;
  double seconds = 0;
  while (next < requests.size() || !running.empty()) {
    StepRecord step;
    std::vector<Running> started;
    step.num_decode_sequences = static_cast<std::int32_t>(running.size());
    for (const Running& sequence : running) step.num_decode_context_tokens += sequence.context;
    std::int64_t budget = schedule.max_num_batched_tokens - std::ssize(running);
    while (budget > 0 && next < requests.size()) {
      const auto& [num_prompt, num_output] = requests[next];
      if (num_computed == 0) {
        if (std::ssize(running) + std::ssize(started) >= schedule.max_num_seqs ||
            num_kv_tokens + num_prompt + num_output > schedule.kv_capacity_tokens) {
          break;
        }
        num_kv_tokens += num_prompt + num_output;
      }
      const std::int64_t chunk = std::min(budget, num_prompt - num_computed);
      step.num_prefill_tokens += static_cast<std::int32_t>(chunk);
      step.num_prefill_context_tokens += chunk * num_computed + chunk * (chunk + 1) / 2;
      step.num_prefill_past_tokens += num_computed;
      num_computed += chunk;
      budget -= chunk;
      if (num_computed < num_prompt) break;
      started.push_back({num_prompt + 1, num_output - 1, num_prompt + num_output});
      num_computed = 0;
      ++next;
    }
    if (step.num_tokens() == 0) return 0;
    step.num_sampled_rows = step.num_decode_sequences + static_cast<std::int32_t>(started.size());
    seconds += work(step).limit_s;
    for (Running& sequence : running) {
      sequence.context += 1;
      sequence.outputs_left -= 1;
    }
    running.insert(running.end(), started.begin(), started.end());
    std::erase_if(running, [&](const Running& sequence) {
      if (sequence.outputs_left > 0) return false;
      num_kv_tokens -= sequence.reserved;
      return true;
    });
  }
  return seconds;
}

}  // namespace llmrun
