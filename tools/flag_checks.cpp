#include "tools/flag_checks.h"

#include <charconv>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include <fmt/format.h>

namespace llmrun {
namespace {

template <typename Number>
bool is_number(std::string_view text, Number& number) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

}  // namespace

CLI::Validator number_from(double min, double max) {
  return {[min, max](std::string& text) {
            double number = 0;
            const bool fits = is_number(text, number) && number >= min && number <= max;
            return fits ? std::string()
                        : fmt::format("expected a number from {:g} to {:g}, found '{}'", min, max,
                                      text);
          },
          fmt::format("FLOAT in [{:g} - {:g}]", min, max)};
}

CLI::Validator unsigned_integer() {
  return {[](std::string& text) {
            std::uint64_t number = 0;
            return is_number(text, number)
                       ? std::string()
                       : fmt::format("expected an integer from 0 to {}, found '{}'",
                                     std::numeric_limits<std::uint64_t>::max(), text);
          },
          ""};
}

}  // namespace llmrun
