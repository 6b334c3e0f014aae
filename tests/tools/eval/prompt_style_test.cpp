#include "tools/eval/prompt_style.h"

#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

EvalQuestion question(const char* text, const char* answer = "#### 1") {
  EvalQuestion result;
  result.question = text;
  result.answer = answer;
  return result;
}

}  // namespace

TEST_CASE("the prompts of the harnesses") {
  const std::vector<EvalQuestion> examples = {question("How many?", "1 + 1 = 2\n#### 2")};
  const EvalQuestion asked = question("And now?");
  CHECK(completion_prompt(prompt_style("lm-eval"), {}, asked) == "Question: And now?\nAnswer:");
  CHECK(completion_prompt(prompt_style("lm-eval"), examples, asked) ==
        "Question: How many?\nAnswer: 1 + 1 = 2\n#### 2\n\nQuestion: And now?\nAnswer:");
  CHECK(completion_prompt(prompt_style("lm-eval-cot"), examples, asked) ==
        "Q: How many?\n\nA: 1 + 1 = 2 The answer is 2.\n\nQ: And now?\n\nA:");
  CHECK(completion_prompt(prompt_style("opencompass"), examples, asked) ==
        "Question: How many?\nLet's think step by step\nAnswer:\n1 + 1 = 2\nThe answer is 2\n\n"
        "Question: And now?\nLet's think step by step\nAnswer:");
  CHECK(completion_prompt(prompt_style("Solve: {question}!"), {}, asked) == "Solve: And now?!");
  CHECK_THROWS_AS(prompt_style("gsm8k"), Error);
}

TEST_CASE("a chat has a turn for each example, and its system message first") {
  const std::vector<EvalQuestion> examples = {question("How many?", "#### 2")};
  const auto messages = chat_prompt(prompt_style("plain"), "Be exact.", examples, question("Now?"));
  REQUIRE(messages.size() == 4);
  CHECK(messages[0]["role"] == "system");
  CHECK(messages[1]["content"] == "How many?");
  CHECK(messages[2] == nlohmann::ordered_json{{"role", "assistant"}, {"content", "#### 2"}});
  CHECK(messages[3]["content"] == "Now?");
}

TEST_CASE("an example that is nothing but its number") {
  const std::vector<EvalQuestion> examples = {question("How many?", "#### 2")};
  CHECK(completion_prompt(prompt_style("lm-eval-cot"), examples, question("Now?")) ==
        "Q: How many?\n\nA:  The answer is 2.\n\nQ: Now?\n\nA:");
}

}  // namespace llmrun
