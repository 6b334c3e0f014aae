#include "tools/progress.h"

#include <algorithm>
#include <string>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

ProgressSnapshot make_snapshot() {
  return {.num_done = 21034,
          .num_earlier = 1034,
          .num_failed = 12,
          .num_total = 50000,
          .num_running = 64,
          .num_waiting = 120,
          .prompt_tokens = 1'000'000,
          .output_tokens = 500'000,
          .kv_use = 0.874,
          .draining = false};
}

constexpr ProgressRates kRates{
    .prompt_tokens_per_s = 12345, .output_tokens_per_s = 4567, .eta_s = 5025};

std::size_t width_of(const std::string& text) {
  std::size_t width = 0;
  for (const char c : text) width += (static_cast<unsigned char>(c) & 0xC0U) != 0x80 ? 1 : 0;
  return width;
}

TEST_CASE("a wide terminal shows everything") {
  const TerminalStyle style{.redraws = true, .color = false, .unicode = false, .columns = 140};
  CHECK(progress_bar(make_snapshot(), kRates, style) ==
        "############..................  42% | 21,034/50,000 | 12 failed | 64 running 120 waiting "
        "| in 12.3k out 4.57k tok/s | KV 87% | ETA 1:23:45");
  TerminalStyle colored = style;
  colored.color = true;
  CHECK(progress_bar(make_snapshot(), kRates, colored).find("\x1b[36m###") == 0);
}

TEST_CASE("no width is exceeded, and the count of rows stays") {
  for (const bool unicode : {false, true}) {
    for (int columns = 1; columns < 200; ++columns) {
      CAPTURE(columns);
      const std::string bar =
          progress_bar(make_snapshot(), kRates,
                       {.redraws = true, .color = false, .unicode = unicode, .columns = columns});
      CHECK(width_of(bar) <= static_cast<std::size_t>(std::max(columns - 1, 1)));
      if (columns > 14) CHECK(bar.find("21,034/50,000") != std::string::npos);
      if (!unicode) CHECK(bar.size() == width_of(bar));
    }
  }
}

TEST_CASE("the bar grows by eighths") {
  ProgressSnapshot snapshot;
  snapshot.num_total = 80;
  std::string last;
  for (std::int64_t done = 0; done <= 80; ++done) {
    snapshot.num_done = done;
    const std::string bar = progress_bar(
        snapshot, {}, {.redraws = true, .color = false, .unicode = true, .columns = 80});
    CHECK(bar != last);
    last = bar;
  }
  CHECK(last.find("100%") != std::string::npos);
}

TEST_CASE("an input of unknown length has no bar") {
  ProgressSnapshot snapshot = make_snapshot();
  snapshot.num_total.reset();
  const std::string bar = progress_bar(
      snapshot, {}, {.redraws = true, .color = false, .unicode = false, .columns = 80});
  CHECK(bar.find("21,034 rows | 12 failed") == 0);
  snapshot.draining = true;
  CHECK(progress_line(snapshot, kRates) ==
        "21034 rows (12 failed), 64 running, 120 waiting, 12345.0 tok/s in, 4567.0 tok/s out, "
        "KV 87 %, stopping");
  CHECK(progress_line(make_snapshot(), kRates).find("21034 of 50000 rows") == 0);
  CHECK(progress_line(make_snapshot(), kRates).find("ETA 1:23:45") != std::string::npos);
}

TEST_CASE("what is not known does not appear") {
  ProgressSnapshot snapshot = make_snapshot();
  snapshot.prompt_tokens.reset();
  snapshot.kv_use.reset();
  RateMeter meter;
  static_cast<void>(meter.update(snapshot, 0));
  snapshot.output_tokens += 1234;
  snapshot.draining = true;
  const ProgressRates rates = meter.update(snapshot, 10);
  CHECK(!rates.prompt_tokens_per_s);
  CHECK(progress_line(snapshot, rates) ==
        "21034 of 50000 rows (12 failed), 64 running, 120 waiting, 123.4 tok/s out, stopping");
  const TerminalStyle style{.redraws = true, .color = false, .unicode = false, .columns = 120};
  CHECK(progress_bar(snapshot, rates, style)
            .ends_with("42% | 21,034/50,000 | 12 failed | 64 running 120 waiting | out 123 tok/s | "
                       "stopping"));
}

