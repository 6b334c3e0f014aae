#include "tools/generate/generate_report.h"

#include <doctest/doctest.h>

namespace llmrun {

TEST_CASE("R08: the summary of a run tells the share of tokens that were computed again") {
  GenerateProgress progress;
  progress.engine.num_batched_tokens = 2000;
  progress.engine.num_preemptions = 3;
  progress.engine.num_recomputed_tokens = 125;
  const std::string report = closing_report(progress, 1.0);
  CHECK(report.find("3 preemptions, 125 tokens recomputed (6.2 % of all computed)") !=
        std::string::npos);
  CHECK(closing_report({}, 0.0).find("0 tokens recomputed (0.0 % of all computed)") !=
        std::string::npos);
}

TEST_CASE("failed rows are no requests by second, and the first says why") {
  GenerateProgress progress;
  progress.num_rows_done = 10;
  progress.num_rows_failed = 4;
  progress.first_failure = "in.jsonl:3: has no prompt";
  const std::string report = closing_report(progress, 2.0);
  CHECK(report.find("10 requests in 2.00 s, 4 failed: 3.00 requests/s") != std::string::npos);
  CHECK(report.find("first failure: in.jsonl:3: has no prompt\n") != std::string::npos);
  CHECK(closing_report({}, 1.0).find("first failure") == std::string::npos);
}

}  // namespace llmrun
