// The GPU's choices against the CPU's, which must be equal for equal logits.
#include "engine/backend/cuda/cuda_sampling.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/backend/cpu/cpu_sampling.h"
#include "engine/core/cpu_info.h"
#include "engine/core/thread_pool.h"
#include "kernels/cuda/check.h"
#include "tests/support/cuda_device.h"

namespace llmrun {
namespace {

using kernels::check_cuda;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int32_t kNumSlots = 640;

// Both samplers, and a stream.
class Samplers {
 public:
  explicit Samplers(std::int64_t vocab_size, std::int32_t max_num_rows = kNumSlots)
      : vocab_size_(vocab_size), pool_(ThreadPoolOptions{}), cpu_(pool_, best_cpu_isa()) {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    cuda_ = std::make_unique<CudaSampler>(
        CudaSampler::Options{
            .max_num_slots = kNumSlots, .max_num_rows = max_num_rows, .vocab_size_max = vocab_size},
        stream_);
  }
  ~Samplers() {
    cuda_.reset();
    cudaStreamDestroy(stream_);
  }
  Samplers(const Samplers&) = delete;
  Samplers& operator=(const Samplers&) = delete;

  CpuSampler& cpu() { return cpu_; }
  CudaSampler& cuda() { return *cuda_; }

  void reset_penalties(std::int32_t slot, const std::vector<TokenId>& prompt,
                       const std::vector<TokenId>& output) {
    cpu_.reset_penalty_state(slot, prompt, output);
    cuda_->reset_penalty_state(slot, prompt, output, vocab_size_);
  }
  // The copy lives until the samplers go, since nothing says when the device is done with it.
  const float* upload(const std::vector<float>& logits) {
    buffers_.push_back(std::make_unique<CudaBuffer>(logits.size() * sizeof(float)));
    check_cuda(cudaMemcpyAsync(buffers_.back()->data(), logits.data(),
                               logits.size() * sizeof(float), cudaMemcpyHostToDevice, stream_),
               "cudaMemcpyAsync");
    check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    return static_cast<const float*>(buffers_.back()->data());
  }
  std::vector<std::int32_t> feedback_tokens() {
    std::vector<std::int32_t> tokens(kNumSlots);
    check_cuda(cudaMemcpyAsync(tokens.data(), cuda_->feedback_tokens(),
                               sizeof(std::int32_t) * kNumSlots, cudaMemcpyDeviceToHost, stream_),
               "cudaMemcpyAsync");
    check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    return tokens;
  }

