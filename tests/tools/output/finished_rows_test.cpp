#include "tools/output/finished_rows.h"

#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/random.h"
#include "tests/support/heap.h"

namespace llmrun {
namespace {

InputItem make_item(const std::string& id) {
  InputItem item;
  item.id = id;
  item.has_id = true;
  item.line = 5;
  item.content_hash = content_hash(id);
  return item;
}

FinishedRow make_row(const InputItem& item, bool failed = false) {
  FinishedRow row;
  row.input_hash = parse_input_hash(input_hash(item, "f")).value();
  row.failed = failed;
  return row;
}

TEST_CASE("hashes are 32 lower-case hexadecimal digits") {
  CHECK(parse_input_hash("000102030405060f08090a0b0c0d0eff") == 0x000102030405060f);
  CHECK(parse_input_hash(std::string(32, 'f')) == ~std::uint64_t{0});
  for (const char* bad :
       {"", "00", "000102030405060708090A0b0c0d0eff", "000102030405060708090a0b0c0d0ef",
        "000102030405060708090a0b0c0d0efg", "000102030405060708090a0b0c0d0eff0"}) {
    CHECK(!parse_input_hash(bad));
  }
}

TEST_CASE("rows are claimed once each, and those that nobody claims are told") {
  FinishedRows rows("out", false);
  CHECK(rows.add(row_key("a"), make_row(make_item("a"))));
  CHECK(!rows.add(row_key("a"), make_row(make_item("a"))));
  CHECK(rows.add(row_key("b"), make_row(make_item("b"), true)));
  CHECK(rows.size() == 2);
  CHECK(rows.num_failed() == 1);
  CHECK(rows.claim(make_item("a"), input_hash(make_item("a"), "f")));
  CHECK(rows.claim(make_item("a"), input_hash(make_item("a"), "f")));
  CHECK(rows.num_claimed() == 1);
  CHECK(!rows.claim(make_item("c"), input_hash(make_item("c"), "f")));
  CHECK_THROWS_WITH_AS(rows.check_all_claimed(),
                       "out: holds 1 record of a row that is not in the input; run with "
                       "--force-resume to keep them, or with --overwrite to start again",
                       Error);
  rows.remove_failed();
  CHECK(rows.size() == 1);
  rows.check_all_claimed();
}

TEST_CASE("a row whose input changed is refused by id and line") {
  FinishedRows rows("out", false);
  rows.add(row_key("a"), make_row(make_item("a")));
  InputItem edited = make_item("a");
  edited.content_hash = content_hash("other");
  try {
    rows.claim(edited, input_hash(edited, "f"));
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    CHECK(std::string(error.what()).find("out: its record of row a (input line 5)") == 0);
  }
}

TEST_CASE("an id, an integer and an index that look alike are told apart") {
  CHECK(row_key("7") == row_key("7"));
  CHECK(row_key("7") != row_key(7));
  InputItem item = make_item("7");
  CHECK(row_key(item) == row_key("7"));
  item.has_id = false;
  item.index = 7;
  CHECK(row_key(item) == row_key(7));
}

TEST_CASE("a finished row takes 35 bytes at most") {
  FinishedRows rows("out", false);
  const std::size_t before = testing::heap_bytes_in_use();
  constexpr std::size_t kNumRows = 120'000;
  for (std::uint64_t i = 0; i < kNumRows; ++i) REQUIRE(rows.add({mix64(i), mix64(~i)}, {}));
  CHECK(testing::heap_bytes_in_use() <= before + 35 * kNumRows);
}

}  // namespace
}  // namespace llmrun
