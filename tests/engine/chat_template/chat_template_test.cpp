#include "engine/chat_template/chat_template.h"

#include <ctime>
#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"

namespace llmrun {
namespace {

const std::string kDataDir = std::string(LLMRUN_SOURCE_DIR) + "/tests/data/chat_template/";

nlohmann::ordered_json read_data(const std::string& name) {
  return parse_ordered_json(read_file(kDataDir + name, 64 << 20, ErrorKind::kInput), name);
}

std::string render(const std::string& source, const nlohmann::ordered_json& variables = {}) {
  ChatTemplateOptions options;
  options.variables = variables;
  return ChatTemplate::parse(source, "test").render(nlohmann::ordered_json::array(), options);
}

TEST_CASE("templates mean what jinja2 means") {
  for (const auto& row : read_data("semantics.json")) {
    const auto source = row["template"].get<std::string>();
    CAPTURE(source);
    const std::string error = row.value("error", "");
    if (error == "parse") {
      CHECK_THROWS_AS(ChatTemplate::parse(source, "test"), Error);
    } else if (error == "render") {
      CHECK_THROWS_AS(render(source, row["variables"]), ChatTemplateError);
    } else {
      CHECK(render(source, row["variables"]) == row["output"].get<std::string>());
    }
  }
}

}  // namespace
}  // namespace llmrun
