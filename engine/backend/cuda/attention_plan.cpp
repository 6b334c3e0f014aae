#include "engine/backend/cuda/attention_plan.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/core/error.h"

namespace llmrun {
namespace {

using kernels::DecodeItem;
using kernels::PrefillTile;

// Positions. An item costs its length and about as much as kItemCost more of them; cuts cost a
// worker about kCutCost. A cut worker should get at least kMinShare, and a share may be passed by
// kSlack where that saves a cut.
constexpr std::int64_t kItemCost = 32;
constexpr std::int64_t kCutCost = 192;
constexpr std::int64_t kMinShare = 256;
constexpr std::int64_t kSlack = 64;
// Splits that depend on the length alone.
constexpr std::int32_t kFixedSplit = 1024;
constexpr std::int32_t kMaxFixedSplits = 8;

std::int32_t round_up(std::int32_t n, std::int32_t unit) {
  return (n + unit - 1) / unit * unit;
}

struct DecodeSequence {
  std::int32_t token;
  std::int32_t sequence;
  std::int32_t length;
};

std::vector<DecodeSequence> decode_sequences(const StepInputs& inputs) {
  std::vector<DecodeSequence> found;
  found.reserve(inputs.seq_lens.size());
  for (std::int32_t s = 0; s < inputs.num_sequences(); ++s) {
    const auto i = static_cast<std::size_t>(s);
    if (inputs.query_start_loc[i + 1] - inputs.query_start_loc[i] == 1) {
      found.push_back({inputs.query_start_loc[i], s, inputs.seq_lens[i]});
    }
  }
  return found;
}

// A sequence's items, whose number is known when the last one is.
class ItemWriter {
 public:
  explicit ItemWriter(std::vector<DecodeItem>& items) : items_(items) {}

  void begin_sequence(const DecodeSequence& sequence) {
    sequence_ = sequence;
    first_item_ = items_.size();
    position_ = 0;
  }
  std::int32_t rest() const { return sequence_.length - position_; }
  // The next `count` positions.
  void add_item(std::int32_t count) {
    items_.push_back({.token = sequence_.token,
                      .sequence = sequence_.sequence,
                      .begin = position_,
                      .end = position_ + count,
                      .position = sequence_.length - 1,
                      .first_slot = 0,
                      .split = static_cast<std::int32_t>(items_.size() - first_item_),
                      .num_splits = 1});
    position_ += count;
  }
  void end_sequence() {
    const auto num_splits = static_cast<std::int32_t>(items_.size() - first_item_);
    if (num_splits == 1) return;
    for (std::size_t i = first_item_; i < items_.size(); ++i) {
      items_[i].first_slot = next_slot_;
      items_[i].num_splits = num_splits;
    }
    next_slot_ += num_splits;
  }

