#include "engine/backend/cuda/cuda_sampling.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/hopper.h"

namespace llmrun {
namespace {

using kernels::check_cuda;
using kernels::SamplingEdit;
using kernels::SamplingEntry;
using kernels::SamplingKind;
using kernels::SamplingRowParams;
using kernels::SamplingRowResult;
using kernels::SamplingWorkspace;

// Below this a temperature means greedy, as in vLLM and on the CPU.
constexpr float kSmallestTemperature = 1e-5F;

// Rows with masks, biases or penalties are copied and changed this many at a time.
constexpr std::int32_t kMaxModifiedRows = 32;
constexpr std::size_t kNumFlights = 4;           // made at the start
constexpr std::size_t kUsualEdits = 4096;        // of a batch
constexpr std::size_t kUsualEntriesPerRow = 20;  // best tokens
constexpr std::size_t kMaxListsPerRow = 6;       // of row indices, in a plan

// Divides one block of memory among arrays.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<std::byte*>(base)) {}
  template <typename T>
  T* take(std::int64_t count) {
    constexpr std::size_t kAlignment = 256;
    const std::size_t offset = num_bytes_;
    num_bytes_ +=
        (static_cast<std::size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset);
  }
  std::size_t num_bytes() const { return num_bytes_; }

 private:
  std::byte* base_;
  std::size_t num_bytes_ = 0;
};

struct Workspace {
  SamplingWorkspace arrays;
  std::size_t num_bytes;
};

Workspace carve_workspace(void* base, const CudaSampler::Options& options) {
  Carver carver(base);
  const std::int64_t rows = options.max_num_rows;
  SamplingWorkspace w{};
  w.states = carver.take<kernels::SamplingRowState>(rows);
  w.partials = carver.take<std::uint64_t>(rows * kernels::kSamplingMaxSplits);
  w.draw_partials = carver.take<std::uint64_t>(rows * kernels::kSamplingMaxSplits);
  w.partial_counts = carver.take<std::uint32_t>(rows * kernels::kSamplingMaxSplits);
  w.group_maxima = carver.take<float>(rows * kernels::kSamplingMaxGroups);
  w.block_counters = carver.take<std::uint32_t>(rows);
  w.list_counts = carver.take<std::uint32_t>(rows);
  w.lists = carver.take<std::int32_t>(rows * kernels::kSamplingListSize);
  w.histogram_counts = carver.take<std::uint32_t>(rows * kernels::kSamplingBins);
  w.histogram_weights = carver.take<std::uint64_t>(rows * kernels::kSamplingBins);
  w.modified_stride = (options.vocab_size_max + 3) / 4 * 4;
  w.modified_logits =
      carver.take<float>(std::min(options.max_num_rows, kMaxModifiedRows) * w.modified_stride);
  w.feedback_tokens = carver.take<std::int32_t>(options.max_num_slots);
  return {w, carver.num_bytes()};
}

std::size_t usual_upload_bytes(const CudaSampler::Options& options) {
  return static_cast<std::size_t>(options.max_num_rows) *
             (sizeof(SamplingRowParams) + kMaxListsPerRow * sizeof(std::int32_t)) +
         kUsualEdits * sizeof(SamplingEdit);
}

std::size_t usual_result_bytes(const CudaSampler::Options& options) {
  return static_cast<std::size_t>(options.max_num_rows) *
         (sizeof(SamplingRowResult) + kUsualEntriesPerRow * sizeof(SamplingEntry));
}

bool changes_logits(const SamplingRow& row) {
  return row.target_token < 0 && (row.has_penalties() || !row.logit_bias.empty() ||
                                  !row.allowed_token_ids.empty() || !row.banned_token_ids.empty());
}

// A top_k up to `max_listed_top_k` is found from the maxima that a scan leaves.
SamplingKind kind_of(const SamplingRow& row, std::int64_t vocab_size,
                     std::int32_t max_listed_top_k) {
  if (row.target_token >= 0) return SamplingKind::kReport;
  if (row.temperature < kSmallestTemperature) return SamplingKind::kGreedy;
  const bool has_top_k = row.top_k > 0 && row.top_k < vocab_size;
  if (has_top_k && row.top_k <= max_listed_top_k) return SamplingKind::kTopK;
  if (has_top_k || row.top_p < 1.0F) return SamplingKind::kFiltered;
  return row.min_p > 0.0F ? SamplingKind::kMinP : SamplingKind::kDraw;
}

// All edits of a row, those of a token together and in the order in which they are made.
void append_edits(std::vector<SamplingEdit>& edits, const SamplingRow& row,
                  std::int64_t vocab_size) {
  const auto begin = std::ssize(edits);
  const auto append = [&](TokenId token, SamplingEdit::Kind kind, float bias) {
    LLMRUN_CHECK(token >= 0 && token < vocab_size);
    edits.push_back({token, kind, bias});
  };
  for (const TokenId token : row.allowed_token_ids) append(token, SamplingEdit::kAllow, 0.0F);
  for (const TokenId token : row.banned_token_ids) append(token, SamplingEdit::kBan, 0.0F);
  for (const auto& [token, bias] : row.logit_bias) append(token, SamplingEdit::kBias, bias);
  std::stable_sort(edits.begin() + begin, edits.end(),
                   [](const SamplingEdit& a, const SamplingEdit& b) {
                     return a.token != b.token ? a.token < b.token : a.kind < b.kind;
                   });
}

template <typename Buffer>
void reserve(std::optional<Buffer>& buffer, std::size_t num_bytes) {
  if (!buffer.has_value() || buffer->num_bytes() < num_bytes) buffer.emplace(num_bytes);
}

}  // namespace

