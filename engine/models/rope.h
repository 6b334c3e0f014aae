// Tables of rotary position embeddings.
// Source: Su et al. 2021, RoFormer, https://arxiv.org/abs/2104.09864; scaling as in transformers,
// modeling_rope_utils.py.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/models/model_config.h"

namespace llmrun {

// [rotary_dim / 2] radians per position. Computed in float32 step by step as transformers does:
// at position 100,000 the angle of a correctly rounded frequency would already be off by 0.01.
// `num_positions`: longest context of the run, which dynamic and longrope are scaled for.
std::vector<float> inverse_frequencies(const RopeConfig& rope, std::int32_t rotary_dim,
                                       std::int64_t num_positions = 0);

// [max_positions, rotary_dim]: cos of rotary_dim / 2 angles, then their sin; see
// Backend::rope_and_store_kv.
std::vector<float> make_rope_table(const RopeConfig& rope, std::int32_t rotary_dim,
                                   std::int64_t max_positions);

}  // namespace llmrun
