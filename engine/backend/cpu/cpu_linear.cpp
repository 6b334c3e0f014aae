#include "engine/backend/cpu/cpu_linear.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

#include "engine/core/error.h"
#include "engine/core/float16.h"
#include "kernels/cpu/packing.h"

namespace llmrun {
namespace {

using kernels::kPanelColumns;

constexpr std::int64_t kTasksPerThread = 16;
// Fewer rows in a task do not pay for reading the weights once more.
constexpr std::int64_t kMinRowsPerTask = 96;
// Activations of a task that may lie in the second-level cache beside the weights that pass.
constexpr std::int64_t kCachedActivationBytes = std::int64_t{5} << 18;
// Tasks of a product that is divided along the depth: eight and more a thread, up to 32 threads.
constexpr std::int64_t kDepthTasks = 256;
// A shorter part, of 16 KiB of weights, saves no more than the tenth of a microsecond it costs.
constexpr std::int64_t kMinPartDepth = 512;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return ceil_div(value, multiple) * multiple;
}

bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBf16;
}

float load_as_float(const Tensor& tensor, std::int64_t i) {
  switch (tensor.dtype()) {
    case DType::kF16: return f16_to_float(tensor.as<std::uint16_t>()[i]);
    case DType::kBf16: return bf16_to_float(tensor.as<std::uint16_t>()[i]);
    default: return tensor.as<float>()[i];
  }
}

// splitmix64: one well-mixed word a counter. Source: Steele, Lea, Flood, OOPSLA 2014.
std::uint64_t mix(std::uint64_t counter) {
  std::uint64_t z = counter * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

// Nearly normal with the given standard deviation, never 0: the sum of four uniform numbers.
float random_value(std::uint64_t seed, std::uint64_t index, float stddev) {
  const std::uint64_t word = mix(mix(seed + 1) + index);
  const auto sum = static_cast<std::int32_t>((word & 0xffffU) + ((word >> 16) & 0xffffU) +
                                             ((word >> 32) & 0xffffU) + (word >> 48));
  constexpr float kUnit = 1.0F / 37837.0F;  // 1 / (65536 * sqrt(4 / 12))
  const float centred = static_cast<float>(sum - 131070) + 0.5F;
  return centred * kUnit * stddev;
}

// Sums of part `part` of the depth, of one panel, to sums [num_parts, num_rows, 16].
void run_depth_part(const kernels::LinearKernel& kernel, kernels::LinearArgs args,
                    std::int64_t panel, std::int64_t part, std::int64_t part_depth, bool has_next,
                    float* sums, void* scratch) {
  const std::int64_t k = part * part_depth;
  args.activations = static_cast<const std::byte*>(args.activations) +
                     k * static_cast<std::int64_t>(dtype_bytes(kernel.activation_dtype));
  args.weight = static_cast<const std::uint16_t*>(args.weight) + panel * args.panel_stride +
                k * kPanelColumns;
  args.depth = std::min(part_depth, args.depth - k);
  args.bias = nullptr;
  args.out = sums + part * args.num_rows * kPanelColumns;
  args.out_stride = kPanelColumns;
  args.out_columns = kPanelColumns;
  args.epilogue = kernels::LinearEpilogue::kStore;
  kernel.run(args,
             {.row_begin = 0,
              .row_end = args.num_rows,
              .panel_begin = 0,
              .panel_end = 1,
              .has_next = has_next},
             scratch);
}

// One panel's columns of the output, from the sums [num_parts, num_rows, 16] of parts of the depth.
void finish_panel(const kernels::LinearArgs& args, const float* sums, std::int64_t num_parts,
                  std::int64_t panel) {
  const std::int64_t first_column = panel * kPanelColumns;
  const std::int64_t num_columns = std::min(kPanelColumns, args.out_columns - first_column);
  for (std::int64_t row = 0; row < args.num_rows; ++row) {
    float total[kPanelColumns] = {};
    for (std::int64_t part = 0; part < num_parts; ++part) {
      const float* sum = sums + (part * args.num_rows + row) * kPanelColumns;
      for (std::int64_t i = 0; i < kPanelColumns; ++i) total[i] += sum[i];
    }
    float* out = args.out + row * args.out_stride + first_column;
    for (std::int64_t i = 0; i < num_columns; ++i) {
      if (args.bias != nullptr) total[i] += args.bias[first_column + i];
      out[i] = args.epilogue == kernels::LinearEpilogue::kAdd ? out[i] + total[i] : total[i];
    }
  }
}

}  // namespace

