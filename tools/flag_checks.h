// Checks of flags' values, where those of CLI11 let something pass.
#pragma once

#include <CLI/CLI.hpp>

namespace llmrun {

// A number from `min` to `max`; not NaN, which CLI::Range takes.
CLI::Validator number_from(double min, double max);

// An integer from 0 to 2^64 - 1; CLI11 alone wraps negative ones around and cuts large ones off.
CLI::Validator unsigned_integer();

}  // namespace llmrun
