// Who answers the questions of an evaluation: an engine in this process, or a server.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/engine_factory.h"
#include "engine/sequence/request.h"

namespace llmrun {

// One answer to a question.
struct SampleAnswer {
  std::int32_t index = 0;  // which repetition it is
  std::string text;
  std::string finish_reason;  // "stop", "length"; empty when it failed
  std::int64_t num_tokens = 0;
  RequestError error;  // not empty: it failed, and the rest is meaningless
};

struct AnswerRequest {
  std::uint64_t key = 0;            // the caller's name for it
  std::string prompt;               // a completion, when there are no messages
  nlohmann::ordered_json messages;  // null: none
  SamplingParams params;            // n samples, of the seeds params.seed and following
};

// `samples` is empty when the request failed as a whole.
struct Answers {
  std::uint64_t key = 0;
  std::vector<SampleAnswer> samples;  // index: within the request
  std::int64_t num_prompt_tokens = 0;
  std::int64_t num_output_tokens = 0;
  RequestError error;
};

class AnswerSource {
 public:
  virtual ~AnswerSource() = default;
  virtual void submit(AnswerRequest request) = 0;
  virtual bool has_unfinished() const = 0;
  // Goes on with what was submitted for a moment, and returns what was finished.
  virtual std::vector<Answers> advance() = 0;
  // Gives up what is not finished.
  virtual void abort_all() = 0;
  virtual EngineStats stats() const = 0;
};

class EngineAnswers final : public AnswerSource {
 public:
  // `created` must outlive it.
  explicit EngineAnswers(CreatedEngine& created) : created_(&created) {}

  void submit(AnswerRequest request) override;
  bool has_unfinished() const override;
  std::vector<Answers> advance() override;
  void abort_all() override;
  EngineStats stats() const override { return created_->engine->stats(); }

 private:
  CreatedEngine* created_;
  std::unordered_map<RequestId, std::uint64_t> keys_;
  std::vector<Answers> refused_;  // before they came to the engine
};

}  // namespace llmrun