CpuLinearWeight::CpuLinearWeight(std::int64_t num_rows, std::int64_t num_columns, DType dtype,
                                 bool is_gate_up, bool has_bias)
    : LinearWeight(num_rows, num_columns),
      dtype_(dtype == DType::kBf16 ? DType::kBf16 : DType::kF32),
      is_gate_up_(is_gate_up) {
  LLMRUN_CHECK(num_rows > 0 && num_columns > 0 && is_float(dtype));
  num_panels_ =
      is_gate_up ? 2 * ceil_div(num_rows / 2, kPanelColumns) : ceil_div(num_rows, kPanelColumns);
  padded_depth_ =
      dtype_ == DType::kBf16 ? round_up(num_columns, kernels::kDepthAlignment) : num_columns;
  panels_ = HostBuffer(static_cast<std::size_t>(num_panels_) * panel_bytes());
  if (has_bias) {
    const auto padded_rows = static_cast<std::size_t>(num_panels_ * kPanelColumns);
    bias_ = HostBuffer(padded_rows * sizeof(float));
    std::fill_n(bias_.as<float>(), padded_rows, 0.0F);
  }
}

std::size_t CpuLinearWeight::panel_bytes() const {
  return static_cast<std::size_t>(padded_depth_ * kPanelColumns) * dtype_bytes(dtype_);
}

void* CpuLinearWeight::panel(std::int64_t index) {
  return panels_.as<std::byte>() + static_cast<std::size_t>(index) * panel_bytes();
}

const void* CpuLinearWeight::panel(std::int64_t index) const {
  return panels_.as<std::byte>() + static_cast<std::size_t>(index) * panel_bytes();
}

std::int64_t CpuLinearWeight::row_at(std::int64_t panel, std::int64_t column) const {
  if (!is_gate_up_) {
    const std::int64_t row = panel * kPanelColumns + column;
    return row < num_rows() ? row : -1;
  }
  const std::int64_t half = num_rows() / 2;  // gate rows, then up rows; their panels alternate
  const std::int64_t row = panel / 2 * kPanelColumns + column;
  return row < half ? panel % 2 * half + row : -1;
}

CpuLinear::CpuLinear(ThreadPool& pool, const kernels::CpuKernels& kernels, bool deterministic)
    : pool_(pool), kernels_(kernels), deterministic_(deterministic) {
  for (const kernels::LinearKernel* kernel :
       {&kernels.linear_f32, &kernels.linear_bf16, &kernels.linear_bf16_few_rows}) {
    scratch_stride_ = std::max(scratch_stride_, (kernel->scratch_bytes + 63) / 64 * 64);
  }
  scratch_ = HostBuffer(scratch_stride_ * static_cast<std::size_t>(pool.num_threads()));
}

std::unique_ptr<CpuLinearWeight> CpuLinear::pack(const LinearSource& source, DType dtype) {
  return pack_rows(source.parts, source.biases, dtype, false);
}

std::unique_ptr<CpuLinearWeight> CpuLinear::pack_gate_up(const LinearSource& source, DType dtype) {
  LLMRUN_CHECK(source.parts.size() == 2 && source.parts[0].dim(0) == source.parts[1].dim(0));
  return pack_rows(source.parts, source.biases, dtype, true);
}

