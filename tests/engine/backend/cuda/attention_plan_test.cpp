// Every position and every row is planned once, whatever the batch.
#include "engine/backend/cuda/attention_plan.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

using kernels::DecodeItem;
using kernels::PrefillTile;

struct Planned {
  AttentionPlan plan;
  std::vector<std::int32_t> first;  // of each worker, and one past the last
  std::vector<DecodeItem> items;
  std::vector<PrefillTile> tiles;
};

StepInputs make_inputs(const std::vector<std::int32_t>& num_new,
                       const std::vector<std::int32_t>& lengths) {
  StepInputs inputs;
  inputs.query_start_loc = {0};
  for (const std::int32_t n : num_new) {
    inputs.query_start_loc.push_back(inputs.query_start_loc.back() + n);
  }
  inputs.seq_lens = lengths;
  return inputs;
}

// Plans, checks the plan's own rules, and takes it apart.
Planned plan_and_check(const StepInputs& inputs, const AttentionPlanOptions& options) {
  const AttentionPlanLimits limits =
      attention_plan_limits(options, inputs.query_start_loc.back(), inputs.num_sequences());
  std::vector<std::int32_t> words(limits.num_words, -1);
  Planned planned;
  planned.plan = plan_attention(inputs, options, words);
  REQUIRE(planned.plan.num_words <= limits.num_words);
  const auto item_at = [&](std::int32_t i) {
    DecodeItem item;
    std::memcpy(&item,
                words.data() + kernels::decode_items_offset(options.num_workers) +
                    i * kernels::kDecodeItemWords,
                sizeof(item));
    return item;
  };
  planned.first.push_back(0);
  for (std::int32_t worker = 0; worker < options.num_workers; ++worker) {
    if (item_at(worker).end > 0) planned.items.push_back(item_at(worker));
    const auto i = static_cast<std::size_t>(2 * worker);
    if (words[i] < words[i + 1]) CHECK(item_at(worker).end > 0);
    for (std::int32_t item = words[i]; item < words[i + 1]; ++item) {
      planned.items.push_back(item_at(item));
    }
    planned.first.push_back(static_cast<std::int32_t>(planned.items.size()));
  }
  planned.tiles.resize(static_cast<std::size_t>(planned.plan.num_prefill_tiles));
  if (!planned.tiles.empty()) {
    std::memcpy(planned.tiles.data(), words.data() + planned.plan.prefill_offset,
                planned.tiles.size() * sizeof(PrefillTile));
  }
  CHECK(planned.first.back() == planned.plan.num_decode_items);

  std::vector<std::vector<DecodeItem>> parts(inputs.seq_lens.size());
  for (const DecodeItem& item : planned.items) {
    parts[static_cast<std::size_t>(item.sequence)].push_back(item);
  }
  std::vector<bool> is_used(static_cast<std::size_t>(limits.num_slots), false);
  std::vector<std::int64_t> rows(inputs.seq_lens.size(), 0);
  for (const PrefillTile& tile : planned.tiles) {
    const auto s = static_cast<std::size_t>(tile.sequence);
    CHECK(tile.first_token == inputs.query_start_loc[s]);
    CHECK(tile.first_row % kernels::kPrefillRows == 0);
    CHECK(tile.num_rows > 0);
    CHECK(tile.num_rows <= kernels::kPrefillRows);
    rows[s] += tile.num_rows;
  }
  for (std::size_t s = 0; s < parts.size(); ++s) {
    const std::int32_t num_new = inputs.query_start_loc[s + 1] - inputs.query_start_loc[s];
    CHECK(rows[s] == (num_new > 1 ? std::int64_t{num_new} * options.group_size : 0));
    if (num_new != 1) {
      CHECK(parts[s].empty());
      continue;
    }
    std::sort(parts[s].begin(), parts[s].end(),
              [](const auto& a, const auto& b) { return a.split < b.split; });
    std::int32_t position = 0;
    for (std::size_t i = 0; i < parts[s].size(); ++i) {
      const DecodeItem& item = parts[s][i];
      CHECK(item.token == inputs.query_start_loc[s]);
      CHECK(item.begin == position);
      CHECK(item.begin % kernels::kDecodeTile == 0);
      CHECK(item.end > item.begin);
      CHECK(item.position == inputs.seq_lens[s] - 1);
      CHECK(item.split == static_cast<std::int32_t>(i));
      CHECK(item.num_splits == static_cast<std::int32_t>(parts[s].size()));
      if (item.num_splits > 1) {
        const auto slot = static_cast<std::size_t>(item.first_slot + item.split);
        REQUIRE(slot < is_used.size());
        CHECK_FALSE(is_used[slot]);
        is_used[slot] = true;
      }
      position = item.end;
    }
    CHECK(position == inputs.seq_lens[s]);
  }
  return planned;
}

