// Choosing tokens from rows of logits on a GPU, with the choices of the CPU bit for bit: weights
// are the same integers, scores the same floats (kernels/cpu/sampling.h, engine/core/random.h), and
// filters are lower bounds on a logit. Semantics: engine/backend/sampling_batch.h.
//
// Each row is divided among `splits` blocks; the last of them to end puts the row's parts together,
// so a pass over a row is one launch. Passes, each bound by reading 4 V bytes a row:
//   scan       greatest logit, its lowest id, NaN; ends greedy rows and, where no two tokens are
//              too close to call, those with temperature alone. Leaves the maxima of groups of
//              tokens, and from them lower bounds on the top_k-th and num_logprobs-th logit
//   top_k      selection and draw among the groups whose maximum reaches the bound on the top_k-th
//              logit, by one block a row: little is read
//   histogram  counts and weights by distance from the maximum: rows with top_p, or a large top_k
//   draw       the Gumbel-max draw among tokens that are surely kept; tokens near a bound go to a
//              list, from which the last block selects the exact bound. Reads only groups whose
//              maximum matters
//   logprobs   sum of weights, rank of the chosen token, the best ones
// Rows with masks, biases or penalties are copied and changed first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/core/random.h"
#include "kernels/cuda/launch.h"

namespace llmrun::kernels {

inline constexpr int kSamplingWeightBits = 40;  // kWeightBits of kernels/cpu/sampling.h
inline constexpr int kSamplingThreads = 256;
inline constexpr int kSamplingMaxSplits = 256;
inline constexpr int kSamplingMaxGroups = 2048;  // group maxima of a row
inline constexpr int kSamplingListSize = 8192;   // candidates of a row; more are found in the row
inline constexpr int kSamplingBins = 1024;
inline constexpr int kSamplingMaxListedTopK = 128;  // above it a histogram finds the bound

enum class SamplingKind : std::int32_t {
  kReport,    // log-probabilities of a given token
  kGreedy,    // the greatest logit
  kDraw,      // temperature alone
  kMinP,      // temperature and min_p
  kTopK,      // and a top_k of at most kSamplingMaxListedTopK, perhaps top_p
  kFiltered,  // and other top_k and top_p
};

// How a row is chosen from: the host's part.
struct SamplingRowParams {
  double min_p_margin;  // temperature * log(min_p), -infinity: none
  RandomKey key;
  std::uint32_t* penalty_state;  // [V] of the slot, or null: kInPrompt | times generated
  SamplingKind kind;
  std::int32_t slot;
  std::int32_t target_token;
  std::int32_t top_k;  // 0: all
  float temperature;
  float inverse_temperature;
  float top_p;
  float repetition_penalty;
  float presence_penalty;
  float frequency_penalty;
  std::int32_t num_logprobs;    // -1: none; <= V
  std::int32_t modified_row;    // where the changed copy of the row is; -1: there is none
  std::int32_t edits_begin;     // in the list of edits
  std::int32_t num_edits;       // ascending by token, then by kind
  std::int32_t has_allow_list;  // tokens without a kAllow edit are masked
  std::int32_t entries_begin;   // in the list of best tokens
};
inline constexpr std::uint32_t kSamplingInPrompt = 0x80000000U;

// A change of one token's logit.
struct SamplingEdit {
  enum Kind : std::int32_t { kAllow, kBan, kBias };
  std::int32_t token;
  std::int32_t kind;
  float bias;
};

// What the passes over a row tell each other.
struct SamplingRowState {
  std::uint64_t weight_above_top_k_bin;  // all of it when there is no such bin
  std::uint64_t weight_above_list;       // of the bins before first_list_bin
  std::uint32_t count_above_top_k_bin;
  std::int32_t top_k_bin;  // -1: none
  std::int32_t first_list_bin;
  std::int32_t last_list_bin;
  float raw_max;  // of the logits as the model gave them
  float raw_threshold;
  float max;  // of the logits to choose from
  std::int32_t argmax;
  float threshold;         // kTopK: at least top_k logits are not below it; kFiltered: logits
                           // below it weigh too little together to be in the nucleus
  std::int32_t is_finite;  // 0: the row failed
  std::int32_t token;      // chosen, or target
};

// A row's result, in page-locked memory of the host.
struct SamplingRowResult {
  std::uint64_t weight;  // sum over the row at temperature 1
  float max;
  float token_logit;
  std::int32_t token;  // -1: the row failed
  std::int32_t num_before;
};
struct SamplingEntry {
  std::int32_t token;
  float logit;
};

// Device memory, R rows. Counters, counts and histograms are zero between launches.
struct SamplingWorkspace {
  SamplingRowState* states;          // [R]
  std::uint64_t* partials;           // [R, kSamplingMaxSplits]
  std::uint64_t* draw_partials;      // [R, kSamplingMaxSplits]
  std::uint32_t* partial_counts;     // [R, kSamplingMaxSplits]
  float* group_maxima;               // [R, kSamplingMaxGroups]
  std::uint32_t* block_counters;     // [R]
  std::uint32_t* list_counts;        // [R]
  std::int32_t* lists;               // [R, kSamplingListSize]
  std::uint32_t* histogram_counts;   // [R, kSamplingBins]
  std::uint64_t* histogram_weights;  // [R, kSamplingBins]
  float* modified_logits;            // [rows that are changed at a time, modified_stride]
  std::int64_t modified_stride;      // a multiple of 4
  std::int32_t* feedback_tokens;     // [slots]
};

struct SamplingBatch {
  const float* logits = nullptr;  // [R, row_stride]
  std::int64_t row_stride = 0;
  std::int64_t vocab_size = 0;
  const SamplingRowParams* rows = nullptr;  // [R]
  const SamplingEdit* edits = nullptr;
  SamplingRowResult* results = nullptr;  // [R]
  SamplingEntry* entries = nullptr;      // num_logprobs a row, in no order
  SamplingWorkspace workspace = {};
  int num_multiprocessors = 1;
};

// The rows of a batch that a launch is about.
struct SamplingRows {
  const std::int32_t* indices = nullptr;  // on the device; null: 0, 1, ...
  std::int64_t count = 0;
  std::int64_t num_scanned = 0;  // rows of the launch that scanned these: it decides the division
};

// `modified`: of the changed copies of the rows.
void sampling_scan(const Launch& launch, const SamplingBatch& batch, const SamplingRows& rows,
                   bool modified);
// Rows of kind kFiltered.
void sampling_histogram(const Launch& launch, const SamplingBatch& batch, const SamplingRows& rows);
// Rows of kind kTopK.
void sampling_top_k(const Launch& launch, const SamplingBatch& batch, const SamplingRows& rows);
// Rows of kinds kMinP and kFiltered.
void sampling_draw(const Launch& launch, const SamplingBatch& batch, const SamplingRows& rows);
// Rows with num_logprobs >= 0, after their token is chosen.
void sampling_logprobs(const Launch& launch, const SamplingBatch& batch, const SamplingRows& rows);
// Writes the changed copies of rows.
void sampling_modify(const Launch& launch, const SamplingBatch& batch, const SamplingRows& rows,
                     bool any_edits);
// Adds tokens to a zeroed penalty state. tokens: `num_prompt` of the prompt, then the output's.
void sampling_count_tokens(const Launch& launch, std::uint32_t* penalty_state,
                           const std::int32_t* tokens, std::int64_t num_prompt,
                           std::int64_t num_tokens);

// The greatest top_k that sampling_top_k is good for, given how many maxima sampling_scan leaves of
// each of `num_rows` rows. With a greater one it is slow, not wrong.
std::int32_t sampling_max_listed_top_k(std::int64_t num_rows, std::int64_t vocab_size,
                                       int num_multiprocessors);

}  // namespace llmrun::kernels
