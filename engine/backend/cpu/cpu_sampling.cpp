#include "engine/backend/cpu/cpu_sampling.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "engine/core/error.h"
#include "engine/core/random.h"

namespace llmrun {
namespace {

// Below this a temperature means greedy, as in vLLM.
constexpr float kSmallestTemperature = 1e-5F;

const kernels::SamplingKernels& kernels_for(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kPortable: return kernels::sampling_portable();
    case CpuIsa::kAvx2: return kernels::sampling_avx2();
    case CpuIsa::kAvx512Bf16:
    case CpuIsa::kAmx: return kernels::sampling_avx512();
  }
  return kernels::sampling_portable();
}

bool changes_logits(const SamplingRow& row) {
  return row.has_penalties() || !row.logit_bias.empty() || !row.allowed_token_ids.empty() ||
         !row.banned_token_ids.empty();
}

float& at(std::span<float> logits, TokenId id) {
  LLMRUN_CHECK(id >= 0 && static_cast<std::size_t>(id) < logits.size());
  return logits[static_cast<std::size_t>(id)];
}

}  // namespace

CpuSampler::CpuSampler(ThreadPool& pool, CpuIsa isa)
    : pool_(pool),
      kernels_(kernels_for(isa)),
      scratch_(static_cast<std::size_t>(pool.num_threads())) {}

std::vector<SampledToken> CpuSampler::sample(const float* logits, std::int64_t row_stride,
                                             std::int64_t vocab_size,
                                             std::span<const SamplingRow> rows) {
  LLMRUN_CHECK(vocab_size >= 1 && vocab_size <= row_stride);
  std::vector<SampledToken> sampled(rows.size());
  pool_.parallel_for(std::ssize(rows), [&](std::int64_t r, std::int32_t thread) {
    const std::span row_logits(logits + r * row_stride, static_cast<std::size_t>(vocab_size));
    sampled[static_cast<std::size_t>(r)] = sample_row(row_logits, rows[static_cast<std::size_t>(r)],
                                                      scratch_[static_cast<std::size_t>(thread)]);
  });
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].target_token >= 0) continue;
    Slot& state = slot(rows[r].slot);
    // A row that failed may be planned already for the next step, whose result nobody keeps.
    state.feedback_token = std::max(sampled[r].token_id, 0);
    if (rows[r].has_penalties()) state.penalties->count_output_token(state.feedback_token);
  }
  return sampled;
}

void CpuSampler::reset_penalty_state(std::int32_t slot_index,
                                     std::span<const TokenId> prompt_tokens,
                                     std::span<const TokenId> output_tokens) {
  slot(slot_index).penalties.emplace(prompt_tokens, output_tokens);
}

TokenId CpuSampler::feedback_token(std::int32_t slot_index) const {
  LLMRUN_CHECK(slot_index >= 0 && slot_index < std::ssize(slots_));
  const TokenId token = slots_[static_cast<std::size_t>(slot_index)].feedback_token;
  LLMRUN_CHECK(token >= 0);
  return token;
}

CpuSampler::Slot& CpuSampler::slot(std::int32_t index) {
  LLMRUN_CHECK(index >= 0);
  const auto position = static_cast<std::size_t>(index);
  if (position >= slots_.size()) slots_.resize(position + 1);
  return slots_[position];
}

SampledToken CpuSampler::sample_row(std::span<const float> logits, const SamplingRow& row,
                                    SamplingScratch& scratch) const {
  SampledToken result{.token_id = -1, .is_finite = false, .logprobs = {}};
  const Peak peak = find_peak(logits);
  if (!std::isfinite(peak.logit)) return result;
  const bool samples = row.target_token < 0;
  const TokenId token = samples ? choose(logits, peak, row, scratch) : row.target_token;
  if (token < 0) return result;
  result.token_id = token;
  result.is_finite = true;
  if (row.num_logprobs >= 0) {
    result.logprobs = logprobs(logits, peak, token, row.num_logprobs, scratch);
  }
  return result;
}

CpuSampler::Peak CpuSampler::find_peak(std::span<const float> logits) const {
  // The greatest of each block first, then its place: one pass at the speed of reading.
  constexpr std::size_t kBlock = 1024;
  float greatest = kMinusInfinity;
  std::size_t block_begin = 0;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, logits.size() - begin);
    const float value = kernels_.max_value(logits.data() + begin, static_cast<std::int64_t>(count));
    if (std::isnan(value)) return {value, -1};
    if (value > greatest) {
      greatest = value;
      block_begin = begin;
    }
  }
  const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(block_begin);
  const auto place = std::find(begin, logits.end(), greatest);
  return {greatest, static_cast<TokenId>(place - logits.begin())};
}

