// The sizes of the models whose operations are timed.
#pragma once

#include <cstdint>
#include <string>

namespace llmrun {

struct ModelShape {
  const char* name;
  std::int64_t hidden_size, intermediate_size;
  std::int64_t num_query_heads, num_kv_heads, head_dim, vocab_size;
  bool has_qkv_bias;

  std::int64_t q_size() const { return num_query_heads * head_dim; }
  std::int64_t kv_size() const { return num_kv_heads * head_dim; }
  std::int64_t qkv_size() const { return q_size() + 2 * kv_size(); }
};

// Throws Error(kUsage) with the names there are.
const ModelShape& find_model_shape(const std::string& name);

}  // namespace llmrun