// What one sample() sends, and the rows that each pass is about.
struct CudaSampler::Plan {
  // A part of `indices`.
  struct Range {
    std::int64_t begin = 0;
    std::int64_t count = 0;
  };
  // Rows that are drawn from together.
  struct Group {
    Range all;
    Range filtered;
    Range drawn;
    Range top_k;
    bool has_edits = false;
  };

  std::vector<SamplingRowParams> rows;
  std::vector<SamplingEdit> edits;
  std::vector<std::int32_t> indices;
  Group unmodified;  // `all` is not filled in
  std::vector<Group> modified;
  Range with_logprobs;
  std::int64_t num_entries = 0;

  template <typename Condition>
  Range add_indices(std::span<const std::int32_t> candidates, Condition condition) {
    const auto begin = std::ssize(indices);
    for (const std::int32_t r : candidates) {
      if (condition(rows[static_cast<std::size_t>(r)])) indices.push_back(r);
    }
    return {begin, std::ssize(indices) - begin};
  }
  Group add_group(std::span<const std::int32_t> members) {
    const auto is_filtered = [](const SamplingRowParams& row) {
      return row.kind == SamplingKind::kFiltered;
    };
    const auto is_drawn = [&](const SamplingRowParams& row) {
      return is_filtered(row) || row.kind == SamplingKind::kMinP;
    };
    const auto is_top_k = [](const SamplingRowParams& row) {
      return row.kind == SamplingKind::kTopK;
    };
    Group group;
    group.filtered = add_indices(members, is_filtered);
    group.drawn = add_indices(members, is_drawn);
    group.top_k = add_indices(members, is_top_k);
    return group;
  }

  std::size_t edits_offset() const { return rows.size() * sizeof(SamplingRowParams); }
  std::size_t indices_offset() const {
    return edits_offset() + edits.size() * sizeof(SamplingEdit);
  }
  std::size_t upload_bytes() const {
    return indices_offset() + indices.size() * sizeof(std::int32_t);
  }
  std::size_t entries_offset() const { return rows.size() * sizeof(SamplingRowResult); }
  std::size_t result_bytes() const {
    return entries_offset() + static_cast<std::size_t>(num_entries) * sizeof(SamplingEntry);
  }
};