TokenId CpuSampler::choose(std::span<const float> logits, Peak peak, const SamplingRow& row,
                           SamplingScratch& scratch) const {
  if (changes_logits(row)) {
    scratch.logits.assign(logits.begin(), logits.end());
    modify(scratch.logits, row);
    logits = scratch.logits;
    peak = find_peak(logits);
    if (!std::isfinite(peak.logit)) return -1;
  }
  return row.temperature < kSmallestTemperature ? peak.id : draw(logits, peak, row, scratch);
}

void CpuSampler::modify(std::span<float> logits, const SamplingRow& row) const {
  if (!row.allowed_token_ids.empty()) {
    // Set aside first, since the row is changed in place and an id may be named twice.
    std::vector<float> allowed;
    allowed.reserve(row.allowed_token_ids.size());
    for (const TokenId id : row.allowed_token_ids) allowed.push_back(at(logits, id));
    std::fill(logits.begin(), logits.end(), kMinusInfinity);
    for (std::size_t i = 0; i < allowed.size(); ++i) {
      at(logits, row.allowed_token_ids[i]) = allowed[i];
    }
  }
  for (const TokenId id : row.banned_token_ids) at(logits, id) = kMinusInfinity;
  for (const auto& [id, bias] : row.logit_bias) at(logits, id) += bias;
  if (row.has_penalties()) {
    LLMRUN_CHECK(row.slot >= 0 && row.slot < std::ssize(slots_));
    const auto& penalties = slots_[static_cast<std::size_t>(row.slot)].penalties;
    LLMRUN_CHECK(penalties.has_value());
    penalties->apply(logits, row);
  }
}

TokenId CpuSampler::draw(std::span<const float> logits, Peak peak, const SamplingRow& row,
                         SamplingScratch& scratch) const {
  const SoftmaxScale scale{peak.logit, row.temperature, 1.0F / row.temperature};
  float bound = kMinusInfinity;
  if (row.min_p > 0.0F) {
    const double margin =
        static_cast<double>(row.temperature) * std::log(static_cast<double>(row.min_p));
    bound = static_cast<float>(static_cast<double>(peak.logit) + margin);
  }
  if (row.top_k > 0 && row.top_k < std::ssize(logits)) {
    bound = std::max(bound, top_k_bound(kernels_, logits, row.top_k, scratch));
  }
  if (row.top_p < 1.0F) bound = top_p_bound(kernels_, logits, scale, row.top_p, bound, scratch);
  const kernels::TokenDraw token_draw{
      logits.data(), std::ssize(logits),        bound,
      scale.max,     scale.inverse_temperature, random_key(row.seed, row.position)};
  // The most likely token is a good first guess: most others cannot reach its score.
  return kernels_.draw(token_draw, {kernels::token_score(token_draw, peak.id), peak.id}).id;
}

std::vector<TokenLogprob> CpuSampler::logprobs(std::span<const float> logits, Peak peak,
                                               TokenId chosen, std::int32_t num_best,
                                               SamplingScratch& scratch) const {
  const std::int64_t vocab_size = std::ssize(logits);
  LLMRUN_CHECK(chosen < vocab_size);
  const auto logit = [&](TokenId id) { return logits[static_cast<std::size_t>(id)]; };
  const std::uint64_t weight =
      kernels_.sum_weights(nullptr, logits.data(), vocab_size, peak.logit, 1.0F);
  const double log_sum = std::log(std::ldexp(static_cast<double>(weight), -kernels::kWeightBits));
  const auto logprob = [&](TokenId id) {
    return static_cast<float>(static_cast<double>(logit(id)) - static_cast<double>(peak.logit) -
                              log_sum);
  };
  // Tokens before it in the order of the list below: greater logit, or equal logit and lower id.
  const float next_greater = std::nextafter(logit(chosen), std::numeric_limits<float>::infinity());
  const std::int64_t num_before =
      kernels_.count_at_least(logits.data(), chosen, logit(chosen)) +
      kernels_.count_at_least(logits.data() + chosen, vocab_size - chosen, next_greater);
  std::vector<TokenLogprob> result;
  result.push_back({chosen, logprob(chosen), static_cast<std::int32_t>(num_before + 1)});

  const std::int64_t count = std::min<std::int64_t>(num_best, vocab_size);
  if (count == 0) return result;
  const float bound = top_k_bound(kernels_, logits, count, scratch);
  if (std::ssize(scratch.ids) < vocab_size) scratch.ids.resize(logits.size());
  const auto best_end =
      scratch.ids.begin() +
      kernels_.collect_at_least(scratch.ids.data(), logits.data(), vocab_size, bound);
  std::partial_sort(
      scratch.ids.begin(), scratch.ids.begin() + count, best_end,
      [&](TokenId a, TokenId b) { return logit(a) > logit(b) || (logit(a) == logit(b) && a < b); });
  for (std::int32_t rank = 1; rank <= count; ++rank) {
    const TokenId id = scratch.ids[static_cast<std::size_t>(rank - 1)];
    result.push_back({id, logprob(id), rank});
  }
  return result;
}

}  // namespace llmrun
