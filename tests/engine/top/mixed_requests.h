// Requests of every kind that sampling knows, all different, for tests that compare two ways of
// running them.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/engine/top/test_engine.h"

namespace llmrun::testing {

inline SamplingParams make_mixed_params(std::int32_t kind) {
  SamplingParams params;
  params.max_tokens = 9 + kind * 5 % 23;
  params.temperature = 1.0;
  params.logprobs = kind % 3 == 0 ? std::optional<std::int32_t>(2) : std::nullopt;
  switch (kind % 14) {
    case 0: params.temperature = 0; break;
    case 1: params.seed = static_cast<std::uint64_t>(kind); break;
    case 2:
      params.presence_penalty = 1.5;
      params.frequency_penalty = 1.0;
      params.temperature = 0;
      break;
    case 3:
      params.repetition_penalty = 1.3;
      params.top_p = 0.8;
      break;
    case 4:
      params.n = 3;
      params.frequency_penalty = 0.7;
      break;
    case 5:
      params.n = 2;
      params.best_of = 4;
      params.seed = 5;
      break;
    case 6:
      params.n = 3;
      params.temperature = 0;
      params.max_tokens = 7;
      params.use_beam_search = true;
      break;
    case 7:
      params.stop = {"q", "z "};
      params.include_stop_str_in_output = kind % 2 == 0;
      break;
    case 8:
      params.bad_words = {"a", "ba", "zz", "ca"};
      params.logit_bias = {{0, 6.0F}, {25, 6.0F}, {53, 6.0F}, {28, 6.0F}};
      break;
    case 9:
      params.min_tokens = 6;
      for (TokenId id = 100; id < 130; ++id) params.stop_token_ids.push_back(id);
      break;
    case 10:
      params.ignore_eos = true;
      params.allowed_token_ids = {2, 33, 77, 100, 101, 102};
      params.top_k = 4;
      break;
    case 11:
      params.prompt_logprobs = 1;
      params.min_p = 0.3;
      break;
    case 12:
      params.prompt_logprobs = 0;
      params.n = 2;
      break;
    case 13:
      params.n = 2;
      params.temperature = 0;
      params.max_tokens = 6;
      params.ignore_eos = true;
      params.prompt_logprobs = 0;
      params.use_beam_search = true;
      break;
  }
  return params;
}

// Prompts of 1 to 90 tokens, some equal, some with a common beginning.
inline std::vector<EngineRequest> make_mixed_requests(std::int32_t count) {
  std::vector<EngineRequest> requests;
  for (std::int32_t i = 0; i < count; ++i) {
    EngineRequest request;
    const auto length = static_cast<std::size_t>(1 + i * 37 % 90);
    request.prompt_token_ids = make_prompt(static_cast<std::uint64_t>(i % 4), length);
    request.params = make_mixed_params(i);
    request.key = static_cast<std::uint64_t>(1000 + i);
    requests.push_back(std::move(request));
  }
  return requests;
}

// The outputs of requests that run one at a time, each in an engine of its own, without any cache
// or chunk.
inline std::vector<RequestOutput> run_alone(const std::vector<EngineRequest>& requests) {
  std::vector<RequestOutput> outputs;
  for (const EngineRequest& request : requests) {
    TestEngine engine({.max_num_seqs = 1, .max_num_batched_tokens = 200, .prefix_caching = false});
    outputs.push_back(engine.run(request));
  }
  return outputs;
}

}  // namespace llmrun::testing
