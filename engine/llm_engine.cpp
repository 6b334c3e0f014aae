#include "engine/llm_engine.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr std::size_t kMaxToldBlocks = 32;

// Mixes the run's seed with a request's identity (the finaliser of splitmix64, Steele et al. 2014).
std::uint64_t mix_seed(std::uint64_t seed, std::uint64_t key) {
  std::uint64_t z = seed * 0x9e3779b97f4a7c15U + key;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

// "All", and more than there are, become the size of the vocabulary.
void resolve_num_logprobs(std::optional<std::int32_t>& num_logprobs, std::int64_t vocab_size) {
  if (!num_logprobs) return;
  if (*num_logprobs == kAllLogprobs || *num_logprobs > vocab_size) {
    num_logprobs = static_cast<std::int32_t>(vocab_size);
  }
}

// So many that the answer fits the memory: an entry takes 12 bytes while the request runs, 65 in
// the output, and about 670 while that is written (measured).
constexpr std::int64_t kMaxLogprobsOfRequest = 4'000'000;

// Only what is beyond the usual limit of a position is counted: the tokens that a request may have
// bound the rest, and few of those that go without max_tokens use the whole context.
RequestError check_num_logprobs(const RequestState& request) {
  const SamplingParams& params = request.params;
  const std::int32_t most =
      std::max(params.logprobs.value_or(0), params.prompt_logprobs.value_or(0));
  if (most <= SamplingLimits{}.max_logprobs) return {};
  const std::int64_t num_prompt_tokens = std::ssize(request.prompt_token_ids);
  const std::int64_t num_output_tokens = request.max_output_tokens * params.num_sequences();
  const std::int64_t count = num_prompt_tokens * params.prompt_logprobs.value_or(0) +
                             num_output_tokens * params.logprobs.value_or(0);
  if (count <= kMaxLogprobsOfRequest) return {};
  return {"bad_parameter",
          fmt::format("logprobs ({}) for {} output tokens and prompt_logprobs ({}) for {} prompt "
                      "tokens can be {} log-probabilities; a request may ask for {}: give a "
                      "smaller max_tokens, or ask for fewer",
                      params.logprobs.value_or(0), num_output_tokens,
                      params.prompt_logprobs.value_or(0), num_prompt_tokens, count,
                      kMaxLogprobsOfRequest)};
}

}  // namespace

LlmEngine::LlmEngine(Parts parts, const Options& options)
    : parts_(std::move(parts)), options_(options), start_(std::chrono::steady_clock::now()) {}

LlmEngine::~LlmEngine() {
  while (parts_.runner != nullptr && parts_.runner->num_steps_in_flight() > 0) {
    try {
      parts_.runner->collect();
    } catch (const std::exception&) {
      return;  // the device failed; nothing more can be waited for
    }
  }
}

double LlmEngine::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

RequestId LlmEngine::add_request(EngineRequest request) {
  auto state = std::make_shared<RequestState>();
  state->id = next_request_id_++;
  state->timings.arrived = request.arrived_s > 0 ? request.arrived_s : now();
  state->params = std::move(request.params);
  state->prompt_token_ids = std::move(request.prompt_token_ids);
  requests_.emplace(state->id, state);

  if (const RequestError error = check(*state); !error.empty()) {
    fail_request(*state, error);
    return state->id;
  }
  const SamplingParams& params = state->params;
  state->seed = params.seed ? *params.seed : mix_seed(options_.seed, request.key);
  state->cache_salt = request.cache_salt;
  state->streams = request.streams && !params.use_beam_search && params.num_sequences() == params.n;
  state->num_logprobs = num_sampled_logprobs(params);
  if (params.min_tokens > 0) {
    state->min_tokens_banned_ids = params.stop_token_ids;
    state->min_tokens_banned_ids.insert(state->min_tokens_banned_ids.end(),
                                        options_.eos_token_ids.begin(),
                                        options_.eos_token_ids.end());
  }
  if (!params.bad_words.empty()) {
    state->bad_words.emplace(params.bad_words, *parts_.tokenizer, options_.vocab_size);
  }
  if (params.prompt_logprobs) {
    state->prompt_logprobs.resize(state->prompt_token_ids.size());
  }
  if (params.use_beam_search) {
    start_beam_search(state);
  } else {
    add_samples(state);
  }
  return state->id;
}