// A batch that was queued.
struct CudaSampler::Flight {
  struct Row {
    std::int32_t num_logprobs;
    std::int32_t entries_begin;
  };
  std::uint64_t ticket = 0;
  std::vector<Row> rows;
  std::optional<PinnedBuffer> upload;
  std::optional<CudaBuffer> parameters;  // what was uploaded
  std::optional<PinnedBuffer> results;   // the device writes to it
  CudaEvent uploaded;
  CudaEvent done;

  SamplingRowResult* row_results() const {
    return reinterpret_cast<SamplingRowResult*>(results->data());
  }
  SamplingEntry* entries() const {
    return reinterpret_cast<SamplingEntry*>(results->data() +
                                            rows.size() * sizeof(SamplingRowResult));
  }
  SampledToken sampled(std::size_t r) const;
};

// Tokens on their way to a penalty state, which reads them from here.
struct CudaSampler::TokenUpload {
  std::optional<PinnedBuffer> tokens;
  CudaEvent done;
};

CudaSampler::UploadStream::UploadStream() {
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
}

CudaSampler::UploadStream::~UploadStream() {
  cudaStreamDestroy(stream_);
}

CudaSampler::CudaSampler(const Options& options, cudaStream_t stream)
    : options_(options),
      stream_(stream),
      memory_(carve_workspace(nullptr, options).num_bytes),
      penalty_states_(static_cast<std::size_t>(options.max_num_slots)) {
  constexpr std::int32_t kMaxRows = 65535;  // of a launch
  LLMRUN_CHECK(options.max_num_rows >= 1 && options.max_num_rows <= kMaxRows);
  LLMRUN_CHECK(options.max_num_slots >= 1 && options.vocab_size_max >= 1);
  LLMRUN_CHECK(options.vocab_size_max <= (std::int64_t{1} << 23));  // sums of weights fit 64 bits
  num_multiprocessors_ = kernels::device_attribute(cudaDevAttrMultiProcessorCount);
  overlaps_launches_ = kernels::runs_hopper_code();
  workspace_ = carve_workspace(memory_.data(), options).arrays;
  check_cuda(cudaMemsetAsync(memory_.data(), 0, memory_.num_bytes(), stream_), "cudaMemsetAsync");
  for (std::size_t i = 0; i < kNumFlights; ++i) {
    idle_flights_.push_back(std::make_unique<Flight>());
    reserve(idle_flights_.back()->upload, usual_upload_bytes(options));
    reserve(idle_flights_.back()->parameters, usual_upload_bytes(options));
    reserve(idle_flights_.back()->results, usual_result_bytes(options));
  }
}

CudaSampler::~CudaSampler() {
  cudaStreamSynchronize(stream_);  // the device may still write to memory that goes away
}

std::size_t CudaSampler::num_bytes(const Options& options) {
  return carve_workspace(nullptr, options).num_bytes + kNumFlights * usual_upload_bytes(options);
}

std::size_t CudaSampler::penalty_bytes_per_slot(const Options& options) {
  return static_cast<std::size_t>(options.vocab_size_max) * sizeof(std::uint32_t);
}

std::uint64_t CudaSampler::sample(const float* logits, std::int64_t row_stride,
                                  std::int64_t vocab_size, std::span<const SamplingRow> rows) {
  LLMRUN_CHECK(vocab_size >= 1 && vocab_size <= row_stride);
  LLMRUN_CHECK(vocab_size <= options_.vocab_size_max);
  LLMRUN_CHECK(std::ssize(rows) <= options_.max_num_rows);
  const Plan plan = make_plan(rows, vocab_size);
  std::unique_ptr<Flight> flight = take_flight(plan);
  if (!rows.empty()) {
    queue_upload(plan, *flight);
    const auto* uploaded = static_cast<const std::byte*>(flight->parameters->data());
    queue_passes(plan,
                 {.logits = logits,
                  .row_stride = row_stride,
                  .vocab_size = vocab_size,
                  .rows = reinterpret_cast<const SamplingRowParams*>(uploaded),
                  .edits = reinterpret_cast<const SamplingEdit*>(uploaded + plan.edits_offset()),
                  .results = flight->row_results(),
                  .entries = flight->entries(),
                  .workspace = workspace_,
                  .num_multiprocessors = num_multiprocessors_});
  }
  flight->done.record(stream_);
  flight->ticket = next_ticket_++;
  flights_.push_back(std::move(flight));
  return flights_.back()->ticket;
}

