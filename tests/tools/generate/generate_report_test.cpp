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

}  // namespace llmrun
