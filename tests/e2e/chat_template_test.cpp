// Messages through the built program: its prompt ids against Hugging Face's
// apply_chat_template(tokenize=True), for the tokenizers of the families it names.
#include <algorithm>
#include <string>
#include <vector>

#include "tests/e2e/generate_fixture.h"
#include "tests/support/chat_template_ids.h"

namespace llmrun {
namespace {

using testing::digest_of_ids;
using testing::kChatTemplateData;
using testing::parse_lines;
using testing::read_chat_template_data;
using testing::run_command;

using Json = nlohmann::ordered_json;

// What a row may hold: arguments of a template are strings, numbers or booleans.
bool is_row(const Json& conversation) {
  const Json arguments = conversation.value("variables", Json::object());
  return std::none_of(arguments.begin(), arguments.end(),
                      [](const Json& value) { return value.is_structured(); }) &&
         !conversation["messages"].empty();
}

std::string make_row(const Json& conversation, std::size_t index) {
  Json row = {{"id", std::to_string(index)}, {"messages", conversation["messages"]}};
  if (conversation.contains("tools")) row["tools"] = conversation["tools"];
  if (conversation.contains("variables")) row["chat_template_kwargs"] = conversation["variables"];
  return row.dump() + "\n";
}

TEST_CASE("the program reads messages as Hugging Face does") {
  const Json conversations = read_chat_template_data("conversations.json");
  const Json goldens = read_chat_template_data("ids.json");
  std::string rows;
  for (std::size_t i = 0; i < conversations.size(); ++i) {
    if (is_row(conversations[i])) rows += make_row(conversations[i], i);
  }
  for (const char* file :
       {"llama2_chat.jinja", "llama3_1.jinja", "mistral_v03.jinja", "qwen2_5.jinja", "qwen3.jinja",
        "gemma.jinja", "phi3.jinja", "deepseek_llm.jinja", "deepseek_r1.jinja"}) {
    CAPTURE(file);
    const Json& golden = goldens[file];
    const auto tokenizer = golden["tokenizer"].get<std::string>();
    const auto result = run_command(
        {LLMRUN_BINARY_DIR "/llmrun", "generate", "-", "--model",
         LLMRUN_SOURCE_DIR "/datasets/demo/model", "--tokenizer",
         LLMRUN_SOURCE_DIR "/tests/data/tokenizer/" + tokenizer, "--chat-template",
         kChatTemplateData + "templates/" + file, "--return-token-ids", "--max-tokens", "1"},
        rows);
    int num_compared = 0;
    for (const nlohmann::json& record : parse_lines(result.out)) {
      const auto index = std::stoul(record.at("id").get<std::string>());
      CAPTURE(conversations[index]["name"].get<std::string>());
      const Json& expected = golden["ids"][index];
      const bool has_error = record.contains("error");
      if (has_error && record["error"]["code"] == "unsupported") continue;  // a picture
      if (expected.is_null()) {
        CHECK(has_error);
      } else if (expected[0] < 1024) {  // the demo model's context
        REQUIRE_MESSAGE(record.contains("prompt_token_ids"), record.dump());
        CHECK(digest_of_ids(record.at("prompt_token_ids").get<std::vector<TokenId>>()) == expected);
        ++num_compared;
      }
    }
    CHECK(num_compared >= 6);  // some templates refuse much
  }
}

}  // namespace
}  // namespace llmrun