std::vector<SampledToken> CudaSampler::collect(std::uint64_t ticket) {
  const auto place = std::find_if(flights_.begin(), flights_.end(),
                                  [&](const auto& flight) { return flight->ticket == ticket; });
  LLMRUN_CHECK(place != flights_.end());
  (*place)->done.wait();
  std::unique_ptr<Flight> flight = std::move(*place);
  flights_.erase(place);
  std::vector<SampledToken> sampled;
  sampled.reserve(flight->rows.size());
  for (std::size_t r = 0; r < flight->rows.size(); ++r) sampled.push_back(flight->sampled(r));
  idle_flights_.push_back(std::move(flight));
  return sampled;
}

SampledToken CudaSampler::Flight::sampled(std::size_t r) const {
  const SamplingRowResult& result = row_results()[r];
  SampledToken token{.token_id = result.token, .is_finite = result.token >= 0, .logprobs = {}};
  if (!token.is_finite || rows[r].num_logprobs < 0) return token;
  const double log_sum =
      std::log(std::ldexp(static_cast<double>(result.weight), -kernels::kSamplingWeightBits));
  const auto logprob = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - static_cast<double>(result.max) -
                              log_sum);
  };
  token.logprobs.push_back({result.token, logprob(result.token_logit), result.num_before + 1});
  const std::span best(entries() + rows[r].entries_begin,
                       static_cast<std::size_t>(rows[r].num_logprobs));
  std::sort(best.begin(), best.end(), [](const SamplingEntry& a, const SamplingEntry& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
  });
  std::int32_t rank = 0;
  for (const SamplingEntry& entry : best) {
    token.logprobs.push_back({entry.token, logprob(entry.logit), ++rank});
  }
  return token;
}

void CudaSampler::reset_penalty_state(std::int32_t slot, std::span<const TokenId> prompt_tokens,
                                      std::span<const TokenId> output_tokens,
                                      std::int64_t vocab_size) {
  LLMRUN_CHECK(slot >= 0 && slot < options_.max_num_slots);
  LLMRUN_CHECK(vocab_size >= 1 && vocab_size <= options_.vocab_size_max);
  const auto is_token = [&](TokenId token) { return token >= 0 && token < vocab_size; };
  LLMRUN_CHECK(std::all_of(prompt_tokens.begin(), prompt_tokens.end(), is_token));
  LLMRUN_CHECK(std::all_of(output_tokens.begin(), output_tokens.end(), is_token));
  auto& state = penalty_states_[static_cast<std::size_t>(slot)];
  if (state == nullptr) state = std::make_unique<CudaBuffer>(penalty_bytes_per_slot(options_));
  check_cuda(cudaMemsetAsync(state->data(), 0, state->num_bytes(), stream_), "cudaMemsetAsync");

  const auto is_idle = [](const auto& upload) {
    return cudaEventQuery(upload->done.get()) == cudaSuccess;
  };
  auto place = std::find_if(token_uploads_.begin(), token_uploads_.end(), is_idle);
  if (place == token_uploads_.end()) {
    place = token_uploads_.insert(place, std::make_unique<TokenUpload>());
  }
  TokenUpload& upload = **place;
  constexpr std::size_t kUsualTokens = 4096;
  const std::size_t num_tokens = prompt_tokens.size() + output_tokens.size();
  reserve(upload.tokens, std::max(num_tokens, kUsualTokens) * sizeof(TokenId));
  auto* tokens = reinterpret_cast<TokenId*>(upload.tokens->data());
  std::copy(prompt_tokens.begin(), prompt_tokens.end(), tokens);
  std::copy(output_tokens.begin(), output_tokens.end(), tokens + prompt_tokens.size());
  kernels::sampling_count_tokens({.stream = stream_}, static_cast<std::uint32_t*>(state->data()),
                                 tokens, std::ssize(prompt_tokens),
                                 static_cast<std::int64_t>(num_tokens));
  upload.done.record(stream_);
}

