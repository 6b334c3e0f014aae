#include "tools/eval/answer_extraction.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

constexpr ExtractionRule kStrict = ExtractionRule::kStrictMatch;
constexpr ExtractionRule kFlexible = ExtractionRule::kFlexibleExtract;
constexpr ExtractionRule kCompass = ExtractionRule::kOpenCompass;

struct Expected {
  std::string answer;
  bool right = false;
};

struct Row {
  std::string text;
  std::string reference;
  Expected strict;
  Expected flexible;
  Expected compass;
};

void check(const AnswerExtractor& extractor, ExtractionRule rule, const Row& row,
           const Expected& expected) {
  CAPTURE(row.text);
  CAPTURE(to_string(rule));
  const ExtractedAnswer found = extractor.extract(rule, row.text, row.reference);
  CHECK(found.text == expected.answer);
  CHECK(found.right == expected.right);
}

}  // namespace

// Expected by Python's re and the code of both harnesses.
TEST_CASE("the three rules, odd answers included") {
  const AnswerExtractor extractor({});
  const std::vector<Row> rows = {
      {"9 * 2 = 18\n#### 18", "so\n#### 18", {"18", true}, {"18", true}, {"18", true}},
      {"The answer is 18.", "#### 18", {"[invalid]", false}, {"18.", true}, {"18", true}},
      {"#### 1,234", "#### 1,234", {"1,234", true}, {"1,234", true}, {"234", false}},
      {"#### 1234", "#### 1,234", {"1234", true}, {"1234", true}, {"1234", true}},
      {"#### $18", "#### 18", {"[invalid]", false}, {"$18", true}, {"18", true}},
      {"#### 18.", "#### 18", {"18.", true}, {"18.", true}, {"18", true}},
      {"#### 18.00", "#### 18", {"18.00", false}, {"18.00", false}, {"18.00", true}},
      {"#### -5", "#### -5", {"-5", true}, {"-5", true}, {"-5", true}},
      {"#### 2.5", "#### 2.5", {"2.5", true}, {"2.5", true}, {"2.5", true}},
      {"#### 2.50", "#### 2.5", {"2.50", false}, {"2.50", false}, {"2.50", false}},
      {"#### 7 then #### 8", "#### 8", {"7", false}, {"8", true}, {"8", true}},
      {"#### 7 then #### 8", "#### 7", {"7", true}, {"8", false}, {"8", false}},
      {"####18", "#### 18", {"[invalid]", false}, {"18", true}, {"18", true}},
      {"no idea", "#### 18", {"[invalid]", false}, {"[invalid]", false}, {"NULL", false}},
      {"18, I think...", "#### 18", {"[invalid]", false}, {"...", false}, {"18", true}},
      {"It is 5", "#### 5", {"[invalid]", false}, {"5", true}, {"5", true}},
      {"", "#### 0", {"[invalid]", false}, {"[invalid]", false}, {"NULL", false}},
      {"#### 18\nQuestion: What is 2 + 2?", "#### 18", {"18", true}, {"2", false}, {"18", true}},
      {"#### 18", "#### 18\n", {"18", true}, {"18", true}, {"18", true}},
      {"3 - 1 = 2\n#### 2 ", "#### 2", {"2", true}, {"2", true}, {"2", true}},
  };
  for (const Row& row : rows) {
    check(extractor, kStrict, row, row.strict);
    check(extractor, kFlexible, row, row.flexible);
    check(extractor, kCompass, row, row.compass);
  }
}

TEST_CASE("gsm8k_cot wants a character behind the number, and loses a digit where there is none") {
  const AnswerExtractor extractor({.prefix = "The answer is ", .wants_character_behind = true});
  const auto strict = [&](const char* text) { return extractor.extract(kStrict, text, "#### 18"); };
  CHECK(strict("The answer is 18.").text == "18");
  CHECK(strict("The answer is 18. So").text == "18.");
  CHECK(strict("The answer is 18. So").right);
  CHECK(strict("The answer is 18").text == "1");
  CHECK(strict("The answer is 18\xC3\xA9").text == "18");
  CHECK_FALSE(strict("The answer is 18").right);
}

TEST_CASE("equal answers have equal votes; no answer has none") {
  const AnswerExtractor extractor({});
  const auto vote = [&](ExtractionRule rule, const char* text) {
    return extractor.extract(rule, text, "#### 1").vote;
  };
  CHECK(vote(kStrict, "#### 1,000") == vote(kStrict, "#### 1000."));
  CHECK(vote(kFlexible, "$12") == vote(kFlexible, "12"));
  CHECK(vote(kCompass, "12.0") == vote(kCompass, "12"));
  CHECK(vote(kStrict, "#### 12") != vote(kStrict, "#### 13"));
  for (const ExtractionRule rule : kExtractionRules) CHECK(vote(rule, "none").empty());
}

TEST_CASE("a reference must end in a number") {
  CHECK(has_final_number("a\n#### 18"));
  CHECK(has_final_number("#### 1,234"));
  CHECK(has_final_number("#### -2.5\n"));
  CHECK_FALSE(has_final_number("18"));
  CHECK_FALSE(has_final_number("#### many"));
  CHECK_FALSE(has_final_number("####"));
}

}  // namespace llmrun
