// LateBackend: a backend that chooses tokens as late as a device may: when the next step is
// uploaded, or when somebody waits for them. Everything else goes straight to the backend inside.
//
// What a caller promised to keep until a step is collected (the spans of a SamplingRow) is then
// read after the host has planned the next step, and tokens of a step in flight are known to
// nobody but the feedback slots.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/backend.h"

namespace llmrun::testing {

class LateBackend final : public Backend {
 public:
  explicit LateBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  std::string name() const override { return inner_->name(); }
  std::string description() const override { return inner_->description() + ", late"; }
  DType activation_dtype() const override { return inner_->activation_dtype(); }
  std::size_t free_bytes() const override { return inner_->free_bytes(); }
  std::size_t total_bytes() const override { return inner_->total_bytes(); }
  std::unique_ptr<DeviceBuffer> allocate(std::size_t num_bytes) override {
    return inner_->allocate(num_bytes);
  }
  void copy_to_device(Tensor device, const void* host) override {
    inner_->copy_to_device(device, host);
  }
  void copy_to_host(void* host, Tensor device) override { inner_->copy_to_host(host, device); }
  std::unique_ptr<LinearWeight> make_linear(const LinearSource& source, DType dtype) override {
    return inner_->make_linear(source, dtype);
  }
  std::unique_ptr<LinearWeight> make_gate_up(const LinearSource& source, DType dtype) override {
    return inner_->make_gate_up(source, dtype);
  }
  std::unique_ptr<LinearWeight> make_random_linear(std::int64_t num_rows, std::int64_t num_columns,
                                                   bool has_bias, DType dtype, float stddev,
                                                   std::uint64_t seed) override {
    return inner_->make_random_linear(num_rows, num_columns, has_bias, dtype, stddev, seed);
  }
  std::unique_ptr<LinearWeight> make_random_gate_up(std::int64_t intermediate_size,
                                                    std::int64_t hidden_size, DType dtype,
                                                    float stddev, std::uint64_t seed) override {
    return inner_->make_random_gate_up(intermediate_size, hidden_size, dtype, stddev, seed);
  }
  DeviceTensor make_vector(Tensor host) override { return inner_->make_vector(host); }

  ForwardBatch upload(const StepInputs& inputs) override {
    choose_tokens();
    return inner_->upload(inputs);
  }
  void execute(const ForwardBatch& batch, const std::function<void()>& work) override {
    inner_->execute(batch, work);
  }
  std::uint64_t sample(Tensor logits, std::span<const SamplingRow> rows,
                       std::int64_t vocab_size) override {
    Pending pending{.shape = {logits.dim(0), logits.dim(1)},
                    .logits = std::vector<float>(static_cast<std::size_t>(logits.num_elements())),
                    .rows = {rows.begin(), rows.end()},
                    .vocab_size = vocab_size};
    inner_->copy_to_host(pending.logits.data(), logits);
    pending_.push_back(std::move(pending));
    return ++last_ticket_;
  }
  std::vector<SampledToken> collect(std::uint64_t ticket) override {
    choose_tokens();
    LLMRUN_CHECK(!tickets_.empty());
    LLMRUN_CHECK(ticket == last_collected_ + 1);
    last_collected_ = ticket;
    const std::uint64_t inner_ticket = tickets_.front();
    tickets_.pop_front();
    std::vector<SampledToken> tokens = inner_->collect(inner_ticket);
    if (false_token && !tokens.empty()) tokens.back().token_id = *false_token;
    return tokens;
  }
  // What a broken device says it chose, instead of the last row's token.
  std::optional<TokenId> false_token;

  void reset_penalty_state(std::int32_t slot, std::span<const TokenId> prompt_tokens,
                           std::span<const TokenId> output_tokens,
                           std::int64_t vocab_size) override {
    choose_tokens();
    inner_->reset_penalty_state(slot, prompt_tokens, output_tokens, vocab_size);
  }

  void embedding(Tensor out, const LinearWeight& table, Tensor ids) override {
    inner_->embedding(out, table, ids);
  }
  void linear(Tensor out, Tensor x, const LinearWeight& weight) override {
    inner_->linear(out, x, weight);
  }
  void linear_add(Tensor inout, Tensor x, const LinearWeight& weight) override {
    inner_->linear_add(inout, x, weight);
  }
  void embedding_add(Tensor inout, const LinearWeight& table, Tensor rows) override {
    inner_->embedding_add(inout, table, rows);
  }
  void gate_up(Tensor out, Tensor x, const LinearWeight& weight, Activation activation) override {
    inner_->gate_up(out, x, weight, activation);
  }
  void activate(Tensor inout, Activation activation) override {
    inner_->activate(inout, activation);
  }
  void add(Tensor inout, Tensor x) override { inner_->add(inout, x); }
  void scale(Tensor inout, float factor) override { inner_->scale(inout, factor); }
  void soft_cap(Tensor inout, float cap) override { inner_->soft_cap(inout, cap); }
  void layer_norm(Tensor out, Tensor x, Tensor weight, Tensor bias, float eps) override {
    inner_->layer_norm(out, x, weight, bias, eps);
  }
  void norm_heads(Tensor qkv, std::int32_t first_head, std::int32_t num_heads, Tensor weight,
                  float eps) override {
    inner_->norm_heads(qkv, first_head, num_heads, weight, eps);
  }
  void route(Tensor inout, std::int32_t top_k) override { inner_->route(inout, top_k); }
  void add_experts(Tensor inout, Tensor x, Tensor routing, std::span<const Expert> experts,
                   Activation activation, Tensor scratch) override {
    inner_->add_experts(inout, x, routing, experts, activation, scratch);
  }
  void rms_norm(Tensor out, Tensor x, Tensor weight, float eps) override {
    inner_->rms_norm(out, x, weight, eps);
  }
  void rope_and_store_kv(Tensor qkv, KvCacheView kv, const ForwardBatch& batch, Tensor cos_sin,
                         std::int32_t num_query_heads) override {
    inner_->rope_and_store_kv(qkv, kv, batch, cos_sin, num_query_heads);
  }
  void attention(Tensor out, Tensor qkv, KvCacheView kv, const ForwardBatch& batch,
                 const AttentionParams& params) override {
    inner_->attention(out, qkv, kv, batch, params);
  }
  void gather_rows(Tensor out, Tensor x, Tensor indices) override {
    inner_->gather_rows(out, x, indices);
  }

 private:
  // A call of sample() whose tokens nobody has needed yet.
  struct Pending {
    std::vector<std::int64_t> shape;
    std::vector<float> logits;
    std::vector<SamplingRow> rows;
    std::int64_t vocab_size;
  };

  void choose_tokens() {
    for (Pending& pending : pending_) {
      const Tensor logits(pending.logits.data(), DType::kF32, {pending.shape[0], pending.shape[1]});
      tickets_.push_back(inner_->sample(logits, pending.rows, pending.vocab_size));
    }
    pending_.clear();
  }

  std::unique_ptr<Backend> inner_;
  std::vector<Pending> pending_;
  std::deque<std::uint64_t> tickets_;  // of the backend inside, in the order of ours
  std::uint64_t last_ticket_ = 0;
  std::uint64_t last_collected_ = 0;
};

}  // namespace llmrun::testing
