#include "tools/report/report_json.h"

#include <algorithm>

#include "engine/core/counted.h"

namespace llmrun {

const ReportJson& member(const ReportJson& json, std::string_view key) {
  static const ReportJson kNull;
  if (!json.is_object()) return kNull;
  const auto found = json.find(key);
  return found == json.end() ? kNull : *found;
}

const ReportJson& list_of(const ReportJson& json, std::string_view key) {
  static const ReportJson kEmpty = ReportJson::array();
  const ReportJson& value = member(json, key);
  return value.is_array() ? value : kEmpty;
}

std::optional<double> number_of(const ReportJson& json, std::string_view key) {
  const ReportJson& value = member(json, key);
  if (!value.is_number()) return std::nullopt;
  return value.get<double>();
}

std::string text_of(const ReportJson& json, std::string_view key) {
  const ReportJson& value = member(json, key);
  if (value.is_string()) return value.get<std::string>();
  return value.is_number() || value.is_boolean() ? value.dump() : "";
}

std::string count_text(const ReportJson& json, std::string_view key, std::string_view one) {
  return counted(static_cast<std::int64_t>(number_of(json, key).value_or(0)), one);
}

std::vector<double> numbers_of(const ReportJson& json, std::string_view key) {
  std::vector<double> numbers;
  for (const ReportJson& value : list_of(json, key)) {
    if (value.is_number()) numbers.push_back(value.get<double>());
  }
  return numbers;
}

std::vector<ChartPoint> points_of(const ReportJson& json, std::string_view x_key,
                                  std::string_view y_key) {
  const ReportJson& x = list_of(json, x_key);
  const ReportJson& y = list_of(json, y_key);
  std::vector<ChartPoint> points;
  for (std::size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (x[i].is_number() && y[i].is_number()) {
      points.push_back({x[i].get<double>(), y[i].get<double>()});
    }
  }
  return points;
}

}  // namespace llmrun