std::int64_t largest_share(const Planned& planned) {
  std::int64_t largest = 0;
  for (std::size_t worker = 0; worker + 1 < planned.first.size(); ++worker) {
    std::int64_t positions = 0;
    for (std::int32_t i = planned.first[worker]; i < planned.first[worker + 1]; ++i) {
      const DecodeItem& item = planned.items[static_cast<std::size_t>(i)];
      positions += item.end - item.begin;
    }
    largest = std::max(largest, positions);
  }
  return largest;
}

TEST_CASE("attention plan: random batches are covered once") {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::int32_t> num_new;
    std::vector<std::int32_t> lengths;
    const auto count = random() % 40;
    for (unsigned i = 0; i < count; ++i) {
      const auto n = static_cast<std::int32_t>(random() % 3 == 0 ? 2 + random() % 500 : 1);
      const auto context =
          static_cast<std::int32_t>(random() % 4 == 0 ? random() % 20000 : random() % 300);
      num_new.push_back(n);
      lengths.push_back(n + context);
    }
    const StepInputs inputs = make_inputs(num_new, lengths);
    for (const bool batch_invariant : {false, true}) {
      plan_and_check(inputs, {.num_workers = static_cast<std::int32_t>(1 + random() % 70),
                              .group_size = static_cast<std::int32_t>(1 + random() % 8),
                              .batch_invariant = batch_invariant});
    }
  }
}

TEST_CASE("attention plan: workers get equal shares") {
  const std::vector<std::int32_t> ones(256, 1);
  const StepInputs equal = make_inputs(ones, std::vector<std::int32_t>(256, 1000));
  CHECK(largest_share(plan_and_check(equal, {.num_workers = 33})) <= 8000);
  std::vector<std::int32_t> lengths(256, 100);
  lengths[200] = 100000;
  const StepInputs unequal = make_inputs(ones, lengths);
  CHECK(largest_share(plan_and_check(unequal, {.num_workers = 33})) < 125600 / 33 + 400);
  CHECK(largest_share(plan_and_check(unequal, {.num_workers = 33, .batch_invariant = true})) <=
        12512);
}

TEST_CASE("attention plan: short sequences are not split when workers are free") {
  const StepInputs inputs =
      make_inputs(std::vector<std::int32_t>(25, 1), std::vector<std::int32_t>(25, 190));
  const Planned planned = plan_and_check(inputs, {.num_workers = 33});
  CHECK(planned.items.size() == 25);
  CHECK(largest_share(planned) == 190);
}

TEST_CASE("attention plan: fixed splits depend on the length alone") {
  const Planned one =
      plan_and_check(make_inputs({1}, {3000}), {.num_workers = 33, .batch_invariant = true});
  const Planned many = plan_and_check(make_inputs({1, 1, 1}, {70, 3000, 9000}),
                                      {.num_workers = 5, .batch_invariant = true});
  const auto ends = [](const Planned& planned, std::int32_t sequence) {
    std::vector<std::int32_t> found;
    for (const DecodeItem& item : planned.items) {
      if (item.sequence == sequence) found.push_back(item.end);
    }
    std::sort(found.begin(), found.end());
    return found;
  };
  CHECK(ends(one, 0) == ends(many, 1));
}

TEST_CASE("attention plan: longest prefill tiles first") {
  const Planned planned = plan_and_check(make_inputs({300, 2, 1000}, {300, 5000, 1000}),
                                         {.num_workers = 4, .group_size = 4});
  REQUIRE(!planned.tiles.empty());
  CHECK(planned.tiles[0].sequence == 1);
  CHECK(planned.tiles[1].sequence == 2);
  CHECK(planned.tiles.back().first_row == 0);
}

}  // namespace
}  // namespace llmrun