 private:
  std::vector<DecodeItem>& items_;
  DecodeSequence sequence_{};
  std::size_t first_item_ = 0;
  std::int32_t position_ = 0;
  std::int32_t next_slot_ = 0;
};

// Who does what: worker w's items are [first[w], first[w + 1]).
struct Shares {
  std::vector<DecodeItem> items;
  std::vector<std::int32_t> first;
  std::int64_t largest_cost = 0;
};

std::int64_t equal_share(const std::vector<DecodeSequence>& sequences, std::int32_t num_workers) {
  std::int64_t cost = 0;
  for (const DecodeSequence& sequence : sequences) cost += sequence.length + kItemCost;
  return std::max(cost / num_workers, kMinShare);
}

// The sequences end to end, cut into equal shares.
Shares cut_into_shares(const std::vector<DecodeSequence>& sequences, std::int32_t num_workers) {
  Shares shares;
  std::int64_t rest_cost = 0;
  for (const DecodeSequence& sequence : sequences) rest_cost += sequence.length + kItemCost;
  ItemWriter writer(shares.items);
  std::size_t next = 0;
  if (!sequences.empty()) writer.begin_sequence(sequences[0]);
  for (std::int32_t worker = 0; worker < num_workers; ++worker) {
    shares.first.push_back(static_cast<std::int32_t>(shares.items.size()));
    const bool is_last = worker + 1 == num_workers;
    const std::int64_t share = std::max(rest_cost / (num_workers - worker), kMinShare);
    std::int64_t cost = 0;
    while (next < sequences.size()) {
      const std::int64_t room = share - cost - kItemCost;
      const std::int32_t rest = writer.rest();
      if (rest <= room + kSlack || is_last) {
        writer.add_item(rest);
        writer.end_sequence();
        cost += rest + kItemCost;
        if (++next < sequences.size()) writer.begin_sequence(sequences[next]);
      } else {
        const auto count =
            static_cast<std::int32_t>(room / kernels::kDecodeTile) * kernels::kDecodeTile;
        if (count >= kSlack) {
          writer.add_item(count);
          cost += count;  // the rest of the sequence is another item
        }
        break;
      }
      if (cost >= share && !is_last) break;
    }
    rest_cost -= cost;
    shares.largest_cost = std::max(shares.largest_cost, cost);
  }
  shares.first.push_back(static_cast<std::int32_t>(shares.items.size()));
  return shares;
}

// Items of at most `max_split(length)` positions.
template <typename MaxSplit>
std::vector<DecodeItem> split_sequences(const std::vector<DecodeSequence>& sequences,
                                        const MaxSplit& max_split) {
  std::vector<DecodeItem> items;
  ItemWriter writer(items);
  for (const DecodeSequence& sequence : sequences) {
    writer.begin_sequence(sequence);
    const std::int32_t split = max_split(sequence.length);
    while (writer.rest() > 0) writer.add_item(std::min(split, writer.rest()));
    writer.end_sequence();
  }
  return items;
}

std::int32_t fixed_split(std::int32_t length) {
  return std::max(kFixedSplit,
                  round_up((length + kMaxFixedSplits - 1) / kMaxFixedSplits, kernels::kDecodeTile));
}

// Items dealt to the workers longest first, each to the one with least to do.
Shares deal(std::vector<DecodeItem> items, std::int32_t num_workers) {
  std::stable_sort(items.begin(), items.end(),
                   [](const auto& a, const auto& b) { return a.end - a.begin > b.end - b.begin; });
  struct Worker {
    std::int64_t cost;
    std::int32_t index;
  };
  const auto does_more = [](const Worker& a, const Worker& b) {
    return a.cost != b.cost ? a.cost > b.cost : a.index > b.index;
  };
  Shares shares;
  std::vector<Worker> heap;
  heap.reserve(static_cast<std::size_t>(num_workers));
  for (std::int32_t i = 0; i < num_workers; ++i) heap.push_back({0, i});
  std::vector<std::vector<DecodeItem>> lists(static_cast<std::size_t>(num_workers));
  for (const DecodeItem& item : items) {
    std::pop_heap(heap.begin(), heap.end(), does_more);
    Worker& worker = heap.back();
    lists[static_cast<std::size_t>(worker.index)].push_back(item);
    worker.cost += item.end - item.begin + kItemCost;
    shares.largest_cost = std::max(shares.largest_cost, worker.cost);
    std::push_heap(heap.begin(), heap.end(), does_more);
  }
  for (const auto& list : lists) {
    shares.first.push_back(static_cast<std::int32_t>(shares.items.size()));
    shares.items.insert(shares.items.end(), list.begin(), list.end());
  }
  shares.first.push_back(static_cast<std::int32_t>(shares.items.size()));
  return shares;
}

Shares share_sequences(const std::vector<DecodeSequence>& sequences,
                       const AttentionPlanOptions& options) {
  if (options.batch_invariant) {
    return deal(split_sequences(sequences, fixed_split), options.num_workers);
  }
  const auto whole = [](std::int32_t length) { return length; };
  Shares shares = deal(split_sequences(sequences, whole), options.num_workers);
  if (shares.largest_cost <= equal_share(sequences, options.num_workers) + kCutCost) return shares;
  return cut_into_shares(sequences, options.num_workers);
}

// Parts of split sequences come first in a worker, so that nobody waits for them at the end.
void put_parts_first(Shares& shares) {
  for (std::size_t worker = 0; worker + 1 < shares.first.size(); ++worker) {
    std::stable_partition(shares.items.begin() + shares.first[worker],
                          shares.items.begin() + shares.first[worker + 1],
                          [](const DecodeItem& item) { return item.num_splits > 1; });
  }
}

// Writes the decode part of the list. Returns its size in words.
std::size_t write_items(const Shares& shares, std::span<std::int32_t> out) {
  const std::vector<DecodeItem>& items = shares.items;
  const std::vector<std::int32_t>& first = shares.first;
  const std::size_t num_workers = first.size() - 1;
  const auto offset = static_cast<std::size_t>(
      kernels::decode_items_offset(static_cast<std::int32_t>(num_workers)));
  LLMRUN_CHECK(offset + (num_workers + items.size()) * kernels::kDecodeItemWords <= out.size());
  std::fill_n(out.begin(), offset + num_workers * kernels::kDecodeItemWords, 0);
  std::size_t next = num_workers;  // item
  const auto put = [&](std::size_t place, const DecodeItem& item) {
    std::memcpy(out.data() + offset + place * kernels::kDecodeItemWords, &item, sizeof(item));
  };
  for (std::size_t worker = 0; worker < num_workers; ++worker) {
    const auto begin = static_cast<std::size_t>(first[worker]);
    const auto end = static_cast<std::size_t>(first[worker + 1]);
    out[2 * worker] = static_cast<std::int32_t>(next);
    if (begin < end) put(worker, items[begin]);
    for (std::size_t i = begin + 1; i < end; ++i) put(next++, items[i]);
    out[2 * worker + 1] = static_cast<std::int32_t>(next);
  }
  return offset + next * kernels::kDecodeItemWords;
}

std::vector<PrefillTile> prefill_tiles(const StepInputs& inputs, std::int32_t group_size) {
  std::vector<PrefillTile> tiles;
  for (std::int32_t s = 0; s < inputs.num_sequences(); ++s) {
    const auto i = static_cast<std::size_t>(s);
    const std::int32_t first_token = inputs.query_start_loc[i];
    const std::int32_t count = inputs.query_start_loc[i + 1] - first_token;
    if (count < 2) continue;
    const std::int32_t num_rows = count * group_size;
    for (std::int32_t row = 0; row < num_rows; row += kernels::kPrefillRows) {
      tiles.push_back({.first_token = first_token,
                       .sequence = s,
                       .first_position = inputs.seq_lens[i] - count,
                       .first_row = row,
                       .num_rows = std::min(kernels::kPrefillRows, num_rows - row),
                       .unused = {}});
    }
  }
  const auto length = [group_size](const PrefillTile& tile) {
    return tile.first_position + (tile.first_row + tile.num_rows - 1) / group_size;
  };
  std::stable_sort(tiles.begin(), tiles.end(),
                   [&](const auto& a, const auto& b) { return length(a) > length(b); });
  return tiles;
}

}  // namespace

AttentionPlanLimits attention_plan_limits(const AttentionPlanOptions& options,
                                          std::int32_t max_num_tokens,
                                          std::int32_t max_num_sequences) {
  const std::int64_t sequences = max_num_sequences;
  const std::int64_t workers = options.num_workers;
  // A cut adds one item; the sequences it goes through have one slot an item.
  const std::int64_t items =
      options.batch_invariant ? sequences * kMaxFixedSplits : sequences + workers;
  const std::int64_t slots = options.batch_invariant ? items : 2 * workers;
  const std::int64_t tiles =
      std::int64_t{max_num_tokens} * options.group_size / kernels::kPrefillRows + sequences;
  const std::int64_t words = kernels::decode_items_offset(options.num_workers) +
                             (workers + items) * kernels::kDecodeItemWords +
                             tiles * kernels::kPrefillTileWords;
  return {static_cast<std::size_t>(words), slots};
}

AttentionPlan plan_attention(const StepInputs& inputs, const AttentionPlanOptions& options,
                             std::span<std::int32_t> out) {
  Shares shares = share_sequences(decode_sequences(inputs), options);
  put_parts_first(shares);
  const std::vector<PrefillTile> tiles = prefill_tiles(inputs, options.group_size);

  AttentionPlan plan;
  plan.num_decode_items = static_cast<std::int32_t>(shares.items.size());
  plan.num_prefill_tiles = static_cast<std::int32_t>(tiles.size());
  plan.prefill_offset = write_items(shares, out);
  plan.num_words = plan.prefill_offset + tiles.size() * kernels::kPrefillTileWords;
  LLMRUN_CHECK(plan.num_words <= out.size());
  if (!tiles.empty()) {
    std::memcpy(out.data() + plan.prefill_offset, tiles.data(), tiles.size() * sizeof(PrefillTile));
  }
  return plan;
}

}  // namespace llmrun