std::unique_ptr<CpuLinearWeight> CpuLinear::pack_rows(const std::vector<Tensor>& parts,
                                                      const std::vector<Tensor>& biases,
                                                      DType dtype, bool is_gate_up) {
  LLMRUN_CHECK(!parts.empty());
  LLMRUN_CHECK(biases.empty() || biases.size() == parts.size());
  const std::int64_t depth = parts[0].dim(1);
  std::int64_t num_rows = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    LLMRUN_CHECK(parts[i].rank() == 2 && parts[i].dim(1) == depth && is_float(parts[i].dtype()));
    LLMRUN_CHECK(parts[i].dtype() == parts[0].dtype());
    LLMRUN_CHECK(biases.empty() || biases[i].num_elements() == parts[i].dim(0));
    num_rows += parts[i].dim(0);
  }
  std::vector<const std::byte*> rows;
  std::vector<float> bias;
  rows.reserve(static_cast<std::size_t>(num_rows));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t row_bytes = static_cast<std::size_t>(depth) * dtype_bytes(parts[i].dtype());
    for (std::int64_t row = 0; row < parts[i].dim(0); ++row) {
      rows.push_back(static_cast<const std::byte*>(parts[i].data()) +
                     static_cast<std::size_t>(row) * row_bytes);
      if (!biases.empty()) bias.push_back(load_as_float(biases[i], row));
    }
  }
  auto weight =
      std::make_unique<CpuLinearWeight>(num_rows, depth, dtype, is_gate_up, !biases.empty());
  pool_.parallel_for(weight->num_panels(), [&](std::int64_t panel, std::int32_t) {
    kernels::PanelRows source;
    source.dtype = parts[0].dtype();
    for (std::int64_t column = 0; column < kPanelColumns; ++column) {
      const std::int64_t row = weight->row_at(panel, column);
      if (row < 0) continue;
      source.rows[column] = rows[static_cast<std::size_t>(row)];
      if (!bias.empty()) {
        weight->mutable_bias()[panel * kPanelColumns + column] =
            bias[static_cast<std::size_t>(row)];
      }
    }
    if (weight->dtype() == DType::kBf16) {
      kernels::pack_panel_bf16(static_cast<std::uint16_t*>(weight->panel(panel)), source, depth,
                               weight->padded_depth());
    } else {
      kernels::pack_panel_f32(static_cast<float*>(weight->panel(panel)), source, depth);
    }
  });
  return weight;
}

std::unique_ptr<CpuLinearWeight> CpuLinear::make_random(std::int64_t num_rows,
                                                        std::int64_t num_columns, DType dtype,
                                                        bool is_gate_up, bool has_bias,
                                                        float stddev, std::uint64_t seed) {
  auto weight =
      std::make_unique<CpuLinearWeight>(num_rows, num_columns, dtype, is_gate_up, has_bias);
  std::vector<std::vector<float>> scratch(static_cast<std::size_t>(pool_.num_threads()));
  pool_.parallel_for(weight->num_panels(), [&](std::int64_t panel, std::int32_t thread) {
    std::vector<float>& values = scratch[static_cast<std::size_t>(thread)];
    values.resize(static_cast<std::size_t>(kPanelColumns * num_columns));
    kernels::PanelRows source;
    for (std::int64_t column = 0; column < kPanelColumns; ++column) {
      const std::int64_t row = weight->row_at(panel, column);
      if (row < 0) continue;
      float* to = values.data() + column * num_columns;
      for (std::int64_t k = 0; k < num_columns; ++k) {
        to[k] = random_value(seed, static_cast<std::uint64_t>(row * num_columns + k), stddev);
      }
      source.rows[column] = to;
      if (has_bias) {
        weight->mutable_bias()[panel * kPanelColumns + column] =
            random_value(~seed, static_cast<std::uint64_t>(row), stddev);
      }
    }
    if (weight->dtype() == DType::kBf16) {
      kernels::pack_panel_bf16(static_cast<std::uint16_t*>(weight->panel(panel)), source,
                               num_columns, weight->padded_depth());
    } else {
      kernels::pack_panel_f32(static_cast<float*>(weight->panel(panel)), source, num_columns);
    }
  });
  return weight;
}

