// From chat messages to ids, against apply_chat_template(tokenize=True) of Hugging Face.
#include "engine/prompt_processor.h"

#include <map>
#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "tests/support/chat_template_ids.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::digest_of_ids;
using testing::kChatTemplateData;
using testing::read_chat_template_data;

using Json = nlohmann::ordered_json;

std::shared_ptr<const Tokenizer> load_test_tokenizer(const std::string& name) {
  return load_tokenizer(LLMRUN_SOURCE_DIR "/tests/data/tokenizer/" + name);
}

TEST_CASE("ids of conversations are those of Hugging Face") {
  const Json conversations = read_chat_template_data("conversations.json");
  const Json goldens = read_chat_template_data("ids.json");
  REQUIRE(goldens.size() >= 60);
  std::map<std::string, std::shared_ptr<const Tokenizer>> tokenizers;
  for (const auto& [file, golden] : goldens.items()) {
    CAPTURE(file);
    const auto tokenizer_name = golden["tokenizer"].get<std::string>();
    CAPTURE(tokenizer_name);
    auto& tokenizer = tokenizers[tokenizer_name];
    if (!tokenizer) tokenizer = load_test_tokenizer(tokenizer_name);
    const std::string source =
        read_file(kChatTemplateData + "templates/" + file, 1 << 20, ErrorKind::kInput);
    const PromptProcessor prompts(tokenizer, ChatTemplate::parse(source, file));
    REQUIRE(golden["ids"].size() == conversations.size());
    for (std::size_t i = 0; i < conversations.size(); ++i) {
      const Json& conversation = conversations[i];
      if (conversation["messages"].empty()) continue;  // transformers fails before the template
      const auto name = conversation["name"].get<std::string>();
      CAPTURE(name);
      const auto found =
          prompts.from_messages(conversation["messages"], conversation.value("tools", Json()),
                                conversation.value("variables", Json()));
      CAPTURE(found.error.message);
      CHECK((found.error.empty() ? digest_of_ids(found.token_ids) : Json()) == golden["ids"][i]);
    }
  }
}

TEST_CASE(
    "special tokens are variables of the template, unless the model has none or a request "
    "says otherwise") {
  const auto ids_of = [](const char* tokenizer, const char* source, const Json& arguments) {
    const PromptProcessor prompts(load_test_tokenizer(tokenizer),
                                  ChatTemplate::parse(source, "test"));
    const auto result = prompts.from_messages(Json::array(), nullptr, arguments);
    CHECK(result.error.empty());
    return result.token_ids;
  };
  const auto qwen = load_test_tokenizer("qwen2");
  CHECK(ids_of("qwen2", "{{ eos_token }}{{ pad_token }}", nullptr) ==
        std::vector<TokenId>{*qwen->special_token_ids().eos, *qwen->special_token_ids().pad});
  CHECK(ids_of("qwen2", "{{ bos_token is defined }}", nullptr) == qwen->encode("False", false));
  CHECK(ids_of("qwen2", "{{ eos_token }}", {{"eos_token", "x"}}) == qwen->encode("x", false));
}

TEST_CASE("a folder with no more than a tokenizer's files") {
  const testing::TemporaryFolder folder;
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"}) {
    folder.write(file,
                 read_file(std::string(LLMRUN_SOURCE_DIR "/tests/data/tokenizer/qwen2/") + file,
                           1 << 20, ErrorKind::kInput));
  }
  CHECK(load_model_tokenizer(folder.path())->vocab_size() == 907);
  CHECK_THROWS_AS(load_model_tokenizer(folder.path() / "missing"), Error);
}

}  // namespace
}  // namespace llmrun