RequestError LlmEngine::check(RequestState& request) const {
  const auto num_prompt_tokens = static_cast<std::int64_t>(request.prompt_token_ids.size());
  const SamplingParams& params = request.params;
  if (num_prompt_tokens == 0) return {"empty_prompt", "the prompt has no tokens"};
  for (const TokenId id : request.prompt_token_ids) {
    if (id < 0 || id >= options_.vocab_size) {
      return {"bad_token_id",
              fmt::format("prompt token id {} is not in the vocabulary of {} tokens", id,
                          options_.vocab_size)};
    }
  }
  if (const auto problem = validate(params, sampling_limits())) {
    return {"bad_parameter", *problem};
  }
  if (parts_.tokenizer == nullptr && (!params.stop.empty() || !params.bad_words.empty())) {
    return {"bad_parameter",
            "stop and bad_words need a tokenizer, and this model was loaded without"};
  }
  const std::int64_t room = options_.max_model_len - num_prompt_tokens;
  if (room < 1) {
    return {"too_long", fmt::format("the prompt has {}; with at least one output token that is "
                                    "more than --max-model-len {}",
                                    counted(num_prompt_tokens, "token"), options_.max_model_len)};
  }
  request.max_output_tokens = std::min<std::int64_t>(
      room, params.max_tokens.value_or(std::numeric_limits<std::int32_t>::max()));
  if (!parts_.scheduler->can_ever_fit(num_prompt_tokens + request.max_output_tokens)) {
    return {"too_long",
            fmt::format(
                "prompt ({}) and max_tokens ({}) need {} tokens of KV cache; the pool holds {}",
                num_prompt_tokens, request.max_output_tokens,
                num_prompt_tokens + request.max_output_tokens, parts_.kv_cache->capacity_tokens())};
  }
  resolve_num_logprobs(request.params.logprobs, options_.vocab_size);
  resolve_num_logprobs(request.params.prompt_logprobs, options_.vocab_size);
  return check_num_logprobs(request);
}

void LlmEngine::add_samples(const std::shared_ptr<RequestState>& request) {
  const SamplingParams& params = request->params;
  request->num_unfinished_samples = params.num_sequences();
  const Sequence* leader = nullptr;
  for (std::int32_t index = 0; index < params.num_sequences(); ++index) {
    Sample& sample =
        add_sample(request,
                   {.id = 0,
                    .prompt_token_ids = request->prompt_token_ids,
                    .max_output_tokens = request->max_output_tokens,
                    .needs_host_tokens = request->bad_words.has_value(),
                    .needs_all_prompt_logits = params.prompt_logprobs.has_value() && index == 0,
                    .cache_salt = request->cache_salt,
                    .prompt_leader = leader},
                   index);
    if (leader == nullptr) leader = &sample.sequence;
  }
}

Sample& LlmEngine::add_sample(const std::shared_ptr<RequestState>& request,
                              Sequence::Options sequence_options, std::int32_t index) {
  sequence_options.id = next_sequence_id_++;
  const SequenceId id = sequence_options.id;
  const auto max_output_tokens = sequence_options.max_output_tokens;
  auto sample =
      std::make_unique<Sample>(request, std::move(sequence_options), index,
                               OutputProcessor(parts_.tokenizer.get(), request->params,
                                               options_.eos_token_ids, index, max_output_tokens));
  Sample& result = *sample;
  if (records_token_times_) {
    result.token_times_s.reserve(static_cast<std::size_t>(max_output_tokens));
  }
  samples_.emplace(id, std::move(sample));
  request->samples.push_back(&result);
  parts_.scheduler->add(result.sequence);
  return result;
}

// --- beam search: each round gives every running beam one token, as a request of its own ---

void LlmEngine::start_beam_search(const std::shared_ptr<RequestState>& request) {
  const SamplingParams& params = request->params;
  BeamSearch::Options options{
      .width = params.n,
      .num_prompt_tokens = static_cast<std::int64_t>(request->prompt_token_ids.size()),
      .max_output_tokens = request->max_output_tokens,
      .length_penalty = params.length_penalty,
      .early_stopping = params.early_stopping,
      .end_token_ids = params.stop_token_ids,
      .num_logprobs = params.logprobs.value_or(0)};
  if (!params.ignore_eos) {
    options.end_token_ids.insert(options.end_token_ids.end(), options_.eos_token_ids.begin(),
                                 options_.eos_token_ids.end());
  }
  request->beam_search.emplace(std::move(options));
  request->num_logprobs = request->beam_search->num_candidates();
  add_beam_round(request);
}