 private:
  std::int64_t vocab_size_;
  ThreadPool pool_;
  CpuSampler cpu_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<CudaSampler> cuda_;
  std::vector<std::unique_ptr<CudaBuffer>> buffers_;
};

// What differs, or nothing.
std::string difference(const SampledToken& gpu, const SampledToken& cpu) {
  if (gpu.token_id != cpu.token_id) {
    return "token " + std::to_string(gpu.token_id) + " != " + std::to_string(cpu.token_id);
  }
  if (gpu.is_finite != cpu.is_finite) return "is_finite";
  if (gpu.logprobs.size() != cpu.logprobs.size()) return "number of logprobs";
  for (std::size_t i = 0; i < gpu.logprobs.size(); ++i) {
    const TokenLogprob& a = gpu.logprobs[i];
    const TokenLogprob& b = cpu.logprobs[i];
    if (a.token_id != b.token_id || a.rank != b.rank || a.logprob != b.logprob) {
      return "logprob " + std::to_string(i) + ": " + std::to_string(a.token_id) + " rank " +
             std::to_string(a.rank) + " " + std::to_string(a.logprob) +
             " != " + std::to_string(b.token_id) + " rank " + std::to_string(b.rank) + " " +
             std::to_string(b.logprob);
    }
  }
  return "";
}

enum class Shape { kNormal, kFlat, kPeaked, kRounded, kFewValues, kMasked, kSignedZeros, kWide };
constexpr Shape kShapes[] = {Shape::kNormal,      Shape::kFlat,      Shape::kPeaked,
                             Shape::kRounded,     Shape::kFewValues, Shape::kMasked,
                             Shape::kSignedZeros, Shape::kWide};

float logit_of(Shape shape, std::mt19937& generator) {
  std::normal_distribution<float> normal;
  const float x = normal(generator);
  switch (shape) {
    case Shape::kNormal: return 2.0F * x;
    case Shape::kFlat: return 1.25F;
    case Shape::kPeaked: return generator() % 1000 == 0 ? 20.0F + x : x;
    case Shape::kRounded: return std::round(24.0F * x) / 8.0F;
    case Shape::kFewValues: return static_cast<float>(generator() % 3);
    case Shape::kMasked: return generator() % 50 == 0 ? 3.0F * x : -kInfinity;
    case Shape::kSignedZeros: return generator() % 2 == 0 ? 0.0F : -0.0F;
    case Shape::kWide: return x * x * x * 1000.0F;
  }
  return 0.0F;
}

// Values of a normal distribution take long to make; rows are cut from a longer sequence.
std::vector<float> random_logits(Shape shape, std::int64_t num_rows, std::int64_t row_stride,
                                 std::mt19937& generator) {
  std::vector<float> pool(static_cast<std::size_t>(row_stride) + 4096);
  for (float& x : pool) x = logit_of(shape, generator);
  std::vector<float> logits;
  for (std::int64_t r = 0; r < num_rows; ++r) {
    const auto begin = pool.begin() + static_cast<std::ptrdiff_t>(generator() % 4096);
    logits.insert(logits.end(), begin, begin + row_stride);
  }
  return logits;
}

// A row of random parameters and what it points at.
struct RandomRow {
  std::vector<std::pair<TokenId, float>> bias;
  std::vector<TokenId> allowed;
  std::vector<TokenId> banned;
  SamplingRow row;
};

template <typename T>
T one_of(std::mt19937& generator, std::initializer_list<T> values) {
  return values.begin()[generator() % values.size()];
}

RandomRow random_row(std::int32_t slot, std::int64_t vocab_size, std::mt19937& generator) {
  const auto token = [&] {
    return static_cast<TokenId>(generator() % static_cast<std::uint64_t>(vocab_size));
  };
  const auto one_in = [&](unsigned n) { return generator() % n == 0; };
  RandomRow result;
  SamplingRow& row = result.row;
  row.slot = slot;
  row.seed = generator();
  row.position = generator() % 1000;
  row.temperature =
      one_of(generator, {0.0F, 1e-5F, 0.1F, 0.6F, 0.7F, 1.0F, 1.0F, 1.7F, 2.5F, 100.0F});
  const auto last = static_cast<std::int32_t>(vocab_size) - 1;
  if (one_in(2))
    row.top_k = one_of(generator, {-1, 1, 2, 5, 20, 50, 100, 129, 500, 5000, last, last + 2});
  if (one_in(2)) row.top_p = one_of(generator, {1e-6F, 0.1F, 0.5F, 0.8F, 0.9F, 0.95F, 0.999F});
  if (one_in(4)) row.min_p = one_of(generator, {1e-10F, 0.01F, 0.05F, 0.5F, 1.0F});
  if (one_in(3)) row.num_logprobs = one_of(generator, {0, 1, 5, 20, 100});
  if (one_in(6)) row.target_token = token();
  if (one_in(6)) {
    row.repetition_penalty = one_of(generator, {1.0F, 1.2F, 0.7F});
    row.presence_penalty = one_of(generator, {0.0F, 0.5F, -1.0F});
    row.frequency_penalty = one_of(generator, {0.0F, 0.3F, -0.2F});
  }
  if (one_in(8)) {
    const float scale = one_in(2) ? 1.0F : 40.0F;
    for (auto i = generator() % 30 + 1; i > 0; --i) {
      const float bias = static_cast<float>(generator() % 1000) / 250.0F - 2.0F;
      result.bias.emplace_back(token(), scale * bias);
    }
  }
  if (one_in(10)) {
    for (auto i = generator() % 400 + 1; i > 0; --i) result.allowed.push_back(token());
  }
  if (one_in(10)) {
    for (auto i = generator() % 400 + 1; i > 0; --i) result.banned.push_back(token());
  }
  return result;
}

std::vector<SamplingRow> rows_of(const std::vector<RandomRow>& random_rows) {
  std::vector<SamplingRow> rows;
  for (const RandomRow& random_row : random_rows) {
    rows.push_back(random_row.row);
    rows.back().logit_bias = random_row.bias;
    rows.back().allowed_token_ids = random_row.allowed;
    rows.back().banned_token_ids = random_row.banned;
  }
  return rows;
}

std::string describe(const SamplingRow& row) {
  return "temperature " + std::to_string(row.temperature) + " top_k " + std::to_string(row.top_k) +
         " top_p " + std::to_string(row.top_p) + " min_p " + std::to_string(row.min_p) +
         " target " + std::to_string(row.target_token) + " logprobs " +
         std::to_string(row.num_logprobs) + " penalties " + std::to_string(row.has_penalties()) +
         " bias " + std::to_string(row.logit_bias.size()) + " allowed " +
         std::to_string(row.allowed_token_ids.size()) + " banned " +
         std::to_string(row.banned_token_ids.size());
}

void check_equal(const std::vector<SampledToken>& gpu, const std::vector<SampledToken>& cpu,
                 const std::vector<SamplingRow>& rows, const std::string& what) {
  REQUIRE(gpu.size() == cpu.size());
  for (std::size_t r = 0; r < gpu.size(); ++r) {
    const std::string found = difference(gpu[r], cpu[r]);
    if (found.empty()) continue;
    FAIL_CHECK(what << ", row " << r << ": " << found << "; " << describe(rows[r]));
  }
}

// Steps queued one ahead of what is collected, with penalties that the host does not know yet.
void check_steps(std::int64_t vocab_size, std::int64_t row_stride, Shape shape,
                 std::int64_t num_rows, std::int32_t num_steps, std::mt19937& generator) {
  Samplers samplers(vocab_size, kNumSlots);
  const auto random_tokens = [&] {
    std::vector<TokenId> tokens(generator() % 200);
    for (TokenId& token : tokens) {
      token = static_cast<TokenId>(generator() % static_cast<std::uint64_t>(vocab_size));
    }
    return tokens;
  };
  for (std::int32_t slot = 0; slot < num_rows; ++slot) {
    samplers.reset_penalties(slot, random_tokens(), random_tokens());
  }
  struct Step {
    std::uint64_t ticket;
    std::vector<SampledToken> cpu;
    std::vector<SamplingRow> rows;
    std::vector<RandomRow> owner;
  };
  std::vector<Step> steps;
  for (std::int32_t s = 0; s < num_steps; ++s) {
    std::vector<float> logits = random_logits(shape, num_rows, row_stride, generator);
    if (s % 2 == 1) {  // two rows that fail
      const auto middle = static_cast<std::size_t>(vocab_size / 2);
      logits[middle] = std::nanf("");
      logits[logits.size() - static_cast<std::size_t>(row_stride) + middle] = kInfinity;
    }
    std::vector<RandomRow> random_rows;
    for (std::int32_t r = 0; r < num_rows; ++r) {
      random_rows.push_back(random_row(r, vocab_size, generator));
    }
    const std::vector<SamplingRow> rows = rows_of(random_rows);
    const float* device = samplers.upload(logits);
    const std::uint64_t ticket = samplers.cuda().sample(device, row_stride, vocab_size, rows);
    steps.push_back({ticket, samplers.cpu().sample(logits.data(), row_stride, vocab_size, rows),
                     rows, std::move(random_rows)});
  }
  for (std::size_t s = 0; s < steps.size(); ++s) {
    check_equal(samplers.cuda().collect(steps[s].ticket), steps[s].cpu, steps[s].rows,
                "vocabulary " + std::to_string(vocab_size) + ", shape " +
                    std::to_string(static_cast<int>(shape)) + ", step " + std::to_string(s));
  }
}

}  // namespace

TEST_CASE("the GPU chooses what the CPU chooses, small vocabularies") {
  if (!testing::has_cuda_device()) return;
  std::mt19937 generator(1);
  for (const std::int64_t vocab_size : {1, 2, 33, 1000}) {
    for (const Shape shape : kShapes) {
      check_steps(vocab_size, vocab_size + generator() % 3, shape, 64, 4, generator);
    }
  }
}

TEST_CASE("the GPU chooses what the CPU chooses, large vocabularies") {
  if (!testing::has_cuda_device()) return;
  std::mt19937 generator(2);
  for (const std::int64_t vocab_size : {32000, 128256, 152064}) {
    for (const Shape shape : kShapes) {
      check_steps(vocab_size, vocab_size + generator() % 3, shape, 64, 2, generator);
    }
  }
}

TEST_CASE("the GPU chooses what the CPU chooses, one row and few rows") {
  if (!testing::has_cuda_device()) return;
  std::mt19937 generator(3);
  for (const std::int64_t num_rows : {1, 1, 1, 1, 3, 3, 9}) {
    for (const Shape shape : kShapes) {
      check_steps(152064, 152064, shape, num_rows, 3, generator);
    }
  }
}

TEST_CASE("the GPU chooses what the CPU chooses, many rows") {
  if (!testing::has_cuda_device()) return;
  std::mt19937 generator(7);
  for (const Shape shape : kShapes) {
    check_steps(50257, 50257, shape, 300, 1, generator);
    check_steps(20011, 20012, shape, 600, 1, generator);
  }
}

TEST_CASE("draws by temperature alone, which mostly need one pass") {
  if (!testing::has_cuda_device()) return;
  std::mt19937 generator(8);
  for (const std::int64_t vocab_size : {50, 1000, 152064}) {
    const std::int64_t num_rows = vocab_size > 1000 ? 64 : 640;
    Samplers samplers(vocab_size, kNumSlots);
    for (const Shape shape : kShapes) {
      const auto logits = random_logits(shape, num_rows, vocab_size, generator);
      const float* device = samplers.upload(logits);
      for (std::uint64_t step = 0; step < 5; ++step) {
        std::vector<SamplingRow> rows;
        for (std::int32_t r = 0; r < num_rows; ++r) {
          rows.push_back(
              {.slot = r,
               .temperature = one_of(generator, {1e-5F, 0.01F, 0.5F, 1.0F, 3.0F, 100.0F}),
               .seed = generator(),
               .position = step});
        }
        const auto ticket = samplers.cuda().sample(device, vocab_size, vocab_size, rows);
        check_equal(samplers.cuda().collect(ticket),
                    samplers.cpu().sample(logits.data(), vocab_size, vocab_size, rows), rows,
                    "vocabulary " + std::to_string(vocab_size) + ", shape " +
                        std::to_string(static_cast<int>(shape)));
      }
    }
  }
}

TEST_CASE("a failed row reports it, and leaves token 0 for the next step") {
  if (!testing::has_cuda_device()) return;
  constexpr std::int64_t kVocabSize = 1000;
  Samplers samplers(kVocabSize);
  for (const float bad : {std::nanf(""), kInfinity, -std::nanf("")}) {
    std::vector<float> logits(2 * kVocabSize, 0.5F);
    logits[kVocabSize + 7] = 3.0F;
    logits[999] = bad;
    std::vector<SamplingRow> rows(2);
    rows[0] = {.slot = 3, .temperature = 0.0F, .num_logprobs = 2};
    rows[1] = {.slot = 4, .temperature = 0.0F};
    const auto ticket =
        samplers.cuda().sample(samplers.upload(logits), kVocabSize, kVocabSize, rows);
    const auto sampled = samplers.cuda().collect(ticket);
    CHECK_FALSE(sampled[0].is_finite);
    CHECK(sampled[0].token_id == -1);
    CHECK(sampled[0].logprobs.empty());
    CHECK(sampled[1].is_finite);
    CHECK(sampled[1].token_id == 7);
    const auto feedback = samplers.feedback_tokens();
    CHECK(feedback[3] == 0);
    CHECK(feedback[4] == 7);
  }
}

TEST_CASE("a row of which everything is masked fails") {
  if (!testing::has_cuda_device()) return;
  constexpr std::int64_t kVocabSize = 40;
  Samplers samplers(kVocabSize);
  const std::vector<float> masked(kVocabSize, -kInfinity);
  const std::vector<float> flat(kVocabSize, 1.0F);
  const std::vector<TokenId> token = {5};
  const std::vector<SamplingRow> plain = {{.slot = 0}};
  const std::vector<SamplingRow> banned = {
      {.slot = 0, .allowed_token_ids = token, .banned_token_ids = token}};
  auto ticket = samplers.cuda().sample(samplers.upload(masked), kVocabSize, kVocabSize, plain);
  CHECK_FALSE(samplers.cuda().collect(ticket)[0].is_finite);
  ticket = samplers.cuda().sample(samplers.upload(flat), kVocabSize, kVocabSize, banned);
  CHECK_FALSE(samplers.cuda().collect(ticket)[0].is_finite);
}

TEST_CASE("many batches are queued before the first is collected") {
  if (!testing::has_cuda_device()) return;
  constexpr std::int64_t kVocabSize = 5000;
  std::mt19937 generator(4);
  Samplers samplers(kVocabSize);
  samplers.reset_penalties(1, {}, {});
  const std::vector<float> logits = random_logits(Shape::kNormal, 2, kVocabSize, generator);
  const float* device = samplers.upload(logits);
  std::vector<std::uint64_t> tickets;
  std::vector<std::vector<SampledToken>> expected;
  std::vector<SamplingRow> rows(2);
  for (std::uint64_t step = 0; step < 20; ++step) {
    rows[0] = {.slot = 0, .top_p = 0.9F, .seed = 5, .position = step, .num_logprobs = 3};
    rows[1] = {.slot = 1, .temperature = 0.0F, .presence_penalty = 0.2F};
    tickets.push_back(samplers.cuda().sample(device, kVocabSize, kVocabSize, rows));
    expected.push_back(samplers.cpu().sample(logits.data(), kVocabSize, kVocabSize, rows));
  }
  for (std::size_t i = 0; i < tickets.size(); ++i) {
    check_equal(samplers.cuda().collect(tickets[i]), expected[i], rows,
                "batch " + std::to_string(i));
  }
  CHECK(samplers.feedback_tokens()[1] == expected.back()[1].token_id);
}

TEST_CASE("log-probabilities of all of the vocabulary") {
  if (!testing::has_cuda_device()) return;
  for (const std::int64_t vocab_size : {257, 50001}) {
    std::mt19937 generator(9);
    Samplers samplers(vocab_size);
    const auto all = static_cast<std::int32_t>(vocab_size);
    const std::vector<float> logits = random_logits(Shape::kNormal, 3, vocab_size, generator);
    const std::vector<SamplingRow> rows = {{.slot = 0, .temperature = 0.0F, .num_logprobs = all},
                                           {.slot = 1, .seed = 1, .num_logprobs = 3},
                                           {.slot = 2, .seed = 2, .num_logprobs = all}};
    const auto ticket =
        samplers.cuda().sample(samplers.upload(logits), vocab_size, vocab_size, rows);
    const std::vector<SampledToken> sampled = samplers.cuda().collect(ticket);
    CHECK(std::ssize(sampled[0].logprobs) == vocab_size + 1);  // the chosen one comes first
    check_equal(sampled, samplers.cpu().sample(logits.data(), vocab_size, vocab_size, rows), rows,
                "all");
  }
}

TEST_CASE("an allow list larger than usual, and no rows at all") {
  if (!testing::has_cuda_device()) return;
  constexpr std::int64_t kVocabSize = 100000;
  std::mt19937 generator(6);
  Samplers samplers(kVocabSize);
  const std::vector<float> logits = random_logits(Shape::kNormal, 1, kVocabSize, generator);
  std::vector<TokenId> allowed;
  for (TokenId token = 1; token < kVocabSize; token += 2) allowed.push_back(token);
  const std::vector<SamplingRow> rows = {
      {.slot = 0, .top_p = 0.9F, .seed = 1, .num_logprobs = 300, .allowed_token_ids = allowed}};
  const auto ticket = samplers.cuda().sample(samplers.upload(logits), kVocabSize, kVocabSize, rows);
  check_equal(samplers.cuda().collect(ticket),
              samplers.cpu().sample(logits.data(), kVocabSize, kVocabSize, rows), rows, "allowed");
  CHECK(samplers.cuda().collect(samplers.cuda().sample(nullptr, 1, 1, {})).empty());
}

}  // namespace llmrun
