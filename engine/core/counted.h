// Counts in sentences.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llmrun {

// "1 request", "2 requests"; where more than an s changes, `many` says how: "2 rows are".
std::string counted(std::int64_t count, std::string_view one, std::string_view many = {});

}  // namespace llmrun
