#include "tools/eval/prompt_style.h"

#include <fmt/format.h>

#include "engine/core/error.h"
#include "tools/eval/answer_extraction.h"

namespace llmrun {
namespace {

constexpr std::string_view kPlaceholder = "{question}";

// lm-evaluation-harness: lm_eval/tasks/gsm8k/gsm8k.yaml, gsm8k-cot.yaml. OpenCompass:
// configs/datasets/gsm8k/gsm8k_gen_1d7fe4.py, whose turns are joined by newlines.
std::vector<PromptStyle> known_styles() {
  return {
      {.name = "lm-eval",
       .question = "Question: {question}\nAnswer:",
       .answer_lead = " ",
       .example_end = "\n\n",
       .final_answer = "",
       .final_end = "",
       .stop = {"Question:", "</s>", "<|im_end|>"},
       .strict = {}},
      {.name = "lm-eval-cot",
       .question = "Q: {question}\n\nA:",
       .answer_lead = " ",
       .example_end = "\n\n",
       .final_answer = " The answer is ",
       .final_end = ".",
       .stop = {"Q:", "</s>", "<|im_end|>"},
       .strict = {.prefix = "The answer is ", .wants_character_behind = true}},
      {.name = "opencompass",
       .question = "Question: {question}\nLet's think step by step\nAnswer:",
       .answer_lead = "\n",
       .example_end = "\n",
       .final_answer = "\nThe answer is ",
       .final_end = "\n",
       .stop = {"Question:"},
       .strict = {},
       .rule = ExtractionRule::kOpenCompass},
      {.name = "plain",
       .question = "{question}",
       .answer_lead = "\n",
       .example_end = "\n\n",
       .final_answer = "",
       .final_end = "",
       .stop = {},
       .strict = {}},
  };
}

std::string filled(const PromptStyle& style, const EvalQuestion& question) {
  std::string text = style.question;
  text.replace(text.find(kPlaceholder), kPlaceholder.size(), question.question);
  return text;
}

std::string solved(const PromptStyle& style, const EvalQuestion& example) {
  const std::size_t marker = example.answer.rfind(kAnswerMarker);
  if (style.final_answer.empty() || marker == std::string::npos) return example.answer;
  const std::size_t body_end = example.answer.find_last_not_of('\n', marker - (marker > 0 ? 1 : 0));
  const std::string body = marker == 0 ? std::string() : example.answer.substr(0, body_end + 1);
  return body + style.final_answer + example.answer.substr(marker + kAnswerMarker.size()) +
         style.final_end;
}

}  // namespace

PromptStyle prompt_style(const std::string& name) {
  std::string names;
  for (PromptStyle& style : known_styles()) {
    if (style.name == name) return style;
    names += style.name + ", ";
  }
  if (name.find(kPlaceholder) != std::string::npos) {
    PromptStyle style = known_styles().back();
    style.name = name;
    style.question = name;
    return style;
  }
  throw Error(ErrorKind::kUsage,
              fmt::format("--prompt must be one of {}or a text that holds {}, got '{}'", names,
                          kPlaceholder, name));
}

std::string completion_prompt(const PromptStyle& style, std::span<const EvalQuestion> examples,
                              const EvalQuestion& question) {
  std::string text;
  for (const EvalQuestion& example : examples) {
    text += filled(style, example) + style.answer_lead + solved(style, example) + style.example_end;
  }
  return text + filled(style, question);
}

nlohmann::ordered_json chat_prompt(const PromptStyle& style, const std::string& system,
                                   std::span<const EvalQuestion> examples,
                                   const EvalQuestion& question) {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  const auto add = [&](const char* role, std::string content) {
    messages.push_back({{"role", role}, {"content", std::move(content)}});
  };
  if (!system.empty()) add("system", system);
  for (const EvalQuestion& example : examples) {
    add("user", filled(style, example));
    add("assistant", solved(style, example));
  }
  add("user", filled(style, question));
  return messages;
}

}  // namespace llmrun