SamplingRowParams CudaSampler::make_params(const SamplingRow& row, std::int64_t vocab_size,
                                           std::int32_t max_listed_top_k) const {
  LLMRUN_CHECK(row.target_token < vocab_size);
  SamplingRowParams params{};
  params.kind = kind_of(row, vocab_size, max_listed_top_k);
  params.min_p_margin = row.min_p > 0.0F ? static_cast<double>(row.temperature) *
                                               std::log(static_cast<double>(row.min_p))
                                         : -std::numeric_limits<double>::infinity();
  params.key = random_key(row.seed, row.position);
  params.slot = row.slot;
  params.target_token = row.target_token;
  params.top_k = row.top_k > 0 && row.top_k < vocab_size ? row.top_k : 0;
  params.temperature = row.temperature;
  params.inverse_temperature = 1.0F / row.temperature;
  params.top_p = row.top_p;
  params.repetition_penalty = row.repetition_penalty;
  params.presence_penalty = row.presence_penalty;
  params.frequency_penalty = row.frequency_penalty;
  params.num_logprobs =
      static_cast<std::int32_t>(std::min<std::int64_t>(row.num_logprobs, vocab_size));
  params.modified_row = -1;
  if (params.kind == SamplingKind::kReport) return params;
  LLMRUN_CHECK(row.slot >= 0 && row.slot < options_.max_num_slots);
  if (row.has_penalties()) {
    const auto& state = penalty_states_[static_cast<std::size_t>(row.slot)];
    LLMRUN_CHECK(state != nullptr);
    params.penalty_state = static_cast<std::uint32_t*>(state->data());
  }
  return params;
}

CudaSampler::Plan CudaSampler::make_plan(std::span<const SamplingRow> rows,
                                         std::int64_t vocab_size) const {
  const std::int32_t max_listed_top_k =
      rows.empty()
          ? 0
          : kernels::sampling_max_listed_top_k(std::ssize(rows), vocab_size, num_multiprocessors_);
  Plan plan;
  plan.rows.reserve(rows.size());
  std::vector<std::int32_t> unmodified;
  std::vector<std::int32_t> modified;
  std::vector<std::int32_t> with_logprobs;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    SamplingRowParams params = make_params(rows[r], vocab_size, max_listed_top_k);
    if (params.num_logprobs >= 0) {
      with_logprobs.push_back(static_cast<std::int32_t>(r));
      params.entries_begin = static_cast<std::int32_t>(plan.num_entries);
      plan.num_entries += params.num_logprobs;
    }
    if (changes_logits(rows[r])) {
      params.modified_row = static_cast<std::int32_t>(modified.size() % kMaxModifiedRows);
      params.edits_begin = static_cast<std::int32_t>(plan.edits.size());
      append_edits(plan.edits, rows[r], vocab_size);
      params.num_edits = static_cast<std::int32_t>(plan.edits.size()) - params.edits_begin;
      params.has_allow_list = rows[r].allowed_token_ids.empty() ? 0 : 1;
      modified.push_back(static_cast<std::int32_t>(r));
    } else {
      unmodified.push_back(static_cast<std::int32_t>(r));
    }
    plan.rows.push_back(params);
  }
  const auto any = [](const SamplingRowParams& /*row*/) { return true; };
  plan.unmodified = plan.add_group(unmodified);
  for (std::size_t begin = 0; begin < modified.size(); begin += kMaxModifiedRows) {
    const std::size_t count = std::min<std::size_t>(kMaxModifiedRows, modified.size() - begin);
    const auto members = std::span<const std::int32_t>(modified).subspan(begin, count);
    Plan::Group group = plan.add_group(members);
    group.all = plan.add_indices(members, any);
    group.has_edits = std::any_of(members.begin(), members.end(), [&](std::int32_t r) {
      return plan.rows[static_cast<std::size_t>(r)].num_edits > 0;
    });
    plan.modified.push_back(group);
  }
  plan.with_logprobs = plan.add_indices(with_logprobs, any);
  return plan;
}

