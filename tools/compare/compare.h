// `llmrun compare BASE NEW...`: is it faster, slower, or not known; and an exit code for CI.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "tools/compare/comparison.h"
#include "tools/report/report_options.h"

namespace llmrun {

struct CompareOptions {
  std::string base;
  std::vector<std::string> changed;
  std::vector<std::string> figures;
  bool is_paired = false;
  bool ignores_device = false;
  bool ignores_model = false;
  double fail_below = 0;  // 0: never

  ReportOptions report;
};

void add_compare_command(CLI::App& command, CompareOptions& options);

// Exit code: 0; 1 when a figure fell significantly below --fail-below; 3 when a file is bad,
// nothing could be compared, or, with --fail-below, something could not. Throws Error.
int run_compare(const CompareOptions& options);

// The exit code of these comparisons, as above.
int compare_exit_code(const std::vector<RunComparison>& results, bool has_fail_below);

}  // namespace llmrun