void CpuLinear::run(const Tensor& out, const Tensor& x, const CpuLinearWeight& weight,
                    kernels::LinearEpilogue epilogue, Activation activation) {
  const std::int64_t num_rows = x.dim(0);
  if (num_rows == 0) return;
  const kernels::LinearKernel& kernel = kernel_for(weight.dtype(), num_rows);
  const bool is_gate_up = epilogue == kernels::LinearEpilogue::kGateMul;
  kernels::LinearArgs args;
  args.activations = x.data();
  args.activation_stride = weight.num_columns();
  if (x.dtype() == DType::kBf16) {
    LLMRUN_CHECK(input_dtype(weight) == DType::kBf16);
  } else if (kernel.pack_activations != nullptr) {
    pack_activations(kernel, x, weight);
    args.activations = activations_.data();
    args.activation_stride = weight.padded_depth();
  }
  args.num_rows = num_rows;
  args.weight = weight.panels();
  args.panel_stride = weight.padded_depth() * kPanelColumns;
  args.num_columns = weight.num_rows();
  args.depth = weight.padded_depth();
  args.bias = weight.bias();
  if (out.dtype() == DType::kBf16) {
    LLMRUN_CHECK(is_gate_up);
    args.out_bf16 = out.as<std::uint16_t>();
  } else {
    args.out = out.as<float>();
  }
  args.out_columns = is_gate_up ? weight.num_rows() / 2 : weight.num_rows();
  args.out_stride = args.out_columns;
  args.epilogue = epilogue;
  args.activation = activation;
  const std::int64_t part_depth = depth_of_parts(kernel, args, weight.num_panels());
  if (part_depth < args.depth) {
    run_depth_parts(kernel, args, weight.num_panels(), part_depth);
  } else {
    run_tasks(kernel, args, weight.num_panels());
  }
}

DType CpuLinear::input_dtype(const CpuLinearWeight& weight) const {
  const bool takes_bf16 = weight.dtype() == DType::kBf16 &&
                          weight.padded_depth() == weight.num_columns() &&
                          kernels_.linear_bf16.activation_dtype == DType::kBf16 &&
                          kernels_.linear_bf16_few_rows.activation_dtype == DType::kBf16;
  return takes_bf16 ? DType::kBf16 : DType::kF32;
}

void CpuLinear::read_row(float* out, const CpuLinearWeight& weight, std::int64_t row) const {
  LLMRUN_CHECK(!weight.is_gate_up() && row >= 0 && row < weight.num_rows());
  const void* panel = weight.panel(row / kPanelColumns);
  const std::int64_t column = row % kPanelColumns;
  if (weight.dtype() == DType::kBf16) {
    kernels::unpack_row_bf16(out, static_cast<const std::uint16_t*>(panel), column,
                             weight.num_columns());
  } else {
    kernels::unpack_row_f32(out, static_cast<const float*>(panel), column, weight.num_columns());
  }
}

const kernels::LinearKernel& CpuLinear::kernel_for(DType dtype, std::int64_t num_rows) const {
  if (dtype == DType::kF32) return kernels_.linear_f32;
  if (num_rows < kernels::CpuKernels::kFewRows && !deterministic_) {
    return kernels_.linear_bf16_few_rows;
  }
  return kernels_.linear_bf16;
}

void CpuLinear::pack_activations(const kernels::LinearKernel& kernel, const Tensor& x,
                                 const CpuLinearWeight& weight) {
  // Below this many elements waking the other threads costs more than they save.
  constexpr std::int64_t kPackedElementsPerTask = 8192;
  const std::int64_t num_rows = x.dim(0);
  const kernels::ActivationSource source = {.x = x.as<float>(),
                                            .stride = weight.num_columns(),
                                            .depth = weight.num_columns(),
                                            .padded_depth = weight.padded_depth()};
  activations_.reserve(static_cast<std::size_t>(num_rows * source.padded_depth) *
                       dtype_bytes(kernel.activation_dtype));
  const std::int64_t rows =
      std::clamp<std::int64_t>(kPackedElementsPerTask / source.depth, 1, num_rows);
  const std::int64_t depth =
      std::min(source.padded_depth,
               round_up(ceil_div(kPackedElementsPerTask, rows), kernels::kDepthAlignment));
  const std::int64_t depth_tasks = ceil_div(source.padded_depth, depth);
  pool_.parallel_for(ceil_div(num_rows, rows) * depth_tasks, [&](std::int64_t task, std::int32_t) {
    kernels::PackRange range;
    range.row_begin = task / depth_tasks * rows;
    range.row_end = std::min(range.row_begin + rows, num_rows);
    range.depth_begin = task % depth_tasks * depth;
    range.depth_end = std::min(range.depth_begin + depth, source.padded_depth);
    kernel.pack_activations(activations_.data(), source, range);
  });
}