// A beam's sequence is its prompt and its tokens so far; what it shares with its parent comes from
// the prefix cache, so that a round computes at most a block for each beam.
void LlmEngine::add_beam_round(const std::shared_ptr<RequestState>& request) {
  const std::vector<BeamSearch::Beam>& beams = request->beam_search->running();
  request->samples.clear();
  request->beam_candidates.assign(beams.size(), {});
  request->num_unfinished_samples = static_cast<std::int32_t>(beams.size());
  for (std::size_t i = 0; i < beams.size(); ++i) {
    std::vector<TokenId> tokens = request->prompt_token_ids;
    const std::vector<TokenId> output = beams[i].token_ids();
    tokens.insert(tokens.end(), output.begin(), output.end());
    add_sample(request,
               {.id = 0,
                .prompt_token_ids = std::move(tokens),
                .max_output_tokens = 1,
                .needs_all_prompt_logits = request->params.prompt_logprobs && output.empty(),
                .cache_salt = request->cache_salt},
               static_cast<std::int32_t>(i));
  }
}

void LlmEngine::finish_beam(Sample& sample, const SampledToken& sampled) {
  const std::shared_ptr<RequestState> request = sample.request;
  // The first entry is the chosen token's; the best follow.
  request->beam_candidates[static_cast<std::size_t>(sample.index)].assign(
      sampled.logprobs.begin() + 1, sampled.logprobs.end());
  end_sample(sample);
  if (--request->num_unfinished_samples > 0) return;
  request->beam_search->advance(request->beam_candidates);
  if (!request->beam_search->is_finished()) {
    add_beam_round(request);
    return;
  }
  collect_beams(*request);
  finish_request(*request);
}

void LlmEngine::collect_beams(RequestState& request) {
  request.num_output_tokens = 0;
  std::int32_t index = 0;
  for (const BeamSearch::Beam& beam : request.beam_search->best()) {
    OutputProcessor processor(parts_.tokenizer.get(), request.params, options_.eos_token_ids,
                              index++, request.max_output_tokens);
    FinishReason reason = FinishReason::kNone;
    for (const BeamSearch::Token& token : beam.tokens) {
      SampledToken sampled{
          .token_id = token.chosen.token_id, .is_finite = true, .logprobs = {token.chosen}};
      if (token.likeliest != nullptr) {
        sampled.logprobs.insert(sampled.logprobs.end(), token.likeliest->begin(),
                                token.likeliest->end());
      }
      reason = processor.append(sampled);
    }
    request.num_output_tokens += static_cast<std::int64_t>(beam.tokens.size());
    request.finished_outputs.push_back(
        reason == FinishReason::kNone ? processor.finish(FinishReason::kAbort) : processor.take());
  }
}

void LlmEngine::abort(RequestId id) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return;
  RequestState& request = *found->second;
  for (Sample* sample : std::exchange(request.samples, {})) {
    if (!request.beam_search) {
      request.finished_outputs.push_back(sample->output_processor.finish(FinishReason::kAbort));
    }
    end_sample(*sample);
  }
  if (request.beam_search) collect_beams(request);
  finish_request(request);
  destroy_ended_samples();
}

void LlmEngine::abort_all() {
  std::vector<RequestId> ids;
  for (const auto& [id, request] : requests_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const RequestId id : ids) abort(id);
}

// One that throws does not end: nothing is done after it.
void LlmEngine::step() {
  progress_.begin();
  plan_and_finish();
  progress_.end();
}

StepProgress::State LlmEngine::progress() const {
  StepProgress::State state = progress_.state();
  state.work = parts_.backend->progress();
  return state;
}

void LlmEngine::plan_and_finish() {
  ScheduledBatch batch = parts_.scheduler->schedule();
  const bool planned = !batch.empty();
  if (planned) submit(std::move(batch));
  const auto in_flight = static_cast<std::int32_t>(in_flight_.size());
  if (in_flight > options_.steps_ahead || (in_flight > 0 && !planned)) {
    finish_oldest_step();
  } else if (!planned && !requests_.empty()) {
    throw Error(ErrorKind::kInternal, "the scheduler planned nothing while requests are waiting");
  }
  destroy_ended_samples();
}

