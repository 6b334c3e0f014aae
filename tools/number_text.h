// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace llmrun {

// "1,234,567".
std::string grouped(std::int64_t number);
// Three or four figures and a suffix: "0", "9.5", "123", "12.3k", "4.56M". REQUIRES: not negative.
std::string compact(double number);
// Four significant figures or so, without exponents unless it is tiny: "0.0123", "12.34", "1234".
std::string significant(double number);
// "0:07", "12:34", "1:02:03", "2d 3:04:05".
std::string duration_text(double seconds);

}  // namespace llmrun