TEST_CASE("rates are those of the last seconds, the time left is that of the run") {
  RateMeter meter;
  ProgressSnapshot snapshot;
  snapshot.num_total = 1100;
  snapshot.num_earlier = 100;
  snapshot.num_done = 100;
  snapshot.prompt_tokens = 0;
  ProgressRates rates = meter.update(snapshot, 1000);
  CHECK(rates.output_tokens_per_s == 0);
  CHECK(!rates.eta_s);
  // 100 tokens a second for 60 seconds, then 10 a second.
  for (int second = 1; second <= 60; ++second) {
    snapshot.output_tokens += 100;
    *snapshot.prompt_tokens += 7;
    snapshot.num_done += 5;
    rates = meter.update(snapshot, 1000 + second);
  }
  CHECK(rates.output_tokens_per_s == doctest::Approx(100));
  REQUIRE(rates.prompt_tokens_per_s);
  CHECK(*rates.prompt_tokens_per_s == doctest::Approx(7));
  REQUIRE(rates.eta_s);
  CHECK(*rates.eta_s == doctest::Approx(140));  // 700 rows at 5 a second
  for (int second = 61; second <= 80; ++second) {
    snapshot.output_tokens += 10;
    rates = meter.update(snapshot, 1000 + second);
  }
  CHECK(rates.output_tokens_per_s == doctest::Approx(10));
}

struct Screen {
  std::string text;
  Progress::Options options(bool redraws) {
    return {.style = {.redraws = redraws, .color = false, .unicode = false, .columns = 60},
            .write = [this](std::string_view part) { text += part; }};
  }
};

TEST_CASE("on a terminal one line is drawn over, at most so often") {
  Screen screen;
  {
    Progress progress(screen.options(true));
    for (int i = 0; i < 1000; ++i) progress.update(make_snapshot(), i * 0.001);
    CHECK(std::count(screen.text.begin(), screen.text.end(), '\r') == 7);
    CHECK(screen.text.find('\n') == std::string::npos);
    screen.text.clear();
    progress.log("a message\x1b");
    CHECK(screen.text.find("\r\x1b[Ka message?\n") == 0);
    CHECK(screen.text.find("21,034/50,000") != std::string::npos);
    screen.text.clear();
  }
  CHECK(screen.text == "\r\x1b[K");
}

TEST_CASE("the width is asked again") {
  Screen screen;
  Progress::Options options = screen.options(true);
  int columns = 30;
  options.columns = [&columns] { return columns; };
  Progress progress(std::move(options));
  progress.update(make_snapshot(), 0);
  const std::size_t narrow = screen.text.size();
  columns = 100;
  progress.update(make_snapshot(), 1);
  CHECK(screen.text.size() - narrow > narrow);
}

TEST_CASE("elsewhere there is a line every ten seconds") {
  Screen screen;
  {
    Progress progress(screen.options(false));
    for (int i = 0; i < 350; ++i) progress.update(make_snapshot(), i * 0.1);
    progress.log("done");
  }
  CHECK(std::count(screen.text.begin(), screen.text.end(), '\n') == 4);
  CHECK(screen.text.find('\r') == std::string::npos);
  CHECK(screen.text.find('\x1b') == std::string::npos);
  CHECK(screen.text.ends_with("done\n"));
}

TEST_CASE("quiet shows messages only") {
  Screen screen;
  Progress::Options options = screen.options(true);
  options.quiet = true;
  Progress progress(std::move(options));
  progress.update(make_snapshot(), 0);
  progress.log("message");
  CHECK(screen.text == "message\n");
}

}  // namespace
}  // namespace llmrun
