// How much more or less accurate one evaluation is than another on the same questions, with the
// interval in which the true difference lies. Neither interval shrinks to nothing when few or no
// answers differ.
#pragma once

#include <span>

namespace llmrun {

struct AccuracyDifference {
  double difference = 0;  // new - base, of shares from -1 to 1
  double low = 0;         // 95 % interval
  double high = 0;
};

// Of the scores, 0 to 1, of the same questions in the same order: Agresti and Min's interval of
// paired proportions (2005), which adds two pairs that cancel. REQUIRES: as many on both sides.
AccuracyDifference difference_of_pairs(std::span<const double> base,
                                       std::span<const double> changed);

// Of two shares of right answers alone: Newcombe's interval from both sides' Wilson intervals
// (1998). Wider, since it does not know which questions were easy for both.
AccuracyDifference difference_of_shares(double base, double base_questions, double changed,
                                        double changed_questions);

}  // namespace llmrun
