#include "tools/eval/answer_source.h"

#include <utility>

namespace llmrun {
namespace {

Answers to_answers(std::uint64_t key, RequestOutput output) {
  Answers answers{.key = key,
                  .samples = {},
                  .num_prompt_tokens = std::ssize(output.prompt_token_ids),
                  .num_output_tokens = output.num_output_tokens,
                  .error = std::move(output.error)};
  for (CompletionOutput& sample : output.outputs) {
    answers.samples.push_back({.index = sample.index,
                               .text = std::move(sample.text),
                               .finish_reason = to_string(sample.finish_reason),
                               .num_tokens = std::ssize(sample.token_ids),
                               .error = {}});
  }
  return answers;
}

}  // namespace

void EngineAnswers::submit(AnswerRequest request) {
  const PromptProcessor& prompts = *created_->prompts;
  PromptProcessor::Result prompt = request.messages.is_null()
                                       ? prompts.from_text(request.prompt)
                                       : prompts.from_messages(request.messages, nullptr, nullptr);
  if (!prompt.error.empty()) {
    refused_.push_back({.key = request.key, .samples = {}, .error = std::move(prompt.error)});
    return;
  }
  EngineRequest engine_request;
  engine_request.prompt_token_ids = std::move(prompt.token_ids);
  engine_request.params = std::move(request.params);
  engine_request.key = request.key;
  keys_.emplace(created_->engine->add_request(std::move(engine_request)), request.key);
}

bool EngineAnswers::has_unfinished() const {
  return !keys_.empty() || !refused_.empty();
}

std::vector<Answers> EngineAnswers::advance() {
  std::vector<Answers> finished = std::exchange(refused_, {});
  LlmEngine& engine = *created_->engine;
  if (engine.has_unfinished()) engine.step();
  for (RequestOutput& output : engine.take_outputs()) {
    const auto found = keys_.find(output.id);
    finished.push_back(to_answers(found->second, std::move(output)));
    keys_.erase(found);
  }
  return finished;
}

void EngineAnswers::abort_all() {
  LlmEngine& engine = *created_->engine;
  engine.abort_all();
  while (engine.has_unfinished()) engine.step();
  static_cast<void>(engine.take_outputs());
  keys_.clear();
  refused_.clear();
}

}  // namespace llmrun