// Panels of one task: many tasks a thread, since threads run at different speeds (hyperthreads,
// other programs); whole groups of panels unless there are too few for that.
std::int64_t CpuLinear::panels_per_task(const kernels::LinearKernel& kernel,
                                        const kernels::LinearArgs& args,
                                        std::int64_t num_panels) const {
  const std::int64_t panels = ceil_div(num_panels, kTasksPerThread * pool_.num_threads());
  if (args.num_rows >= 2 * kMinRowsPerTask || panels > kernel.panel_group / 2) {
    return round_up(panels, kernel.panel_group);
  }
  const bool is_gate_up = args.epilogue == kernels::LinearEpilogue::kGateMul;
  return round_up(panels, args.num_rows < kernels::CpuKernels::kFewRows && !is_gate_up ? 1 : 2);
}

std::optional<CpuLinear::Tasks> CpuLinear::Part::take(std::int64_t max_tasks) {
  const std::atomic_ref<std::int64_t> next(next_task);
  // Looked at before it is counted up: most threads find most parts empty.
  const std::int64_t num_left = end_task - next.load(std::memory_order_relaxed);
  if (num_left <= 0) return std::nullopt;
  const std::int64_t count = std::clamp<std::int64_t>(num_left / 2, 1, max_tasks);
  const std::int64_t begin = next.fetch_add(count, std::memory_order_relaxed);
  if (begin >= end_task) return std::nullopt;
  return Tasks{begin, std::min(begin + count, end_task)};
}

void CpuLinear::give_threads_parts(std::int64_t num_rows, std::int64_t num_tasks) {
  parts_.clear();
  const std::int64_t num_threads = pool_.num_threads();
  for (std::int64_t i = 0; i < num_threads; ++i) {
    parts_.push_back({0, num_rows, i * num_tasks / num_threads, (i + 1) * num_tasks / num_threads});
  }
}

template <typename F>
void CpuLinear::run_parts(std::int64_t num_tasks, std::int64_t max_tasks, const F& run) {
  pool_.run_team(num_tasks, [&](std::int32_t thread) {
    void* scratch = scratch_.as<std::byte>() + static_cast<std::size_t>(thread) * scratch_stride_;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      Part& part = parts_[(static_cast<std::size_t>(thread) + i) % parts_.size()];
      while (const std::optional<Tasks> tasks = part.take(max_tasks)) run(part, *tasks, scratch);
    }
  });
}

// Cuts the output into rectangles: along the panels first, since each panel's weights are then read
// once, and along the rows when the panels do not keep all threads busy or a thread's cache would
// not hold the activations of all rows. Each thread begins with a part of its own, of the rows or
// else of the panels, so that its activations stay in its caches and its weights follow each other
// in memory. With few rows a thread takes its last panels two by two: all of them wait for memory,
// and at the end for whoever took the last task.
void CpuLinear::run_tasks(const kernels::LinearKernel& kernel, const kernels::LinearArgs& args,
                          std::int64_t num_panels) {
  const std::int64_t max_panels = panels_per_task(kernel, args, num_panels);
  const std::int64_t task_panels = args.num_rows < kernels::CpuKernels::kFewRows
                                       ? std::min<std::int64_t>(max_panels, 2)
                                       : max_panels;
  const std::int64_t panel_tasks = ceil_div(num_panels, task_panels);
  const std::int64_t wanted = kTasksPerThread / 2 * pool_.num_threads();
  const std::int64_t row_bytes =
      args.depth * static_cast<std::int64_t>(dtype_bytes(kernel.activation_dtype));
  const std::int64_t for_threads = ceil_div(wanted, panel_tasks);
  const std::int64_t for_caches = ceil_div(args.num_rows * row_bytes, kCachedActivationBytes);
  const std::int64_t row_parts = std::clamp<std::int64_t>(args.num_rows / kMinRowsPerTask, 1,
                                                          std::max(for_threads, for_caches));
  const std::int64_t rows_per_task =
      round_up(ceil_div(args.num_rows, row_parts), kernel.row_multiple);
  if (rows_per_task < args.num_rows) {
    parts_.clear();
    for (std::int64_t row = 0; row < args.num_rows; row += rows_per_task) {
      parts_.push_back({row, std::min(row + rows_per_task, args.num_rows), 0, panel_tasks});
    }
  } else {
    give_threads_parts(args.num_rows, panel_tasks);
  }
  const std::int64_t num_tasks = panel_tasks * ceil_div(args.num_rows, rows_per_task);
  run_parts(num_tasks, max_panels / task_panels,
            [&](const Part& part, const Tasks& tasks, void* scratch) {
              kernel.run(args,
                         {.row_begin = part.row_begin,
                          .row_end = part.row_end,
                          .panel_begin = tasks.begin * task_panels,
                          .panel_end = std::min(tasks.end * task_panels, num_panels),
                          .has_next = tasks.end < part.end_task},
                         scratch);
            });
}

