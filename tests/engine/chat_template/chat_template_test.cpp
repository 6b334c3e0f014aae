#include "engine/chat_template/chat_template.h"

#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <pthread.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"

namespace llmrun {
namespace {

const std::string kDataDir = std::string(LLMRUN_SOURCE_DIR) + "/tests/data/chat_template/";

nlohmann::ordered_json read_data(const std::string& name) {
  return parse_ordered_json(read_file(kDataDir + name, 64 << 20, ErrorKind::kInput), name);
}

// The time the goldens were made at, on the clock of this machine.
std::time_t golden_time() {
  std::tm local{};
  local.tm_year = 2024 - 1900;
  local.tm_mon = 6;
  local.tm_mday = 26;
  local.tm_hour = 12;
  local.tm_min = 34;
  local.tm_sec = 56;
  local.tm_isdst = -1;
  return std::mktime(&local);
}

std::string render(const std::string& source, const nlohmann::ordered_json& variables = {}) {
  ChatTemplateOptions options;
  options.variables = variables;
  options.now = golden_time();
  return ChatTemplate::parse(source, "test").render(nlohmann::ordered_json::array(), options);
}

ChatTemplateOptions golden_options(const nlohmann::ordered_json& conversation) {
  ChatTemplateOptions options;
  options.now = golden_time();
  options.tools = conversation.value("tools", nlohmann::ordered_json());
  options.variables = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  if (conversation.contains("variables")) options.variables.update(conversation["variables"]);
  return options;
}

using Files = std::map<std::string, std::string>;

// Model folder with the given files, removed at the end.
class ModelDir {
 public:
  explicit ModelDir(const Files& files) {
    char name[] = "/tmp/llmrun_chat_template_XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    path_ = name;
    for (const auto& [file, text] : files) {
      std::filesystem::create_directories((path_ / file).parent_path());
      std::ofstream(path_ / file) << text;
    }
  }
  ~ModelDir() { std::filesystem::remove_all(path_); }
  ModelDir(const ModelDir&) = delete;
  ModelDir& operator=(const ModelDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

std::string message_of(const std::string& source) {
  try {
    return render(source);
  } catch (const std::exception& error) {
    return error.what();
  }
}

// Rows of {template, output or error} over common variables, made by jinja2.
void check_rows(const std::string& file) {
  const nlohmann::ordered_json data = read_data(file);
  for (const auto& row : data["rows"]) {
    const auto source = row["template"].get<std::string>();
    CAPTURE(source);
    const nlohmann::ordered_json& variables =
        row.contains("variables") ? row["variables"] : data["variables"];
    const std::string error = row.value("error", "");
    if (error == "parse") {
      CHECK_THROWS_AS(ChatTemplate::parse(source, "test"), Error);
    } else if (error == "render") {
      CHECK_THROWS_AS(render(source, variables), ChatTemplateError);
    } else {
      CHECK(render(source, variables) == row["output"].get<std::string>());
    }
  }
}

TEST_CASE("the rules of the language are those of jinja2") {
  check_rows("semantics.json");
}

TEST_CASE("random templates mean what jinja2 says they mean") {
  check_rows("expressions.json");
}

TEST_CASE("model templates render as Hugging Face renders them") {
  const nlohmann::ordered_json conversations = read_data("conversations.json");
  const nlohmann::ordered_json goldens = read_data("goldens.json");
  REQUIRE(goldens.size() >= 60);
  for (const auto& [file, outputs] : goldens.items()) {
    CAPTURE(file);
    const std::string source =
        read_file(kDataDir + "templates/" + file, 1 << 20, ErrorKind::kInput);
    const ChatTemplate chat_template = ChatTemplate::parse(source, file);
    REQUIRE(outputs.size() == conversations.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const nlohmann::ordered_json& conversation = conversations[i];
      const auto name = conversation["name"].get<std::string>();
      CAPTURE(name);
      const ChatTemplateOptions options = golden_options(conversation);
      if (outputs[i].is_null()) {
        CHECK_THROWS_AS(chat_template.render(conversation["messages"], options), ChatTemplateError);
      } else {
        CHECK(chat_template.render(conversation["messages"], options) ==
              outputs[i].get<std::string>());
      }
    }
  }
}

TEST_CASE("a template that does not parse names file, line and column") {
  const auto parse_error = [](const std::string& source) -> std::string {
    try {
      ChatTemplate::parse(source, "chat_template.jinja");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kModel);
      return error.what();
    }
    return "";
  };
  CHECK(parse_error("a\n{% if x %}b") ==
        "chat_template.jinja: line 2 column 12: the template ends without 'elif' or 'else' or "
        "'endif'");
  CHECK(parse_error("é {{ x |nofilter }}") ==
        "chat_template.jinja: line 1 column 9: no filter named 'nofilter'");
  CHECK(parse_error("x\r\n\r\n{% include 'a' %}") ==
        "chat_template.jinja: line 3 column 4: the tag 'include' is not supported");
  for (const char* source :
       {"{{",
        "{{ x",
        "{% if x",
        "{{ 'a }}",
        "{# x",
        "{% raw %}",
        "{{ x }",
        "{{ (1 }}",
        "{{ [1,2) }}",
        "{% endif %}",
        "{% for x %}{% endfor %}",
        "{% for 1 in x %}{% endfor %}",
        "{{ 1 + }}",
        "{% break %}",
        "{% set true = 1 %}",
        "{% macro %}{% endmacro %}",
        "{{ x is nosuchtest }}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        "{% block a %}{% endblock %}",
        "{% autoescape true %}{% endautoescape %}",
        "{% for a in b recursive %}{% endfor %}",
        "{{ f(a=1, 2) }}",
        "{{ 99999999999999999999 }}",
        "{{ '\\ud800' }}",
        "{{ a b }}",
        "{{ ! }}",
        "\xff",
        "{% for x in y %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}"}) {
    CAPTURE(source);
    CHECK_FALSE(parse_error(source).empty());
  }
}

TEST_CASE("an error while rendering names line and column") {
  const ChatTemplate chat_template =
      ChatTemplate::parse("ok\n  {{ raise_exception('no ' ~ messages[0].role) }}", "t.jinja");
  try {
    chat_template.render({{{"role", "system"}}}, {});
    FAIL("no error");
  } catch (const ChatTemplateError& error) {
    CHECK(std::string(error.what()) == "t.jinja: line 2 column 21: no system");
    CHECK(error.line() == 2);
    CHECK(error.column() == 21);
  }
  CHECK(message_of("{{ a.b }}") == "test: line 1 column 6: 'a' is undefined");
  CHECK(message_of("{{ {}.b.c }}").find("'dict object' has no attribute 'b'") != std::string::npos);
  CHECK(message_of("{{ 1 // 0 }}").find("by zero") != std::string::npos);
  CHECK(message_of("{{ 'a'.encode() }}").find("is not supported") != std::string::npos);
  CHECK(message_of("{{ 9223372036854775807 + 1 }}").find("64 bits") != std::string::npos);
  CHECK(message_of("{% set n = namespace(_x=1) %}").find("'_x'") != std::string::npos);
}

// Each of these would run for hours, exhaust the memory or overflow the stack.
const std::vector<std::string>& hostile_templates() {
  static const std::vector<std::string> kTemplates = {
      "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
      "{% macro f(x) %}{% for i in [1] %}{% if 1 %}{{ [f([x])] }}{% endif %}{% endfor %}"
      "{% endmacro %}{{ f(1) }}",
      "{% for i in range(1000000000) %}x{% endfor %}",
      "{{ range(-9223372036854775807, 9223372036854775807)|length }}",
      "{% for i in range(3000) %}{% for j in range(3000) %}{% for k in range(3000) %}"
      "{% endfor %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}"
      "{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s='x' * 4000000) %}{% for i in range(100000) %}"
      "{% set ns.l = [ns.s ~ i, ns.l] %}{% endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}"
      "{% endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s].count %}"
      "{% endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% for x in [ns.s] %}"
      "{% set ns.s = loop %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = ns.s|map('upper') %}"
      "{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% endfor %}{{ ns.l|tojson }}",
      "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% set ns.m = [ns.m, ns.m] %}{% endfor %}{{ ns.l == ns.m }}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% "
      "endfor %}",
      "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
      "{{ 'x' * 1000000000000 }}",
      "{{ [1] * 1000000000000 }}",
      "{{ 'x'.center(1000000000000) }}",
      "{{ '%1000000000d' % 1 }}",
      "{{ 'x'|indent(1000000000000) }}",
      "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
      "{{ ('x' * 1000000).replace('', 'y' * 1000000) }}",
      "{% set s = 'a' * 10000000 %}{% for i in range(1000000) %}{{ s == s ~ '' }}{% endfor %}",
      "{% set s = 'a ' * 8000000 %}{{ s.split() | length }}",
      "{% set s = 'a,' * 8000000 %}{{ s.split(',') | length }}",
      "{% set s = 'a' * 4000000 %}{% for i in range(100000) %}{{ s.find('a' * 2000000 ~ 'b') }}"
      "{% endfor %}",
      "{% set s = 'a' * 4000000 %}{% for i in range(100000) %}{{ s.rfind('b' ~ 'a' * 60) }}"
      "{% endfor %}",
      "{% set s = 'a' * 4000000 %}{% for i in range(100000) %}{{ s.strip(s ~ 'b') }}{% endfor %}",
      "{% set s = 'a' * 4000000 %}{% for i in range(100000) %}{{ s.isalpha() }}{% endfor %}",
      "{% set s = ['a' * 4000000] * 10000 %}{{ s|sort|length }}{{ s|map('upper')|list|length }}"
      "{{ s|select('lower')|list|length }}",
      "{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}",
      "{% for i in range(100000) %}{% macro f() %}{% endmacro %}{{ range(1000)|list }}{% endfor %}",
      "{% for i in range(100000) %}{{ range(100000)|sort|unique|list|length }}{% endfor %}",
      "{{ range(100000)|batch(1)|slice(1000000000)|list }}",
      "{{ strftime_now('%c' * 100000) }}",
      "{% call f() %}{% endcall %}",
  };
  return kTemplates;
}

TEST_CASE("nesting in the source is limited") {
  const auto repeat = [](const std::string& text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  for (const int depth : {100, 10000}) {
    for (const std::string& source :
         {"{{ " + repeat("(", depth) + "1" + repeat(")", depth) + " }}",
          "{{ " + repeat("[", depth) + "1" + repeat("]", depth) + " }}",
          "{{ " + repeat("not ", depth) + "1 }}", "{{ " + repeat("-", depth) + "1 }}",
          "{{ x" + repeat(".x", depth) + " }}", "{{ x" + repeat("|trim", depth) + " }}",
          "{{ x" + repeat("[0]", depth) + " }}", "{{ x" + repeat("()", depth) + " }}",
          "{{ " + repeat("1 if 1 else ", depth) + "1 }}", "{{ 1 " + repeat("if 1 ", depth) + " }}",
          repeat("{% if 1 %}", depth) + repeat("{% endif %}", depth),
          repeat("{% for x in y %}", depth) + repeat("{% endfor %}", depth),
          "{% set " + repeat("(", depth) + "a" + repeat(")", depth) + " = 1 %}"}) {
      CHECK_THROWS_AS(ChatTemplate::parse(source, "test"), Error);
    }
  }
  // Chains of one level are no nesting.
  CHECK(render("{{ 1" + repeat(" + 1", 5000) + " }}") == "5001");
  CHECK(render("{{ 'a'" + repeat(" ~ 'a'", 50) + " }}") == repeat("a", 51));
  CHECK(render("{{ 0" + repeat(" or 0", 5000) + " }}") == "0");
  CHECK(render("{% if 0 %}" + repeat("{% elif 0 %}", 5000) + "{% endif %}") == "");
  CHECK(render(repeat("{% if 1 %}", 60) + "x" + repeat("{% endif %}", 60)) == "x");
  CHECK_THROWS_AS(ChatTemplate::parse(std::string((256U << 10) + 1, 'x'), "test"), Error);
}

TEST_CASE("hostile templates end in an error, on the small stack of a server's thread") {
  const auto nest = [](const std::string& open, const std::string& inner,
                       const std::string& close) {
    std::string out = inner;
    for (int i = 0; i < 16; ++i) out = open + out + close;
    return out;
  };
  const auto macro = [](const std::string& body) {
    return "{% macro f(x) %}" + body + "{% endmacro %}{{ f(1) }}";
  };
  std::vector<std::string> sources = hostile_templates();
  sources.insert(sources.end(),
                 {macro("{{ " + nest("f(", "1", ")") + " }}"),
                  macro("{{ " + nest("[1 + (", "f(1)", " ~ 1)]") + " }}"),
                  macro(nest("{% set a %}", "{{ f(1) }}", "{% endset %}")),
                  macro(nest("{% for a in [1] if 1 %}", "{{ f(1) }}", "{% endfor %}")),
                  macro(nest("{% filter upper %}", "{{ f(1) }}", "{% endfilter %}")),
                  "{% set n = namespace() %}{% set n.n = [{'a': n}] %}{{ n }}"});
  std::size_t num_errors = 0;
  ChatTemplateOptions options;
  // A tenth of what is allowed: enough to see every limit work, also under a sanitizer.
  options.limits.steps /= 10;
  options.limits.loop_iterations /= 10;
  options.limits.allocated_bytes /= 10;
  options.limits.seconds = 0.3;
  const auto render_all = [&] {
    for (const std::string& source : sources) {
      try {
        const ChatTemplate chat_template = ChatTemplate::parse(source, "test");
        chat_template.render(nlohmann::ordered_json::array(), options);
        MESSAGE("no error: ", source);
      } catch (const ChatTemplateError&) {
        ++num_errors;
      }
    }
  };
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::size_t kStackBytes = 8U << 20;  // its frames are many times larger
#else
  constexpr std::size_t kStackBytes = 1U << 20;
#endif
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, kStackBytes) == 0);
  std::function<void()> work = render_all;
  pthread_t thread{};
  const auto run = [](void* function) -> void* {
    (*static_cast<std::function<void()>*>(function))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, &work) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  CHECK(num_errors == sources.size());
}

TEST_CASE("every limit says which one it is") {
  const auto limited = [](const std::string& source, const jinja::RenderLimits& limits) {
    ChatTemplateOptions options;
    options.limits = limits;
    try {
      return ChatTemplate::parse(source, "test").render(nlohmann::ordered_json::array(), options);
    } catch (const ChatTemplateError& error) {
      return std::string(error.what());
    }
  };
  const std::string loop = "{% for i in range(100) %}{{ 'abc' ~ i }}{% endfor %}";
  const std::string macro =
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}";
  CHECK(limited(loop, {}).size() == 490);
  CHECK(limited(loop, {.steps = 50}).ends_with("takes more than 50 steps"));
  CHECK(limited(loop, {.loop_iterations = 50}).ends_with("loops run more than 50 times"));
  CHECK(limited(loop, {.output_bytes = 50}).ends_with("prints more than 50 bytes"));
  CHECK(limited(loop, {.string_bytes = 4}).ends_with("makes a string of 5 bytes, more than 4"));
  CHECK(limited(loop, {.allocated_bytes = 4000}).ends_with("more than 4000 bytes of values"));
  CHECK(limited(loop, {.range_length = 99}).ends_with("range() makes 100 items, more than 99"));
  CHECK(limited(macro, {.call_depth = 4}) == "");
  CHECK(limited(macro, {.call_depth = 3}).ends_with("'f' is called deeper than 3 levels"));
  CHECK(limited(macro, {.evaluation_depth = 9}).ends_with("values deeper than 9 levels"));
  CHECK(limited("{% for i in range(100000) %}{% endfor %}", {.seconds = 0})
            .ends_with("takes longer than 0 s"));
}

TEST_CASE("one template renders on several threads") {
  const std::string source =
      "{% for m in messages %}{{ m.role|upper }}:{{ loop.index }};{% endfor %}";
  const ChatTemplate chat_template = ChatTemplate::parse(source, "test");
  const nlohmann::ordered_json messages = {{{"role", "user"}}, {{"role", "assistant"}}};
  std::vector<std::thread> threads;
  std::vector<int> num_wrong(4, 0);
  for (std::size_t t = 0; t < num_wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        if (chat_template.render(messages, {}) != "USER:1;ASSISTANT:2;") ++num_wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(num_wrong == std::vector<int>(4, 0));
}

TEST_CASE("built-in templates") {
  const nlohmann::ordered_json messages = {{{"role", "system"}, {"content", "S"}},
                                           {{"role", "user"}, {"content", " a "}},
                                           {{"role", "assistant"}, {"content", "b"}},
                                           {{"role", "user"}, {"content", "c"}}};
  const nlohmann::ordered_json no_system(messages.begin() + 1, messages.end());
  ChatTemplateOptions options;
  options.variables = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  const auto text = [&](const std::string& name, const nlohmann::ordered_json& conversation) {
    const auto chat_template = load_chat_template("/nonexistent", name);
    REQUIRE(chat_template);
    return chat_template->render(conversation, options);
  };
  CHECK(text("chatml", messages) ==
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n a <|im_end|>\n"
        "<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
        "<|im_start|>assistant\n");
  CHECK(text("llama2", messages) ==
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\n a [/INST] b </s><s>[INST] c [/INST]");
  CHECK(text("llama2", no_system) == "<s>[INST] a [/INST] b </s><s>[INST] c [/INST]");
  CHECK(text("vicuna", messages) == "<s>S USER:  a  ASSISTANT: b</s>USER: c ASSISTANT:");
  CHECK(text("vicuna", no_system) ==
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. "
        "USER:  a  ASSISTANT: b</s>USER: c ASSISTANT:");
  CHECK(text("baichuan2", messages) ==
        "S<reserved_106> a <reserved_107>b<reserved_106>c<reserved_107>");
  const auto vicuna = built_in_chat_template("vicuna");
  CHECK_THROWS_AS(vicuna->render({{{"role", "tool"}, {"content", ""}}}, options),
                  ChatTemplateError);
}

TEST_CASE("where the template of a model comes from") {
  const auto text_of = [](const std::optional<ChatTemplate>& chat_template,
                          const nlohmann::ordered_json& tools = nullptr) {
    ChatTemplateOptions options;
    options.tools = tools;
    return chat_template ? chat_template->render(nlohmann::ordered_json::array(), options)
                         : "(none)";
  };
  const ModelDir empty(Files{});
  const ModelDir config(Files{{"tokenizer_config.json", R"({"chat_template": "from config"})"}});
  const ModelDir no_key(Files{{"tokenizer_config.json", R"({"chat_template": null})"}});
  const ModelDir both(Files{{"tokenizer_config.json", R"({"chat_template": "from config"})"},
                            {"chat_template.jinja", "from file\n"}});
  const ModelDir list(Files{{"tokenizer_config.json",
                             R"({"chat_template": [{"name": "rag", "template": "r"},
                            {"name": "tool_use", "template": "with tools"},
                            {"name": "default", "template": "plain"}]})"}});
  const ModelDir no_default(
      Files{{"tokenizer_config.json", R"({"chat_template": [{"name": "rag", "template": "r"}]})"}});
  const ModelDir tool_file(Files{{"chat_template.jinja", "plain"},
                                 {"additional_chat_templates/tool_use.jinja", "with tools"}});
  const ModelDir broken(Files{{"tokenizer_config.json", R"({"chat_template": "{% if %}"})"}});
  const ModelDir number(Files{{"tokenizer_config.json", R"({"chat_template": 3})"}});

  CHECK(text_of(load_chat_template(empty.path(), "auto")) == "(none)");
  CHECK(text_of(load_chat_template(no_key.path(), "auto")) == "(none)");
  CHECK(text_of(load_chat_template(config.path(), "auto")) == "from config");
  CHECK(text_of(load_chat_template(config.path(), "none")) == "(none)");
  CHECK(text_of(load_chat_template(both.path(), "auto")) == "from file");
  const nlohmann::ordered_json tools = nlohmann::ordered_json::array();
  CHECK(text_of(load_chat_template(list.path(), "auto")) == "plain");
  CHECK(text_of(load_chat_template(list.path(), "auto"), tools) == "with tools");
  CHECK(text_of(load_chat_template(tool_file.path(), "auto")) == "plain");
  CHECK(text_of(load_chat_template(tool_file.path(), "auto"), tools) == "with tools");
  CHECK(text_of(load_chat_template(empty.path(), (both.path() / "chat_template.jinja").string())) ==
        "from file");
  CHECK_THROWS_AS(load_chat_template(no_default.path(), "auto"), Error);
  CHECK_THROWS_AS(load_chat_template(broken.path(), "auto"), Error);
  CHECK_THROWS_AS(load_chat_template(number.path(), "auto"), Error);
  CHECK_THROWS_AS(load_chat_template(empty.path(), "nosuchtemplate"), Error);
}

}  // namespace
}  // namespace llmrun
