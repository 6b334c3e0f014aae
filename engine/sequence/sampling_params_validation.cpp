// validate(): the ranges of sampling parameters. Reading and writing them is in
// sampling_params.cpp.
#include <cmath>
#include <cstddef>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "engine/core/utf8.h"
#include "engine/sequence/sampling_params.h"

namespace llmrun {
namespace {

using Problem = std::optional<std::string>;

constexpr std::size_t kMaxStopBytesInAll = 4096;  // S07
constexpr std::size_t kMaxBadWords = 1024;
constexpr double kGreedyTemperature = 1e-5;  // below it, decoding is greedy

template <typename Number>
Problem check_range(std::string_view name, Number value, Number min, Number max) {
  if (value >= min && value <= max) return std::nullopt;  // NaN is in no range
  return fmt::format("{} must be between {} and {}, got {}", name, min, max, value);
}

// The first that is a problem.
Problem first_of(std::initializer_list<Problem> problems) {
  for (const Problem& problem : problems) {
    if (problem) return problem;
  }
  return std::nullopt;
}

Problem check_counts(const SamplingParams& p, const SamplingLimits& limits) {
  if (Problem problem = check_range("n", p.n, 1, limits.max_sequences)) return problem;
  if (p.best_of) {
    if (Problem problem = check_range("best_of", *p.best_of, 1, limits.max_sequences)) {
      return problem;
    }
    if (*p.best_of < p.n) {
      return fmt::format("best_of must be at least n ({}), got {}", p.n, *p.best_of);
    }
  }
  if (p.num_sequences() > 1 && p.temperature < kGreedyTemperature && !p.use_beam_search) {
    return fmt::format("{} must be 1 when temperature is 0, got {}: all samples would be the same",
                       p.best_of ? "best_of" : "n", p.num_sequences());
  }
  if (p.min_tokens < 0) return fmt::format("min_tokens must be at least 0, got {}", p.min_tokens);
  if (!p.max_tokens) return std::nullopt;
  if (*p.max_tokens < 1) return fmt::format("max_tokens must be at least 1, got {}", *p.max_tokens);
  if (p.min_tokens > *p.max_tokens) {
    return fmt::format("min_tokens must be at most max_tokens ({}), got {}", *p.max_tokens,
                       p.min_tokens);
  }
  if (std::int64_t{p.num_sequences()} * *p.max_tokens > kMaxTokensOfAllSamples) {
    return fmt::format("{} times max_tokens must be at most {}, got {} times {}",
                       p.best_of ? "best_of" : "n", kMaxTokensOfAllSamples, p.num_sequences(),
                       *p.max_tokens);
  }
  return std::nullopt;
}

Problem check_numbers(const SamplingParams& p) {
  if (!(p.top_p > 0 && p.top_p <= 1)) {
    return fmt::format("top_p must be greater than 0 and at most 1, got {}", p.top_p);
  }
  if (p.top_k < -1) return fmt::format("top_k must be -1, 0 or a count, got {}", p.top_k);
  return first_of({
      check_range("temperature", p.temperature, 0.0, 100.0),
      check_range("min_p", p.min_p, 0.0, 1.0),
      check_range("presence_penalty", p.presence_penalty, -2.0, 2.0),
      check_range("frequency_penalty", p.frequency_penalty, -2.0, 2.0),
      check_range("repetition_penalty", p.repetition_penalty, 0.01, 100.0),
      check_range("length_penalty", p.length_penalty, -10.0, 10.0),
  });
}

Problem check_token_id(std::string_view name, TokenId id, const SamplingLimits& limits) {
  if (id < 0) return fmt::format("{} must hold token ids of at least 0, got {}", name, id);
  if (limits.vocab_size > 0 && id >= limits.vocab_size) {
    return fmt::format("{} must hold token ids below the vocabulary size {}, got {}", name,
                       limits.vocab_size, id);
  }
  return std::nullopt;
}

Problem check_token_ids(const SamplingParams& p, const SamplingLimits& limits) {
  if (std::ssize(p.logit_bias) > limits.max_logit_biases) {
    return fmt::format("logit_bias must have at most {} entries, got {}", limits.max_logit_biases,
                       p.logit_bias.size());
  }
  for (const auto& [id, bias] : p.logit_bias) {
    if (Problem problem = check_token_id("logit_bias", id, limits)) return problem;
    if (Problem problem = check_range("logit_bias", bias, -100.0F, 100.0F)) return problem;
  }
  for (const TokenId id : p.stop_token_ids) {
    if (Problem problem = check_token_id("stop_token_ids", id, limits)) return problem;
  }
  for (const TokenId id : p.allowed_token_ids) {
    if (Problem problem = check_token_id("allowed_token_ids", id, limits)) return problem;
  }
  return std::nullopt;
}

Problem check_strings(std::string_view name, std::span<const std::string> strings,
                      std::int32_t max_bytes) {
  for (const std::string& text : strings) {
    if (text.empty()) return fmt::format("{} must not hold an empty string", name);
    if (std::ssize(text) > max_bytes) {
      return fmt::format("{} must hold strings of at most {} bytes, got one of {}", name, max_bytes,
                         text.size());
    }
    if (!is_valid_utf8(text)) return fmt::format("{} must hold valid UTF-8", name);
  }
  return std::nullopt;
}

Problem check_texts(const SamplingParams& p, const SamplingLimits& limits) {
  if (std::ssize(p.stop) > limits.max_stop_strings) {
    return fmt::format("stop must have at most {} strings, got {}", limits.max_stop_strings,
                       p.stop.size());
  }
  std::size_t stop_bytes = 0;
  for (const std::string& stop : p.stop) stop_bytes += stop.size();
  if (stop_bytes > kMaxStopBytesInAll) {
    return fmt::format("stop must have at most {} bytes in all, got {}", kMaxStopBytesInAll,
                       stop_bytes);
  }
  if (!p.stop.empty() && !p.detokenize) {
    return "stop needs detokenize: without text there is nothing to find it in";
  }
  if (p.bad_words.size() > kMaxBadWords) {
    return fmt::format("bad_words must have at most {} strings, got {}", kMaxBadWords,
                       p.bad_words.size());
  }
  return first_of({check_strings("stop", p.stop, limits.max_stop_bytes),
                   check_strings("bad_words", p.bad_words, limits.max_stop_bytes)});
}

Problem check_num_logprobs(std::string_view name, std::int32_t count,
                           const SamplingLimits& limits) {
  if (count < kAllLogprobs) {
    return fmt::format("{} must be a count or -1 for all of the vocabulary, got {}", name, count);
  }
  if (limits.max_logprobs == kAllLogprobs) return std::nullopt;
  const bool are_all = count == kAllLogprobs;
  const bool fit = are_all ? limits.vocab_size > 0 && limits.vocab_size <= limits.max_logprobs
                           : count <= limits.max_logprobs;
  if (fit) return std::nullopt;
  return fmt::format("{} must be at most {}, got {}{}; raise --max-logprobs", name,
                     limits.max_logprobs, count, are_all ? " for all of the vocabulary" : "");
}

Problem check_logprobs(const SamplingParams& p, const SamplingLimits& limits) {
  return first_of({check_num_logprobs("logprobs", p.logprobs.value_or(0), limits),
                   check_num_logprobs("prompt_logprobs", p.prompt_logprobs.value_or(0), limits)});
}

// Beams are ranked by the model's own probabilities: what changes or filters them has no meaning
// there, and is refused rather than ignored.
Problem check_beam_search(const SamplingParams& p) {
  if (!p.use_beam_search) return std::nullopt;
  if (p.temperature != 0) {
    return fmt::format("temperature must be 0 with use_beam_search, got {}", p.temperature);
  }
  const SamplingParams defaults;
  const auto refuse = [](std::string_view name, bool is_set) -> Problem {
    if (!is_set) return std::nullopt;
    return fmt::format("{} cannot be used with use_beam_search", name);
  };
  return first_of({
      refuse("best_of", p.best_of.has_value()),
      refuse("top_p", p.top_p != defaults.top_p),
      refuse("top_k", p.top_k > 0),
      refuse("min_p", p.min_p != defaults.min_p),
      refuse("presence_penalty", p.presence_penalty != defaults.presence_penalty),
      refuse("frequency_penalty", p.frequency_penalty != defaults.frequency_penalty),
      refuse("repetition_penalty", p.repetition_penalty != defaults.repetition_penalty),
      refuse("min_tokens", p.min_tokens > 0),
      refuse("stop", !p.stop.empty()),
      refuse("logit_bias", !p.logit_bias.empty()),
      refuse("allowed_token_ids", !p.allowed_token_ids.empty()),
      refuse("bad_words", !p.bad_words.empty()),
  });
}

}  // namespace

std::optional<std::string> validate(const SamplingParams& params, const SamplingLimits& limits) {
  return first_of({check_counts(params, limits), check_numbers(params),
                   check_token_ids(params, limits), check_texts(params, limits),
                   check_logprobs(params, limits), check_beam_search(params)});
}

}  // namespace llmrun
