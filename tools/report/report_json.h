// Reading a report that was written as JSON, by this llmrun or another: what is missing, or of
// another type than expected, reads as absent.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/plot/chart.h"

namespace llmrun {

using ReportJson = nlohmann::ordered_json;

// The member of an object; null when it is not there.
const ReportJson& member(const ReportJson& json, std::string_view key);
// The member if it is a list, else an empty list.
const ReportJson& list_of(const ReportJson& json, std::string_view key);
std::optional<double> number_of(const ReportJson& json, std::string_view key);
// "" when it is not there; a number or a truth value as its text.
std::string text_of(const ReportJson& json, std::string_view key);
// "25 requests": a count and what is counted.
std::string count_text(const ReportJson& json, std::string_view key, std::string_view one);
// The numbers of a list; what is none is left out.
std::vector<double> numbers_of(const ReportJson& json, std::string_view key);

// The points of two lists of the same object, as far as both go; what is no number is left out.
std::vector<ChartPoint> points_of(const ReportJson& json, std::string_view x_key,
                                  std::string_view y_key);

}  // namespace llmrun
