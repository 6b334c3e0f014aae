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
void choose_division(SkinnyStreamPlan& plan, const LinearArguments& args, std::int64_t chunks,
                     const SkinnyStreamDevice& device) {
  const int row_step = args.epilogue == CudaLinearEpilogue::kSiluMul ? kSkinnyTileRows : 8;
  constexpr int kMaxRows = kMaxSkinnyTilesPerBlock * kSkinnyTileRows;
  double best = 0.0;
  for (const int splits : {1, 2, 4}) {
    const std::int64_t places = splits == 1   ? device.num_multiprocessors
                                : splits == 2 ? device.num_multiprocessors / 2
                                              : device.max_clusters_of_4;
    for (int rows = row_step; rows <= kMaxRows; rows += row_step) {
      if (places == 0) continue;
      const std::int64_t groups = ceil_div(args.num_rows, rows);
      const std::int64_t passes = ceil_div(groups, places);
      if (splits > 1 && (passes > 1 || chunks < 2 * splits)) continue;
      // In rows of weights a block reads; x costs about 8 rows beside each chunk, adding up a
      // cluster as much as 128 rows.
      const double cost = static_cast<double>(passes * ceil_div(chunks, splits) * (rows + 8)) +
                          (splits > 1 ? 128.0 : 0.0);
      if (best > 0.0 && cost >= best) continue;
      best = cost;
      plan.rows_per_block = rows;
      plan.num_splits = splits;
      plan.num_blocks = static_cast<int>(std::min(groups, places) * splits);
      // Few tiles: several warps take turns at the columns.
      plan.warp_groups = passes > 1 ? 1 : kMaxSkinnyTilesPerBlock / plan.tiles_per_block();
    }
  }
}

// With more copies under way than keep the memory busy, multiprocessors with a shorter way to it
// get so much that the others end late, and x waits behind weights that nobody needs yet.
int max_copies_under_way(int rows_per_block) {
  constexpr int kBytesUnderWay = 72 * 1024;
  constexpr int kFewest = 3;
  return std::max(kBytesUnderWay / (rows_per_block * kSkinnyChunkColumns * 2), kFewest);
}

}  // namespace

SkinnyStreamPlan plan_skinny_stream(const LinearArguments& args, const SkinnyStreamDevice& device,
                                    std::size_t shared_bytes) {
  SkinnyStreamPlan plan;
  const std::int64_t chunks = ceil_div(args.num_columns, kSkinnyChunkColumns);
  choose_division(plan, args, chunks, device);
  const std::int64_t passes =
      ceil_div(ceil_div(args.num_rows, plan.rows_per_block), plan.num_blocks / plan.num_splits);
  const auto loads = static_cast<int>(passes * ceil_div(chunks, plan.num_splits));
  const int groups = plan.warp_groups;
  plan.num_slots = std::max(std::min(loads, kMaxSkinnySlots) / groups * groups, groups);
  while (plan.num_slots > groups && skinny_stream_shared_bytes(args, plan) > shared_bytes) {
    plan.num_slots -= groups;
  }
  plan.max_copies = max_copies_under_way(plan.rows_per_block);
  return plan;
}

}  // namespace llmrun::kernels
