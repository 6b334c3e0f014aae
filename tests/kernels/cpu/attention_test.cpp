// Paged attention against a plain two-pass softmax in double precision.
#include "kernels/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include <doctest/doctest.h>

#include "tests/kernels/cpu/kernel_fixture.h"

namespace llmrun::kernels {
namespace {

struct Setting {
  std::int64_t context = 1;  // tokens in the cache, new ones included
  std::int64_t num_new = 1;
  std::int64_t num_kv_heads = 1;
  std::int64_t group_size = 1;
  std::int64_t head_dim = 64;
  std::int64_t block_size = 16;
  bool is_bf16 = false;
  float softcap = 0;
  std::int64_t window = 0;
  bool has_alibi = false;
};

// One sequence in a cache of shuffled blocks; unused cache memory holds NaN.
class AttentionCase {
 public:
  explicit AttentionCase(const Setting& setting) : s_(setting) {
    const std::int64_t num_blocks = ceil_div(s_.context, s_.block_size) + 3;
    const std::int64_t cache_size = num_blocks * s_.num_kv_heads * s_.block_size * s_.head_dim;
    table_.resize(static_cast<std::size_t>(num_blocks));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), std::mt19937_64(11));
    key_ = random_floats(s_.context * s_.num_kv_heads * s_.head_dim, 12);
    value_ = random_floats(s_.context * s_.num_kv_heads * s_.head_dim, 13);
    if (s_.is_bf16) {
      for (float& x : key_) x = round_to_bf16(x);
      for (float& x : value_) x = round_to_bf16(x);
    }
    q_ = random_floats(s_.context * num_heads() * s_.head_dim, 14);
    slopes_ = random_floats(num_heads(), 15);
    for (float& slope : slopes_) slope = std::abs(slope) * 0.1F;
    fill(key_, key_cache_, cache_size);
    fill(value_, value_cache_, cache_size);
  }

  std::int64_t num_heads() const { return s_.num_kv_heads * s_.group_size; }
  std::int64_t row_size() const { return num_heads() * s_.head_dim; }

  AttentionArgs args(float* out) const {
    AttentionArgs args;
    args.q = q_.data();
    args.q_stride = row_size();
    args.out = out;
    args.out_stride = row_size();
    args.key = key_cache_.data();
    args.value = value_cache_.data();
    args.is_bf16 = s_.is_bf16;
    args.block_size = s_.block_size;
    args.num_kv_heads = s_.num_kv_heads;
    args.group_size = s_.group_size;
    args.head_dim = s_.head_dim;
    args.scale = 1.0F / std::sqrt(static_cast<float>(s_.head_dim));
    args.logit_softcap = s_.softcap;
    args.sliding_window = s_.window;
    args.alibi_slopes = s_.has_alibi ? slopes_.data() : nullptr;
    return args;
  }

  // The new tokens in tasks of `tokens_per_task`; q and out have a row for each context token.
  AlignedVector<float> run(const AttentionKernel& kernel, std::int64_t tokens_per_task,
                           bool by_splits, std::int64_t heads_per_task = 1 << 10) const {
    AlignedVector<float> out(static_cast<std::size_t>(s_.context * row_size()), -7.0F);
    const AttentionArgs attention = args(out.data());
    for (std::int64_t head = 0; head < num_heads();) {
      const std::int64_t heads = std::min(heads_per_task, s_.group_size - head % s_.group_size);
      for (std::int64_t token = s_.context - s_.num_new; token < s_.context;
           token += tokens_per_task) {
        AttentionTask task;
        task.first_token = token;
        task.num_tokens = std::min(tokens_per_task, s_.context - token);
        task.first_position = token;
        task.block_table = table_.data();
        task.kv_head = head / s_.group_size;
        task.first_head = head;
        task.num_heads = heads;
        run_task(kernel, attention, task, by_splits);
      }
      head += heads;
    }
    return out;
  }