void LlmEngine::submit(ScheduledBatch batch) {
  plans_.clear();
  const double now_s = now();
  for (const ScheduledSequence& scheduled : batch.sequences) {
    Sample& sample = *samples_.at(scheduled.sequence->id());
    RequestTimings& timings = sample.request->timings;
    if (timings.first_scheduled == 0) timings.first_scheduled = now_s;
    plans_.push_back(sample.plan());
  }
  if (step_listener_) record_submitted(batch, now_s);
  parts_.runner->submit(batch, plans_);
  stats_.num_steps += 1;
  stats_.num_batched_tokens += batch.num_tokens;
  stats_.num_padding_tokens += batch.num_padding_tokens;
  in_flight_.push_back(std::move(batch));
}

void LlmEngine::finish_oldest_step() {
  const ScheduledBatch batch = std::move(in_flight_.front());
  in_flight_.pop_front();
  std::vector<SequenceOutput> outputs = parts_.runner->collect();
  const double now_s = now();
  stats_.num_padding_tokens += parts_.backend->last_step_timing().num_padding_rows;
  if (step_listener_) record_collected(now_s);
  parts_.scheduler->retire(batch);
  for (std::size_t i = 0; i < batch.sequences.size(); ++i) {
    finish_scheduled(batch.sequences[i], outputs[i], now_s);
  }
}

void LlmEngine::record_submitted(const ScheduledBatch& batch, double now_s) {
  StepRecord record = describe_step(batch);
  const SchedulerStats scheduler = parts_.scheduler->stats();
  record.num_running_sequences = scheduler.num_running;
  record.num_waiting_sequences = scheduler.num_waiting;
  record.kv_blocks_used = parts_.kv_cache->stats().num_used_blocks;
  record.submitted_s = now_s;
  open_steps_.push_back(record);
}

void LlmEngine::record_collected(double now_s) {
  StepRecord record = open_steps_.front();
  open_steps_.pop_front();
  const StepTiming timing = parts_.backend->last_step_timing();
  record.collected_s = now_s;
  record.device_busy_s = timing.busy_seconds;
  record.device_idle_s = timing.idle_seconds;
  record.replayed_graph = timing.replayed_graph;
  record.num_padding_tokens += timing.num_padding_rows;
  step_listener_(record);
}

void LlmEngine::finish_scheduled(const ScheduledSequence& scheduled, const SequenceOutput& output,
                                 double now_s) {
  Sample& sample = *samples_.at(scheduled.sequence->id());
  if (sample.ended) {
    stats_.num_wasted_tokens += scheduled.num_new_tokens;
    return;
  }
  RequestState& request = *sample.request;
  if (!output.is_finite) {
    fail_request(request,
                 {"numeric", fmt::format("the model's logits for token {} of sample {} are not "
                                         "finite, or the parameters ban every token",
                                         sample.sequence.num_output_tokens(), sample.index)});
    return;
  }
  for (const SequenceOutput::PromptLogprob& rated : output.prompt_logprobs) {
    request.prompt_logprobs[static_cast<std::size_t>(rated.position)] =
        to_token_logprobs(rated.logprobs);
  }
  if (!scheduled.samples) return;
  sample.sequence.resolve_pending(output.sampled.token_id);
  stats_.num_output_tokens += 1;
  request.num_output_tokens += 1;
  if (records_token_times_) sample.token_times_s.push_back(now_s);
  if (request.timings.first_token == 0) {
    request.timings.first_token = now_s;
    request.num_cached_tokens = sample.sequence.num_cached_tokens;
  }
  if (request.beam_search) {
    finish_beam(sample, output.sampled);
    return;
  }
  const FinishReason reason = sample.output_processor.append(output.sampled);
  if (request.streams) deltas_.push_back(sample.take_delta(now_s));
  if (reason != FinishReason::kNone) finish_sample(sample);
}

void LlmEngine::finish_sample(Sample& sample) {
  RequestState& request = *sample.request;
  request.finished_outputs.push_back(sample.output_processor.take());
  request.finished_outputs.back().token_times_s = std::move(sample.token_times_s);
  end_sample(sample);
  if (--request.num_unfinished_samples == 0) finish_request(request);
}