std::unique_ptr<CudaSampler::Flight> CudaSampler::take_flight(const Plan& plan) {
  if (idle_flights_.empty()) idle_flights_.push_back(std::make_unique<Flight>());
  std::unique_ptr<Flight> flight = std::move(idle_flights_.back());
  idle_flights_.pop_back();
  // Nothing uses an idle flight's memory, so it may grow without waiting.
  reserve(flight->upload, std::max(plan.upload_bytes(), usual_upload_bytes(options_)));
  reserve(flight->parameters, std::max(plan.upload_bytes(), usual_upload_bytes(options_)));
  reserve(flight->results, std::max(plan.result_bytes(), usual_result_bytes(options_)));
  flight->rows.clear();
  for (const SamplingRowParams& row : plan.rows) {
    flight->rows.push_back({row.num_logprobs, row.entries_begin});
  }
  return flight;
}

void CudaSampler::queue_upload(const Plan& plan, Flight& flight) {
  const auto put = [&](std::size_t offset, const auto& values) {
    if (values.empty()) return;
    std::memcpy(flight.upload->data() + offset, values.data(), values.size() * sizeof(values[0]));
  };
  put(0, plan.rows);
  put(plan.edits_offset(), plan.edits);
  put(plan.indices_offset(), plan.indices);
  // A copy takes several microseconds, even a small one. On a stream of its own it is made while
  // the device computes the logits.
  check_cuda(cudaMemcpyAsync(flight.parameters->data(), flight.upload->data(), plan.upload_bytes(),
                             cudaMemcpyHostToDevice, upload_stream_.get()),
             "cudaMemcpyAsync of sampling parameters");
  flight.uploaded.record(upload_stream_.get());
  check_cuda(cudaStreamWaitEvent(stream_, flight.uploaded.get(), 0), "cudaStreamWaitEvent");
}

void CudaSampler::queue_passes(const Plan& plan, const kernels::SamplingBatch& batch) {
  const kernels::Launch first{.stream = stream_};
  const kernels::Launch next{.stream = stream_, .overlap = overlaps_launches_};
  const auto* indices = reinterpret_cast<const std::int32_t*>(
      reinterpret_cast<const std::byte*>(batch.rows) + plan.indices_offset());
  const auto num_rows = std::ssize(plan.rows);
  const auto rows_of = [&](const Plan::Range& range, std::int64_t num_scanned) {
    return kernels::SamplingRows{indices + range.begin, range.count, num_scanned};
  };
  const auto draw = [&](const Plan::Group& group, std::int64_t num_scanned) {
    kernels::sampling_histogram(next, batch, rows_of(group.filtered, num_scanned));
    kernels::sampling_draw(next, batch, rows_of(group.drawn, num_scanned));
    kernels::sampling_top_k(next, batch, rows_of(group.top_k, num_scanned));
  };
  kernels::sampling_scan(first, batch, {nullptr, num_rows, num_rows}, false);
  draw(plan.unmodified, num_rows);
  for (const Plan::Group& group : plan.modified) {
    const auto members = rows_of(group.all, group.all.count);
    kernels::sampling_modify(next, batch, members, group.has_edits);
    kernels::sampling_scan(next, batch, members, true);
    draw(group, group.all.count);
  }
  kernels::sampling_logprobs(next, batch, rows_of(plan.with_logprobs, num_rows));
}

}  // namespace llmrun
