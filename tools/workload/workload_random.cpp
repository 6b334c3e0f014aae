#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/random.h"
#include "tools/workload/workload_sources.h"

namespace llmrun {
namespace {

constexpr std::int32_t kDefaultOutputLen = 128;

// Streams of one seed, so that lengths, prefixes and prompts do not depend on each other.
constexpr std::uint64_t kPromptStream = 0;
constexpr std::uint64_t kInputLenStream = std::uint64_t{1} << 60;
constexpr std::uint64_t kOutputLenStream = std::uint64_t{2} << 60;
constexpr std::uint64_t kPrefixStream = std::uint64_t{3} << 60;

// Means of ShareGPT conversations as served by the vLLM paper: Kwon et al. 2023,
// https://arxiv.org/abs/2309.06180, section 6.1.
constexpr double kShareGptMeanInput = 161.31;
constexpr double kShareGptMeanOutput = 337.99;

std::int32_t output_len_or_default(const WorkloadOptions& options) {
  return options.output_len > 0 ? options.output_len : kDefaultOutputLen;
}

// In [0, bound). REQUIRES: bound <= 2^32.
std::uint64_t uniform_below(std::uint64_t bits, std::uint64_t bound) {
  return ((bits >> 32) * bound) >> 32;
}

// In [0, 1).
double uniform_unit(std::uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

std::int32_t spread_length(std::int32_t length, double ratio, std::uint64_t seed,
                           std::uint64_t stream) {
  const auto low = std::max(1.0, std::floor(length * (1 - ratio)));
  const auto high = std::ceil(length * (1 + ratio));
  const auto offset =
      uniform_below(derive_seed(seed, stream), static_cast<std::uint64_t>(high - low) + 1);
  return static_cast<std::int32_t>(low) + static_cast<std::int32_t>(offset);
}

}  // namespace

std::vector<TokenId> random_token_ids(std::uint64_t seed, std::uint64_t stream, std::int64_t length,
                                      std::int64_t vocab_size) {
  const std::uint64_t key = derive_seed(seed, stream);
  std::vector<TokenId> ids;
  ids.reserve(static_cast<std::size_t>(length));
  for (std::int64_t i = 0; i < length; ++i) {
    const std::uint64_t bits = mix64(key + static_cast<std::uint64_t>(i));
    ids.push_back(
        static_cast<TokenId>(uniform_below(bits, static_cast<std::uint64_t>(vocab_size))));
  }
  return ids;
}

std::vector<std::int32_t> exponential_lengths(std::uint64_t seed, std::uint64_t stream,
                                              std::int32_t count, double mean, std::int32_t low,
                                              std::int32_t high) {
  std::vector<double> variates;
  variates.reserve(static_cast<std::size_t>(count));
  for (std::int32_t i = 0; i < count; ++i) {
    const std::uint64_t bits = derive_seed(seed, stream + static_cast<std::uint64_t>(i));
    variates.push_back(-std::log1p(-uniform_unit(bits)));
  }
  // A few rounds bring the mean of the cut lengths to the one asked for.
  constexpr int kRounds = 40;
  double scale = mean;
  std::vector<double> lengths(variates.size());
  for (int round = 0; round < kRounds; ++round) {
    double sum = 0;
    for (std::size_t i = 0; i < variates.size(); ++i) {
      lengths[i] =
          std::clamp(scale * variates[i], static_cast<double>(low), static_cast<double>(high));
      sum += lengths[i];
    }
    if (round + 1 < kRounds) scale *= mean * static_cast<double>(count) / sum;
  }
  std::vector<std::int32_t> rounded;
  rounded.reserve(lengths.size());
  for (const double length : lengths)
    rounded.push_back(static_cast<std::int32_t>(std::lround(length)));
  return rounded;
}

void append_random(const WorkloadOptions& options, const WorkloadModel& model, Workload& workload) {
  const double ratio = options.random_range_ratio;
  const std::int32_t output_len = output_len_or_default(options);
  workload.description =
      ratio == 0 ? fmt::format("random token ids, {} in, {} out", options.input_len, output_len)
                 : fmt::format(
                       "random token ids, {} in and {} out, uniform within a factor of "
                       "1 +- {}",
                       options.input_len, output_len, ratio);
  for (std::int32_t i = 0; i < options.num_prompts; ++i) {
    const auto index = static_cast<std::uint64_t>(i);
    const std::int32_t length =
        spread_length(options.input_len, ratio, workload.seed, kInputLenStream + index);
    workload.requests.push_back(
        {random_token_ids(workload.seed, kPromptStream + index, length, model.vocab_size),
         spread_length(output_len, ratio, workload.seed, kOutputLenStream + index), i});
  }
}

void append_prefix_repetition(const WorkloadOptions& options, const WorkloadModel& model,
                              Workload& workload) {
  const std::int32_t output_len = output_len_or_default(options);
  workload.description = fmt::format(
      "random token ids, {} of {}, {} of their own, {} out",
      counted(options.num_prefixes, "shared prefix", "shared prefixes"),
      counted(options.prefix_len, "token"), counted(options.suffix_len, "token"), output_len);
  for (std::int32_t i = 0; i < options.num_prompts; ++i) {
    const auto prefix = static_cast<std::uint64_t>(i % options.num_prefixes);
    std::vector<TokenId> ids = random_token_ids(workload.seed, kPrefixStream + prefix,
                                                options.prefix_len, model.vocab_size);
    const std::vector<TokenId> suffix =
        random_token_ids(workload.seed, kPromptStream + static_cast<std::uint64_t>(i),
                         options.suffix_len, model.vocab_size);
    ids.insert(ids.end(), suffix.begin(), suffix.end());
    workload.requests.push_back({std::move(ids), output_len, i});
  }
}

void append_lengths(const WorkloadOptions& options, const WorkloadModel& model,
                    Workload& workload) {
  constexpr std::int32_t kMinLen = 4;
  constexpr std::int32_t kMaxInput = 1024;
  constexpr std::int32_t kMaxOutput = 2048;
  constexpr std::int32_t kSmallestModelLen = 256;
  if (model.max_model_len < kSmallestModelLen) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--dataset-name lengths needs a --max-model-len of {} or more, got {}",
                            kSmallestModelLen, model.max_model_len));
  }
  // A model with a shorter context gets shorter requests of the same shape.
  const double scale =
      std::min(1.0, static_cast<double>(model.max_model_len) / (kMaxInput + kMaxOutput));
  const double mean_input = kShareGptMeanInput * scale;
  const double mean_output = kShareGptMeanOutput * scale;
  const auto max_input = static_cast<std::int32_t>(kMaxInput * scale);
  const auto max_output = static_cast<std::int32_t>(kMaxOutput * scale);
  workload.description = fmt::format(
      "random token ids; exponential lengths (an assumption) with the means of ShareGPT in Kwon et "
      "al. 2023 (vLLM), {} in and {} out{}, cut at {} to {} in and {} out",
      kShareGptMeanInput, kShareGptMeanOutput,
      scale < 1
          ? fmt::format(", all times {:.3f} for --max-model-len {}", scale, model.max_model_len)
          : "",
      kMinLen, max_input, max_output);
  const std::vector<std::int32_t> inputs = exponential_lengths(
      workload.seed, kInputLenStream, options.num_prompts, mean_input, kMinLen, max_input);
  const std::vector<std::int32_t> outputs = exponential_lengths(
      workload.seed, kOutputLenStream, options.num_prompts, mean_output, kMinLen, max_output);
  for (std::int32_t i = 0; i < options.num_prompts; ++i) {
    const auto index = static_cast<std::size_t>(i);
    workload.requests.push_back(
        {random_token_ids(workload.seed, kPromptStream + index, inputs[index], model.vocab_size),
         options.output_len > 0 ? options.output_len : outputs[index], i});
  }
}

}  // namespace llmrun
