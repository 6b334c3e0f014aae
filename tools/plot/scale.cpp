#include "tools/plot/scale.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

namespace llmrun {
namespace {

constexpr double kWantedTicks = 5;
// What is beyond is put there: differences and ratios of values stay finite.
constexpr double kLargest = 1e100;
constexpr double kSmallest = 1e-100;

double in_bounds(double value) {
  if (std::abs(value) < kSmallest) return 0;
  return std::clamp(value, -kLargest, kLargest);
}

// The smallest of 1, 2, 5 times a power of ten that divides `length` into at most about `count`.
double round_step(double length, double count) {
  const double raw = length / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

// The greatest of 1, 2, 5 times a power of ten that is at most `value`, or the least that is at
// least `value`.
double round_down(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  double best = power;
  for (const double factor : {2.0, 5.0}) {
    if (factor * power <= value * (1 + 1e-9)) best = factor * power;
  }
  return best;
}
double round_up(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= value * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

struct Suffix {
  double factor;
  const char* name;
};
constexpr std::array<Suffix, 5> kSuffixes = {
    {{1e15, "P"}, {1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e4, "k"}}};

}  // namespace

void ValueRange::add(double value) {
  if (!std::isfinite(value)) return;
  const bool is_first = is_empty();
  low_ = is_first ? value : std::min(low_, value);
  high_ = is_first ? value : std::max(high_, value);
  if (value > 0 && (smallest_positive_ == 0 || value < smallest_positive_)) {
    smallest_positive_ = value;
  }
}

Scale::Scale(ScaleKind kind, const ValueRange& range, double first_pixel, double last_pixel,
             double least_step)
    : kind_(kind), first_pixel_(first_pixel), last_pixel_(last_pixel) {
  if (kind == ScaleKind::kLog) {
    const bool is_empty = range.smallest_positive() == 0;
    const auto positive = [](double value) { return std::clamp(value, kSmallest, kLargest); };
    low_ = is_empty ? 1 : round_down(positive(range.smallest_positive()));
    high_ = is_empty ? 10 : round_up(positive(range.high()));
    if (high_ <= low_) high_ = round_up(low_ * 1.5);
  } else {
    double low = range.is_empty() ? 0 : in_bounds(range.low());
    double high = range.is_empty() ? 1 : in_bounds(range.high());
    // A single value gets room around it; zero is an end where it is.
    if (high - low <= 1e-12 * std::max(std::abs(low), std::abs(high))) {
      const double room = low == 0 ? 1 : std::abs(low) / 2;
      if (low > 0 || low < 0) low -= room;
      high += room;
    }
    const double step = std::max(round_step(high - low, kWantedTicks), least_step);
    low_ = step * std::floor(low / step + 1e-9);
    high_ = step * std::ceil(high / step - 1e-9);
    add_linear_ticks(step);
    return;
  }
  add_log_ticks();
}

Scale::Scale(ScaleKind kind, double low, double high, double first_pixel, double last_pixel,
             double least_step)
    : kind_(kind), low_(low), high_(high), first_pixel_(first_pixel), last_pixel_(last_pixel) {
  if (kind == ScaleKind::kLog) {
    add_log_ticks();
  } else {
    add_linear_ticks(std::max(round_step(high - low, kWantedTicks), least_step));
  }
}

double Scale::at(double value) const {
  double share = 0;
  if (kind_ == ScaleKind::kLog) {
    share = value <= low_ ? 0 : std::log(value / low_) / std::log(high_ / low_);
  } else {
    share = (std::clamp(value, low_, high_) - low_) / (high_ - low_);
  }
  return first_pixel_ + std::clamp(share, 0.0, 1.0) * (last_pixel_ - first_pixel_);
}

bool Scale::shows(double value) const {
  return std::isfinite(value) && (kind_ == ScaleKind::kLinear || value > 0);
}

void Scale::add_linear_ticks(double step) {
  const double first = std::ceil(low_ / step - 1e-9);
  for (double i = first; i * step <= high_ + 1e-9 * step; ++i) {
    ticks_.push_back({i * step, axis_number(i * step)});
  }
}

void Scale::add_log_ticks() {
  const double decades = std::log10(high_ / low_);
  const int first = static_cast<int>(std::floor(std::log10(low_) + 1e-9));
  const int last = static_cast<int>(std::ceil(std::log10(high_) - 1e-9));
  const int every = std::max(1, static_cast<int>(std::ceil(decades / 7)));
  for (int exponent = first; exponent <= last; exponent += every) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && decades > 2.2) break;
      const double value = factor * std::pow(10, exponent);
      if (value < low_ * (1 - 1e-9) || value > high_ * (1 + 1e-9)) continue;
      ticks_.push_back({value, axis_number(value)});
    }
  }
}

std::string axis_number(double value) {
  const double size = std::abs(value);
  if (size < 1e-12) return "0";
  if (size >= 1e18 || size < 1e-4) return fmt::format("{:.3g}", value);
  for (const Suffix& suffix : kSuffixes) {
    if (size >= suffix.factor * (1 - 1e-9)) {
      const double factor = suffix.name[0] == 'k' ? 1e3 : suffix.factor;
      return fmt::format("{:.4g}{}", value / factor, suffix.name);
    }
  }
  if (size >= 1000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

}  // namespace llmrun