void LlmEngine::end_sample(Sample& sample) {
  sample.ended = true;
  std::erase(sample.request->samples, &sample);
  sample.sequence.drop_pending();
  parts_.scheduler->finish(sample.sequence);
  ended_samples_.push_back(sample.sequence.id());
}

void LlmEngine::fail_request(RequestState& request, const RequestError& error) {
  for (Sample* sample : std::exchange(request.samples, {})) {
    end_sample(*sample);
  }
  request.finished_outputs.clear();
  request.error = error;
  stats_.num_requests_failed += 1;
  finish_request(request);
}

void LlmEngine::finish_request(RequestState& request) {
  request.timings.finished = now();
  stats_.num_requests_finished += 1;
  stats_.num_prompt_tokens += static_cast<std::int64_t>(request.prompt_token_ids.size());
  outputs_.push_back(make_request_output(request));
  requests_.erase(request.id);
}

void LlmEngine::destroy_ended_samples() {
  std::erase_if(ended_samples_, [this](SequenceId id) {
    const auto found = samples_.find(id);
    const Sample& sample = *found->second;
    if (sample.sequence.num_steps_in_flight > 0) return false;
    // The samples of a prompt look at their leader until the last of them has ended.
    if (!sample.request->beam_search && requests_.contains(sample.request->id)) return false;
    samples_.erase(found);
    return true;
  });
}

std::vector<TokenDelta> LlmEngine::take_deltas() {
  return std::exchange(deltas_, {});
}

std::vector<RequestOutput> LlmEngine::take_outputs() {
  return std::exchange(outputs_, {});
}

void LlmEngine::record_steps(StepListener listener) {
  LLMRUN_CHECK(!has_unfinished());
  step_listener_ = std::move(listener);
}

void LlmEngine::record_token_times(bool enabled) {
  LLMRUN_CHECK(!has_unfinished());
  records_token_times_ = enabled;
}

void LlmEngine::reset_prefix_cache() {
  LLMRUN_CHECK(!has_unfinished());
  parts_.kv_cache->flush();
}

DeviceLimits LlmEngine::measure_limits(DType weight_dtype) {
  LLMRUN_CHECK(!has_unfinished());
  return parts_.backend->measure_limits(weight_dtype);
}

// Asked for whenever the engine has become idle: the lists are made only if the counts are wrong.
std::optional<std::string> LlmEngine::find_leak() const {
  LLMRUN_CHECK(!has_unfinished());
  const SchedulerStats scheduler = parts_.scheduler->stats();
  if (const auto count = scheduler.num_running + scheduler.num_waiting; count > 0) {
    return fmt::format("{} sequences are scheduled, though no request is unfinished", count);
  }
  const KvCacheManager& kv_cache = *parts_.kv_cache;
  if (kv_cache.stats().num_used_blocks == 0) return std::nullopt;
  const std::vector<BlockId> blocks = kv_cache.used_blocks();
  return fmt::format(
      "{} of {} KV cache blocks belong to no request: {}{}", blocks.size(),
      kv_cache.num_usable_blocks(),
      fmt::join(std::span(blocks).first(std::min(kMaxToldBlocks, blocks.size())), ", "),
      blocks.size() > kMaxToldBlocks ? ", ..." : "");
}

EngineStats LlmEngine::stats() const {
  EngineStats stats = stats_;
  const SchedulerStats scheduler = parts_.scheduler->stats();
  stats.num_sequences_running = scheduler.num_running;
  stats.num_sequences_waiting = scheduler.num_waiting;
  stats.num_preemptions = scheduler.num_preemptions;
  stats.num_recomputed_tokens = scheduler.num_recomputed_tokens;
  const KvCacheStats kv_cache = parts_.kv_cache->stats();
  stats.kv_blocks_total = kv_cache.num_total_blocks;
  stats.kv_blocks_used = kv_cache.num_used_blocks;
  stats.kv_blocks_peak = kv_cache.peak_used_blocks;
  stats.prefix_query_tokens = kv_cache.num_queried_tokens;
  stats.prefix_hit_tokens = kv_cache.num_hit_tokens;
  return stats;
}

}  // namespace llmrun
