#include "tools/number_text.h"

#include <cmath>

#include <fmt/format.h>

namespace llmrun {

std::string grouped(std::int64_t number) {
  std::string text = fmt::format("{}", number);
  const std::size_t first_digit = number < 0 ? 1 : 0;
  for (std::size_t i = text.size(); i > first_digit + 3;) {
    i -= 3;
    text.insert(i, 1, ',');
  }
  return text;
}

std::string compact(double number) {
  const char* suffix = "";
  for (const char* next : {"k", "M", "G", "T"}) {
    if (number < 999.5) break;  // 999.6 would be shown as 1000
    number /= 1000;
    suffix = next;
  }
  if (number == std::floor(number) && *suffix == '\0') return fmt::format("{:.0f}", number);
  const int num_decimals = number < 9.995 ? 2 : number < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{}", number, *suffix == '\0' && num_decimals == 2 ? 1 : num_decimals,
                     suffix);
}

std::string significant(double number) {
  const double size = std::abs(number);
  if (number == std::floor(number) && size < 1e6) return fmt::format("{:.0f}", number);
  if (size >= 1000) return fmt::format("{:.0f}", number);
  if (size >= 100) return fmt::format("{:.1f}", number);
  if (size >= 10) return fmt::format("{:.2f}", number);
  if (size >= 0.1) return fmt::format("{:.3f}", number);
  return fmt::format("{:.3g}", number);
}

std::string duration_text(double seconds) {
  const auto total = static_cast<std::int64_t>(std::llround(seconds));
  const std::int64_t minutes = total / 60;
  const std::int64_t hours = minutes / 60;
  if (hours == 0) return fmt::format("{}:{:02}", minutes, total % 60);
  const std::string clock = fmt::format("{}:{:02}:{:02}", hours % 24, minutes % 60, total % 60);
  return hours < 24 ? clock : fmt::format("{}d {}", hours / 24, clock);
}

}  // namespace llmrun
