#include "tools/serve/io_loop.h"

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/post.hpp>
#include <doctest/doctest.h>

namespace llmrun {
namespace {

TEST_CASE("an event comes before most of the work that was there already") {
  constexpr int kNumPieces = 1000;
  IoLoop loop;
  std::vector<int> order;
  int num_before_event = -1;
  for (int i = 0; i < kNumPieces; ++i) {
    loop.post([&, i] {
      order.push_back(i);
      if (i > 0) return;
      boost::asio::post(loop.context(), [&] { num_before_event = static_cast<int>(order.size()); });
    });
  }
  loop.finish();
  loop.run();
  CHECK(num_before_event >= 1);
  CHECK(num_before_event <= 32);
  REQUIRE(order.size() == kNumPieces);
  for (int i = 0; i < kNumPieces; ++i) CHECK(order[static_cast<std::size_t>(i)] == i);
}

TEST_CASE("dispatched work runs at once on the loop's thread, and later from another") {
  IoLoop loop;
  std::string order;
  loop.dispatch([&] {
    loop.post([&] { order += 'c'; });
    loop.dispatch([&] { order += 'a'; });
    order += 'b';
  });
  CHECK(order.empty());
  loop.finish();
  loop.run();
  CHECK(order == "abc");
}

TEST_CASE("work of several threads is done, of each in its order; after the end it is dropped") {
  constexpr int kNumThreads = 4;
  constexpr int kNumPieces = 2000;
  IoLoop loop;
  std::vector<int> done(kNumThreads, 0);
  bool in_order = true;
  std::thread runner([&] { loop.run(); });
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kNumThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kNumPieces; ++i) {
        loop.post([&, t, i] { in_order &= done[t]++ == i; });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop.post([&] { loop.finish(); });
  runner.join();
  CHECK(in_order);
  CHECK(done == std::vector<int>(kNumThreads, kNumPieces));
  loop.post([&] { done.clear(); });
  CHECK(done.size() == kNumThreads);
}

}  // namespace
}  // namespace llmrun