  double expected(std::int64_t position, std::int64_t head, std::int64_t d) const {
    const std::int64_t kv_head = head / s_.group_size;
    const std::int64_t first =
        s_.window > 0 ? std::max<std::int64_t>(0, position - s_.window + 1) : 0;
    std::vector<double> scores;
    double largest = -INFINITY;
    for (std::int64_t t = first; t <= position; ++t) {
      double score = 0;
      for (std::int64_t i = 0; i < s_.head_dim; ++i) {
        score += static_cast<double>(
                     q_[static_cast<std::size_t>(position * row_size() + head * s_.head_dim + i)]) *
                 key_[index(t, kv_head, i)];
      }
      score /= std::sqrt(static_cast<double>(s_.head_dim));
      if (s_.softcap > 0) score = s_.softcap * std::tanh(score / s_.softcap);
      if (s_.has_alibi) {
        score += slopes_[static_cast<std::size_t>(head)] * static_cast<double>(t - position);
      }
      scores.push_back(score);
      largest = std::max(largest, score);
    }
    double sum = 0, result = 0;
    for (std::int64_t t = first; t <= position; ++t) {
      const double weight = std::exp(scores[static_cast<std::size_t>(t - first)] - largest);
      sum += weight;
      result += weight * value_[index(t, kv_head, d)];
    }
    return result / sum;
  }

 private:
  std::size_t index(std::int64_t token, std::int64_t kv_head, std::int64_t d) const {
    return static_cast<std::size_t>((token * s_.num_kv_heads + kv_head) * s_.head_dim + d);
  }

  void fill(const AlignedVector<float>& from, AlignedVector<std::byte>& cache,
            std::int64_t cache_size) const {
    cache.assign(static_cast<std::size_t>(cache_size) * (s_.is_bf16 ? 2 : 4), std::byte{0xff});
    for (std::int64_t token = 0; token < s_.context; ++token) {
      for (std::int64_t head = 0; head < s_.num_kv_heads; ++head) {
        for (std::int64_t d = 0; d < s_.head_dim; ++d) {
          const std::int64_t block = table_[static_cast<std::size_t>(token / s_.block_size)];
          const auto to = static_cast<std::size_t>(
              ((block * s_.num_kv_heads + head) * s_.block_size + token % s_.block_size) *
                  s_.head_dim +
              d);
          const float x = from[index(token, head, d)];
          const std::uint16_t half = float_to_bf16(x);
          if (s_.is_bf16) {
            std::memcpy(cache.data() + 2 * to, &half, 2);
          } else {
            std::memcpy(cache.data() + 4 * to, &x, 4);
          }
        }
      }
    }
  }

  void run_task(const AttentionKernel& kernel, const AttentionArgs& attention,
                const AttentionTask& task, bool by_splits) const {
    const std::int64_t rows = task.num_rows();
    AlignedVector<std::byte> scratch(kernel.scratch_bytes(rows, s_.head_dim));
    if (!by_splits) return kernel.run(attention, task, scratch.data());
    const AttentionSpan span = attention_span(attention, task);
    const std::int64_t first = span.begin / kKvSplit;
    const std::int64_t num_splits = ceil_div(span.end, kKvSplit) - first;
    const std::int64_t state = rows * attention_state_floats(s_.head_dim);
    AlignedVector<float> states(static_cast<std::size_t>(num_splits * state), NAN);
    for (std::int64_t split = num_splits - 1; split >= 0; --split) {  // the order is not to matter
      kernel.run_split(attention, task, first + split, states.data() + split * state,
                       scratch.data());
    }
    kernel.merge_splits(attention, task, num_splits, states.data(), scratch.data());
  }

  Setting s_;
  std::vector<std::int32_t> table_;
  AlignedVector<float> key_, value_, q_, slopes_;
  AlignedVector<std::byte> key_cache_, value_cache_;
};

void check_setting(const AttentionKernel& kernel, const Setting& s, double tolerance) {
  const AttentionCase attention(s);
  const AlignedVector<float> out = attention.run(kernel, 16, false);
  double worst = 0;
  for (std::int64_t token = 0; token < s.context; ++token) {
    for (std::int64_t head = 0; head < attention.num_heads(); ++head) {
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        const float got =
            out[static_cast<std::size_t>(token * attention.row_size() + head * s.head_dim + d)];
        if (token < s.context - s.num_new) {
          if (got != -7.0F) worst = INFINITY;  // not a row of this call
          continue;
        }
        const double error = std::abs(got - attention.expected(token, head, d));
        worst = std::isnan(error) ? INFINITY : std::max(worst, error);
      }
    }
  }
  INFO("context " << s.context << " new " << s.num_new << " group " << s.group_size << " head_dim "
                  << s.head_dim << " block_size " << s.block_size << " bf16 " << s.is_bf16);
  CHECK(worst < tolerance);
}