// Depth that one task takes of a panel. Few rows only wait for memory, so where panels are few the
// threads would wait for the last of them. The sum of parts is rounded differently from a sum that
// runs through, so the depth is divided only where few rows have a kernel of their own, which
// rounds differently from that for many rows anyway. A function of the shape alone, so that bits
// depend neither on the number of threads nor on the number of few rows.
std::int64_t CpuLinear::depth_of_parts(const kernels::LinearKernel& kernel,
                                       const kernels::LinearArgs& args,
                                       std::int64_t num_panels) const {
  const bool has_own_kernel = &kernels_.linear_bf16_few_rows != &kernels_.linear_bf16 &&
                              &kernel == &kernels_.linear_bf16_few_rows;
  if (!has_own_kernel || args.epilogue == kernels::LinearEpilogue::kGateMul) return args.depth;
  const std::int64_t num_parts = std::min(ceil_div(kDepthTasks, num_panels),
                                          std::max<std::int64_t>(args.depth / kMinPartDepth, 1));
  return round_up(ceil_div(args.depth, num_parts), kernels::kDepthAlignment);
}

// A task is a panel's part of the depth. Whoever does the last of a panel's tasks adds up the
// parts, in ascending order whoever computed them. A thread takes up to a panel's worth at a time,
// since every time that threads agree on something a processor waits for what it reads from memory.
void CpuLinear::run_depth_parts(const kernels::LinearKernel& kernel,
                                const kernels::LinearArgs& args, std::int64_t num_panels,
                                std::int64_t part_depth) {
  const std::int64_t num_parts = ceil_div(args.depth, part_depth);
  const std::int64_t num_tasks = num_panels * num_parts;
  const std::int64_t panel_sums = num_parts * args.num_rows * kPanelColumns;
  sums_.reserve(static_cast<std::size_t>(num_panels * panel_sums) * sizeof(float));
  num_done_.resize(std::max(num_done_.size(), static_cast<std::size_t>(num_panels)));
  give_threads_parts(args.num_rows, num_tasks);
  run_parts(num_tasks, num_parts, [&](const Part& part, const Tasks& tasks, void* scratch) {
    for (std::int64_t task = tasks.begin; task < tasks.end;) {
      const std::int64_t panel = task / num_parts;
      const std::int64_t first = task;
      float* sums = sums_.as<float>() + panel * panel_sums;
      for (; task < std::min(tasks.end, (panel + 1) * num_parts); ++task) {
        const bool has_next = task + 1 < part.end_task;
        run_depth_part(kernel, args, panel, task % num_parts, part_depth, has_next, sums, scratch);
      }
      const std::atomic_ref<std::int64_t> num_done(
          num_done_[static_cast<std::size_t>(panel)].count);
      const std::int64_t count = task - first;
      if (count < num_parts) {
        if (num_done.fetch_add(count, std::memory_order_acq_rel) + count < num_parts) continue;
        num_done.store(0, std::memory_order_relaxed);  // for the next product
      }
      finish_panel(args, sums, num_parts, panel);
    }
  });
}

}  // namespace llmrun
