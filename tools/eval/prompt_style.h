// How a question is put to a model: the prompts of lm-evaluation-harness and OpenCompass, or the
// user's own.
#pragma once

#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/eval/answer_extraction.h"
#include "tools/eval/eval_dataset.h"

namespace llmrun {

struct PromptStyle {
  std::string name;               // as given by --prompt
  std::string question;           // the prompt; {question} stands for the question
  std::string answer_lead;        // between a prompt and its solved answer
  std::string example_end;        // between a solved answer and the next prompt
  std::string final_answer;       // replaces "\n#### " in solved examples; empty: they stay
  std::string final_end;          // behind the number of a solved example
  std::vector<std::string> stop;  // ends an answer
  AnswerExtractor::Strict strict;
  ExtractionRule rule = ExtractionRule::kStrictMatch;  // what the style's own harness scores by
};

// lm-eval, lm-eval-cot, opencompass, plain (the question alone), or a text that holds {question}.
// Throws Error(kUsage) for any other.
PromptStyle prompt_style(const std::string& name);

// A completion: the solved examples and the question as one text.
std::string completion_prompt(const PromptStyle& style, std::span<const EvalQuestion> examples,
                              const EvalQuestion& question);
// A chat: each example is a turn of the user and one of the assistant. `system` may be empty.
nlohmann::ordered_json chat_prompt(const PromptStyle& style, const std::string& system,
                                   std::span<const EvalQuestion> examples,
                                   const EvalQuestion& question);

}  // namespace llmrun
