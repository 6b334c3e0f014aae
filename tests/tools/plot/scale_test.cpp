#include "tools/plot/scale.h"

#include <cmath>
#include <limits>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

ValueRange range_of(std::initializer_list<double> values) {
  ValueRange range;
  for (const double value : values) range.add(value);
  return range;
}

std::vector<std::string> labels_of(const Scale& scale) {
  std::vector<std::string> labels;
  for (const Tick& tick : scale.ticks()) labels.push_back(tick.label);
  return labels;
}

}  // namespace

TEST_CASE("a range takes what is finite, in any order") {
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(range_of({}).is_empty());
  CHECK(range_of({nan, infinity, -infinity}).is_empty());
  const ValueRange range = range_of({3, nan, -2, 0.5, infinity, 0});
  CHECK(range.low() == -2);
  CHECK(range.high() == 3);
  CHECK(range.smallest_positive() == 0.5);
  const ValueRange single = range_of({-4});
  CHECK(single.low() == -4);
  CHECK(single.high() == -4);
  CHECK(single.smallest_positive() == 0);
}

TEST_CASE("linear axes end at round ticks") {
  const Scale scale(ScaleKind::kLinear, range_of({0, 43.7}), 100, 200);
  CHECK(labels_of(scale) == std::vector<std::string>{"0", "10", "20", "30", "40", "50"});
  CHECK(scale.at(0) == 100);
  CHECK(scale.at(25) == 150);
  CHECK(scale.at(50) == 200);
  CHECK(scale.at(1e9) == 200);
  CHECK(scale.at(-1e9) == 100);
  // Upwards, as on a screen.
  const Scale vertical(ScaleKind::kLinear, range_of({0, 100}), 300, 20);
  CHECK(vertical.at(100) == 20);
  CHECK(labels_of(Scale(ScaleKind::kLinear, range_of({4.14, 4.75}), 0, 1)) ==
        std::vector<std::string>{"4", "4.2", "4.4", "4.6", "4.8"});
  // Of things that are counted: no ticks between whole numbers.
  CHECK(labels_of(Scale(ScaleKind::kLinear, range_of({0, 2}), 0, 1, 1)) ==
        std::vector<std::string>{"0", "1", "2"});
  CHECK(labels_of(Scale(ScaleKind::kLinear, 0.5, 2.5, 0, 1, 1)) ==
        std::vector<std::string>{"1", "2"});
  CHECK(labels_of(Scale(ScaleKind::kLinear, range_of({0, 50}), 0, 1, 1)).size() == 6);
}

TEST_CASE("log axes: decades, or 1, 2, 5 where there are few") {
  const Scale wide(ScaleKind::kLog, range_of({0.9, 1234}), 0, 100);
  CHECK(labels_of(wide) == std::vector<std::string>{"1", "10", "100", "1000"});
  const Scale narrow(ScaleKind::kLog, range_of({30, 90}), 0, 100);
  CHECK(labels_of(narrow) == std::vector<std::string>{"20", "50", "100"});
  CHECK(narrow.at(20) == 0);
  CHECK(narrow.at(100) == doctest::Approx(100));
  CHECK(narrow.at(std::sqrt(2000)) == doctest::Approx(50));
  CHECK(narrow.at(0) == 0);
  CHECK(narrow.at(-5) == 0);
  CHECK(!narrow.shows(0));
  CHECK(narrow.shows(1e-9));
}

TEST_CASE("degenerate ranges give finite pixels and a few ticks") {
  for (const ScaleKind kind : {ScaleKind::kLinear, ScaleKind::kLog}) {
    for (const ValueRange& range :
         {range_of({}), range_of({0}), range_of({5}), range_of({-5}), range_of({1e-320}),
          range_of({1e308, -1e308}), range_of({1, 1 + 1e-15}), range_of({1e-300, 1e300})}) {
      const Scale scale(kind, range, 0, 500);
      CHECK(scale.low() < scale.high());
      CHECK(scale.ticks().size() >= 1);
      CHECK(scale.ticks().size() <= 16);
      for (const double value : {0.0, 1.0, -1.0, 1e308, 1e-308, range.low(), range.high()}) {
        CHECK(std::isfinite(scale.at(value)));
        CHECK(scale.at(value) >= 0);
        CHECK(scale.at(value) <= 500);
      }
    }
  }
}

TEST_CASE("numbers of axes") {
  CHECK(axis_number(0) == "0");
  CHECK(axis_number(0.25) == "0.25");
  CHECK(axis_number(1234) == "1234");
  CHECK(axis_number(12000) == "12k");
  CHECK(axis_number(-12000) == "-12k");
  CHECK(axis_number(4.561e12) == "4.561T");
  CHECK(axis_number(8e14) == "800T");
  CHECK(axis_number(1e15) == "1P");
}

}  // namespace llmrun