std::vector<Setting> settings() {
  std::vector<Setting> result;
  for (const bool is_bf16 : {false, true}) {
    for (const std::int64_t block_size : {1, 16, 32, 2048}) {
      result.push_back({.context = 1, .block_size = block_size, .is_bf16 = is_bf16});
      result.push_back({.context = 70,
                        .num_new = 70,
                        .num_kv_heads = 2,
                        .group_size = 7,
                        .head_dim = 16,
                        .block_size = block_size,
                        .is_bf16 = is_bf16});
      result.push_back({.context = 130,
                        .num_new = 33,
                        .num_kv_heads = 3,
                        .group_size = 2,
                        .head_dim = 40,
                        .block_size = block_size,
                        .is_bf16 = is_bf16});
    }
    result.push_back(
        {.context = 1100, .num_new = 2, .num_kv_heads = 2, .group_size = 7, .is_bf16 = is_bf16});
    result.push_back({.context = 65,
                      .num_new = 5,
                      .num_kv_heads = 1,
                      .group_size = 4,
                      .head_dim = 128,
                      .is_bf16 = is_bf16});
    result.push_back({.context = 40,
                      .num_new = 4,
                      .num_kv_heads = 1,
                      .group_size = 1,
                      .head_dim = 256,
                      .is_bf16 = is_bf16});
    result.push_back({.context = 40,
                      .num_new = 4,
                      .num_kv_heads = 2,
                      .group_size = 3,
                      .head_dim = 9,
                      .is_bf16 = is_bf16});
    result.push_back(
        {.context = 150, .num_new = 20, .group_size = 2, .is_bf16 = is_bf16, .softcap = 2.0F});
    result.push_back(
        {.context = 200, .num_new = 90, .group_size = 2, .is_bf16 = is_bf16, .window = 10});
    result.push_back(
        {.context = 700, .num_new = 3, .group_size = 3, .is_bf16 = is_bf16, .window = 130});
    result.push_back({.context = 150,
                      .num_new = 20,
                      .num_kv_heads = 2,
                      .group_size = 2,
                      .is_bf16 = is_bf16,
                      .has_alibi = true});
  }
  return result;
}

}  // namespace

TEST_CASE("attention agrees with a plain softmax") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    const CpuKernels& kernels = cpu_kernels(isa);
    for (const Setting& setting : settings()) {
      check_setting(kernels.attention, setting, 5e-6);
      // Queries and weights may be rounded to bf16 there.
      if (setting.is_bf16) check_setting(kernels.attention_bf16_many_rows, setting, 0.03);
    }
  }
}

TEST_CASE("a row's attention is the same bits alone, in a chunk, with some heads, split or not") {
  const Setting long_context = {.context = 1200, .num_new = 150, .group_size = 7, .head_dim = 32};
  const Setting windowed = {.context = 900,
                            .num_new = 120,
                            .group_size = 2,
                            .head_dim = 64,
                            .is_bf16 = true,
                            .window = 70};
  for (const CpuIsa isa : supported_cpu_isas()) {
    const AttentionKernel& kernel = cpu_kernels(isa).attention;
    for (const Setting& setting : {long_context, windowed}) {
      const AttentionCase attention(setting);
      const AlignedVector<float> alone = attention.run(kernel, 1, false);
      CHECK(attention.run(kernel, 1, true) == alone);
      CHECK(attention.run(kernel, 13, false) == alone);
      CHECK(attention.run(kernel, 1, false, 1) == alone);
      CHECK(attention.run(kernel, 1, true, 3) == alone);
      CHECK(attention.run(kernel, 13, false, 2) == alone);
      CHECK(attention.run(kernel, 150, true) == alone);
    }
  }
}

TEST_CASE("a NaN query gives NaN, not a plausible number") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    const AttentionCase attention(Setting{.context = 20});
    AlignedVector<float> out(20 * 64, 0.0F);
    AttentionArgs args = attention.args(out.data());
    const AlignedVector<float> q(20 * 64, NAN);
    args.q = q.data();
    std::vector<std::int32_t> table(8);
    std::iota(table.begin(), table.end(), 0);
    AttentionTask task;
    task.first_token = 19;
    task.num_tokens = 1;
    task.first_position = 0;
    task.num_heads = 1;
    task.block_table = table.data();
    const AttentionKernel& kernel = cpu_kernels(isa).attention;
    AlignedVector<std::byte> scratch(kernel.scratch_bytes(1, 64));
    kernel.run(args, task, scratch.data());
    CHECK(std::isnan(out[19 * 64]));
  }
}

}  // namespace llmrun::kernels
