// How the streaming kernel divides a linear.
#include <algorithm>

#include "kernels/cuda/skinny_linear_variants.h"

namespace llmrun::kernels {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

// Rows and columns to blocks, so that all multiprocessors have the same bytes to read. It must not
// look at the number of tokens, on which no sum's order may depend.
void choose_division(SkinnyStreamPlan& plan, std::int64_t row_tiles, std::int64_t chunks,
                     const SkinnyStreamDevice& device) {
  double best = 0.0;
  for (const int splits : {1, 2, 4}) {
    const std::int64_t places = splits == 1   ? device.num_multiprocessors
                                : splits == 2 ? device.num_multiprocessors / 2
                                              : device.max_clusters_of_4;
    for (int tiles = 1; tiles <= kMaxSkinnyTilesPerBlock; ++tiles) {
      if (places == 0) continue;
      const std::int64_t groups = ceil_div(row_tiles, tiles);
      const std::int64_t passes = ceil_div(groups, places);
      if (splits > 1 && (passes > 1 || chunks < 2 * splits)) continue;
      // In tiles of weights a block reads; x costs about half a tile beside each chunk, adding up a
      // cluster as much as 8 tiles.
      const double cost = static_cast<double>(passes * ceil_div(chunks, splits)) * (tiles + 0.5) +
                          (splits > 1 ? 8.0 : 0.0);
      if (best > 0.0 && cost >= best) continue;
      best = cost;
      plan.tiles_per_block = tiles;
      plan.num_splits = splits;
      plan.num_blocks = static_cast<int>(std::min(groups, places) * splits);
      // Few tiles: several warps take turns at the columns, so that a block has about 8.
      plan.warp_groups = passes > 1 ? 1 : std::max(1, 8 / tiles);
    }
  }
}

}  // namespace

SkinnyStreamPlan plan_skinny_stream(const SkinnyLinear& args, const SkinnyStreamDevice& device,
                                    std::size_t shared_bytes) {
  SkinnyStreamPlan plan;
  const std::int64_t row_tiles = ceil_div(args.num_rows, kSkinnyTileRows);
  const std::int64_t chunks = ceil_div(args.num_columns, kSkinnyChunkColumns);
  choose_division(plan, row_tiles, chunks, device);
  const std::int64_t passes =
      ceil_div(ceil_div(row_tiles, plan.tiles_per_block), plan.num_blocks / plan.num_splits);
  const auto loads = static_cast<int>(passes * ceil_div(chunks, plan.num_splits));
  const int groups = plan.warp_groups;
  plan.num_slots = std::max(std::min(loads, kMaxSkinnySlots) / groups * groups, groups);
  while (plan.num_slots > groups && skinny_stream_shared_bytes(args, plan) > shared_bytes) {
    plan.num_slots -= groups;
  }
  return plan;
}

}  // namespace llmrun::kernels
