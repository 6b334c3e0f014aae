// From values to pixels, and the ticks of an axis.
#pragma once

#include <string>
#include <vector>

namespace llmrun {

enum class ScaleKind { kLinear, kLog };

struct Tick {
  double value = 0;
  std::string label;
};

// The values an axis must show.
class ValueRange {
 public:
  void add(double value);  // what is not finite is left out
  bool is_empty() const { return low_ > high_; }
  double low() const { return low_; }
  double high() const { return high_; }
  // The least that is above zero; 0: none is.
  double smallest_positive() const { return smallest_positive_; }

 private:
  double low_ = 1;
  double high_ = 0;
  double smallest_positive_ = 0;
};

class Scale {
 public:
  // Shows `range`, which may be empty or a single value, from its least to its greatest value and a
  // little more, so that the axis ends at a tick (linear) or a round number (log). A log scale
  // shows positive values only. Ticks of a linear scale are `least_step` apart or more.
  Scale(ScaleKind kind, const ValueRange& range, double first_pixel, double last_pixel,
        double least_step = 0);
  // Exactly from `low` to `high`. REQUIRES: low < high, both positive for a log scale.
  Scale(ScaleKind kind, double low, double high, double first_pixel, double last_pixel,
        double least_step = 0);

  // Of a value; what lies outside is put at the nearer end. Finite for every value but NaN.
  double at(double value) const;
  // Whether the scale can show the value.
  bool shows(double value) const;
  double low() const { return low_; }
  double high() const { return high_; }
  const std::vector<Tick>& ticks() const { return ticks_; }

 private:
  void add_linear_ticks(double step);
  void add_log_ticks();

  ScaleKind kind_;
  double low_ = 0;
  double high_ = 1;
  double first_pixel_;
  double last_pixel_;
  std::vector<Tick> ticks_;
};

// A number as an axis or a label says it: three or four figures; thousands as k, M, G, T.
std::string axis_number(double value);

}  // namespace llmrun
