#include "tools/api_client/send_queue.h"

#include <cmath>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

SendQueue queue_of(const SendLimits& limits, std::size_t count) {
  SendQueue queue(limits);
  for (std::size_t i = 0; i < count; ++i) queue.push(i);
  return queue;
}

TEST_CASE("Send queue: in order, at most so many at once") {
  SendQueue queue = queue_of({.max_concurrency = 2}, 4);
  CHECK(queue.next(0) == 0U);
  CHECK(queue.next(0) == 1U);
  CHECK_FALSE(queue.next(0));
  CHECK(std::isinf(queue.wakes_at_s(0)));  // only an end makes room
  CHECK(queue.num_under_way() == 2);
  CHECK(queue.num_waiting() == 2);
  CHECK_FALSE(queue.end(0, false, 1, 0, 1));
  CHECK(queue.next(1) == 2U);
  CHECK_FALSE(queue.is_idle());
  CHECK_FALSE(queue.end(1, false, 1, 0, 1));
  CHECK_FALSE(queue.end(2, false, 1, 0, 1));
  CHECK(queue.next(1) == 3U);
  CHECK_FALSE(queue.end(3, false, 1, 0, 1));
  CHECK(queue.is_idle());
}

TEST_CASE("Send queue: a rate is kept after a pause, too") {
  SendQueue queue = queue_of({.queries_per_second = 4}, 4);
  CHECK(queue.next(10) == 0U);
  CHECK_FALSE(queue.next(10.2));
  CHECK(queue.wakes_at_s(10.2) == doctest::Approx(10.25));
  CHECK(queue.next(10.25) == 1U);
  CHECK(queue.next(20) == 2U);
  CHECK_FALSE(queue.next(20));  // what was not sent in the pause is not made up for
  CHECK(queue.wakes_at_s(20) == doctest::Approx(20.25));
}

TEST_CASE("Send queue: a full one does not wake for its rate") {
  SendQueue queue = queue_of({.max_concurrency = 1, .queries_per_second = 4}, 2);
  CHECK(queue.next(0) == 0U);
  CHECK(std::isinf(queue.wakes_at_s(5)));
}

TEST_CASE("Send queue: groups follow one another") {
  SendQueue queue = queue_of({.batch_size = 2}, 3);
  CHECK(queue.next(0) == 0U);
  CHECK(queue.next(0) == 1U);
  CHECK_FALSE(queue.next(0));
  CHECK_FALSE(queue.end(1, false, 1, 0, 1));
  CHECK_FALSE(queue.next(1));
  CHECK_FALSE(queue.end(0, false, 1, 0, 1));
  CHECK(queue.next(1) == 2U);
}

TEST_CASE("Send queue: second attempts wait longer each time, or as the server wishes") {
  SendQueue queue = queue_of({.num_retries = 3}, 1);
  double now_s = 100;
  for (const double delay_s : {0.5, 1.0, 2.0}) {
    REQUIRE(queue.next(now_s) == 0U);
    const std::int32_t attempts = delay_s == 0.5 ? 1 : delay_s == 1.0 ? 2 : 3;
    CHECK(queue.end(0, true, attempts, 0, now_s));
    CHECK_FALSE(queue.next(now_s + delay_s - 0.01));
    CHECK(queue.wakes_at_s(now_s) == doctest::Approx(now_s + delay_s));
    now_s += delay_s;
  }
  REQUIRE(queue.next(now_s) == 0U);
  CHECK_FALSE(queue.end(0, true, 4, 0, now_s));  // no attempts left
  CHECK(queue.is_idle());

  SendQueue told = queue_of({.num_retries = 1000}, 1);
  REQUIRE(told.next(0) == 0U);
  CHECK(told.end(0, true, 1, 7, 0));
  CHECK(told.wakes_at_s(0) == doctest::Approx(7));
  REQUIRE(told.next(7) == 0U);
  CHECK(told.end(0, true, 999, 1e12, 7));  // a minute at most, whatever is wished or doubled
  CHECK(told.wakes_at_s(7) == doctest::Approx(67));
  REQUIRE(told.next(67) == 0U);
  CHECK_FALSE(told.end(0, false, 1, 0, 67));  // what will not pass
}

TEST_CASE("Send queue: what waits can be taken out") {
  SendQueue queue = queue_of({.max_concurrency = 1, .num_retries = 1}, 3);
  REQUIRE(queue.next(0) == 0U);
  CHECK(queue.end(0, true, 1, 0, 0));
  queue.erase_if([](std::size_t index) { return index != 2; });
  CHECK(queue.num_waiting() == 1);
  CHECK(queue.next(10) == 2U);
}

}  // namespace
}  // namespace llmrun
