#include "tools/flag_sources.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <sstream>
#include <string_view>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "tools/help.h"

namespace llmrun {
namespace {

constexpr std::string_view kVariablePrefix = "LLMRUN_";

bool is_given(const CLI::Option& option, const std::vector<std::string>& arguments) {
  return std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
    for (const std::string& name : option.get_lnames()) {
      if (argument == "--" + name || argument.starts_with("--" + name + "=")) return true;
    }
    for (const std::string& name : option.get_snames()) {
      if (argument.starts_with("-" + name)) return true;
    }
    return false;
  });
}

const CLI::App* command_in(const CLI::App& app, const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    if (const CLI::App* command = find_command(app, argument)) return command;
  }
  return nullptr;
}

const char* environment_value(const CLI::Option& option) {
  const std::string& variable = option.get_envname();
  const char* value = variable.empty() ? nullptr : std::getenv(variable.c_str());
  return value == nullptr || *value == '\0' ? nullptr : value;
}

// The line, from 1 on, where a key of a section stands; 0: not found.
std::int64_t find_line(const std::string& text, const CLI::ConfigItem& item) {
  const std::string wanted = item.parents.empty() ? "" : item.parents.front();
  std::istringstream lines(text);
  std::string line;
  std::string section;
  for (std::int64_t number = 1; std::getline(lines, line); ++number) {
    const std::string trimmed = CLI::detail::trim_copy(line);
    if (trimmed.starts_with('[')) {
      section = CLI::detail::trim_copy(trimmed.substr(1, trimmed.find(']') - 1));
    } else if (section == wanted && trimmed.starts_with(item.name)) {
      return number;
    }
  }
  return 0;
}

class ConfigReader final : public CLI::ConfigTOML {
 public:
  explicit ConfigReader(const CLI::App& app) : app_(app) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    const std::string text{std::istreambuf_iterator<char>(input), {}};
    std::istringstream stream(text);
    std::vector<CLI::ConfigItem> read = CLI::ConfigTOML::from_config(stream);
    for (const CLI::ConfigItem& item : read) check(item, text);
    return read;
  }

 private:
  void check(const CLI::ConfigItem& item, const std::string& text) const {
    const bool is_section_mark = item.name == "++" || item.name == "--";
    const CLI::App* command =
        item.parents.size() == 1 ? find_command(app_, item.parents.front()) : nullptr;
    if (item.parents.empty()) {
      if (is_section_mark) return;
      fail(item, text,
           fmt::format("'{}' stands in no section; the flags of a command stand below its name, as "
                       "[generate]",
                       item.name));
    }
    if (command == nullptr) {
      const std::string section = CLI::detail::join(item.parents, ".");
      const auto nearest = nearest_name(section, subcommand_names(app_));
      fail({.parents = item.parents}, text,
           fmt::format("[{}] is no command{}", section,
                       nearest ? fmt::format("; did you mean [{}]?", *nearest) : ""));
    }
    if (is_section_mark) return;
    const std::vector<std::string> known = option_names(*command);
    const std::string flag = "--" + item.name;
    if (command->get_option_no_throw(flag) != nullptr) return;
    const auto nearest = nearest_name(flag, known);
    fail(item, text,
         fmt::format("'{}' is no flag of {}{}", item.name, command->get_name(),
                     nearest ? fmt::format("; did you mean {}?", nearest->substr(2)) : ""));
  }

  [[noreturn]] void fail(const CLI::ConfigItem& item, const std::string& text,
                         const std::string& message) const {
    const auto file = app_.get_config_ptr()->as<std::string>();
    const std::int64_t line = item.name.empty() ? 0 : find_line(text, item);
    throw Error(ErrorKind::kUsage, line == 0 ? fmt::format("{}: {}", file, message)
                                             : fmt::format("{}:{}: {}", file, line, message));
  }

  const CLI::App& app_;
};

}  // namespace

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  const auto found =
      app.get_subcommands([&](const CLI::App* command) { return command->get_name() == name; });
  return found.empty() ? nullptr : found.front();
}

std::vector<std::string> arguments_with_environment(const CLI::App& app,
                                                    const std::vector<std::string>& arguments) {
  std::vector<std::string> result = arguments;
  const auto position = std::find_if(result.begin(), result.end(), [&](const auto& argument) {
    return find_command(app, argument) != nullptr;
  });
  if (position == result.end()) return result;
  std::vector<std::string> from_environment;
  const auto add = [&](const CLI::Option& option) {
    const char* value = environment_value(option);
    if (value == nullptr || is_given(option, arguments)) return;
    from_environment.push_back("--" + option.get_lnames().front() + "=" + value);
  };
  add(*app.get_config_ptr());
  for (const CLI::Option* option : find_command(app, *position)->get_options()) add(*option);
  result.insert(position + 1, from_environment.begin(), from_environment.end());
  return result;
}

std::vector<std::string> unknown_environment(const CLI::App& app, char** environment,
                                             const std::vector<std::string>& others) {
  const auto without_prefix = [](const std::string& variable) {
    return variable.substr(std::min(kVariablePrefix.size(), variable.size()));
  };
  std::vector<std::string> known = {app.get_config_ptr()->get_envname()};
  known.insert(known.end(), others.begin(), others.end());
  for (const CLI::App* command : app.get_subcommands({})) {
    for (const CLI::Option* option : command->get_options()) known.push_back(option->get_envname());
  }
  std::vector<std::string> names;
  names.reserve(known.size());
  for (const std::string& variable : known) names.push_back(without_prefix(variable));
  std::vector<std::string> lines;
  for (char** entry = environment; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (!text.starts_with(kVariablePrefix)) continue;
    const std::string name(text.substr(0, text.find('=')));
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const auto nearest = nearest_name(without_prefix(name), names);
    lines.push_back(
        fmt::format("{} is no flag's variable and has no effect{}", name,
                    nearest ? fmt::format("; did you mean {}{}?", kVariablePrefix, *nearest) : ""));
  }
  return lines;
}

void leave_environment_to_command(CLI::App& app, const std::vector<std::string>& arguments) {
  const CLI::App* chosen = command_in(app, arguments);
  for (CLI::App* command : app.get_subcommands({})) {
    if (command == chosen) continue;
    for (CLI::Option* option : command->get_options()) {
      if (environment_value(*option) != nullptr) option->envname("");
    }
  }
}

std::shared_ptr<CLI::Config> make_config_reader(const CLI::App& app) {
  return std::make_shared<ConfigReader>(app);
}

std::string origin_of_flag(const CLI::App& app, const std::string& message,
                           const std::vector<std::string>& arguments) {
  const CLI::App* command = command_in(app, arguments);
  if (command == nullptr) return "";
  std::string flag = message.substr(0, message.find_first_of(": "));
  std::replace(flag.begin(), flag.end(), '_', '-');
  if (!flag.starts_with("--")) flag.insert(0, "--");
  const CLI::Option* option = command->get_option_no_throw(flag);
  if (option == nullptr || is_given(*option, arguments)) return "";
  if (environment_value(*option) != nullptr) {
    return fmt::format(" (from {})", option->get_envname());
  }
  const CLI::Option* file = app.get_config_ptr();
  return file == nullptr || file->empty() ? "" : fmt::format(" (from {})", file->as<std::string>());
}

}  // namespace llmrun
