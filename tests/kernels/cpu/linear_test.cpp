// Linear kernels and weight packing, against plain loops in double precision.
#include "kernels/cpu/linear.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include <doctest/doctest.h>

#include "kernels/cpu/packing.h"
#include "tests/kernels/cpu/kernel_fixture.h"

namespace llmrun::kernels {
namespace {

struct NamedKernel {
  const LinearKernel* kernel;
  bool is_bf16;
};

std::vector<NamedKernel> runnable_kernels() {
  std::vector<NamedKernel> result;
  for (const CpuIsa isa : supported_cpu_isas()) {
    result.push_back({&cpu_kernels(isa).linear_bf16, true});
    if (isa != CpuIsa::kAmx) result.push_back({&cpu_kernels(isa).linear_f32, false});
  }
  return result;
}

struct Shape {
  std::int64_t rows, columns, depth;
};

// A linear layer with random data, its packed weight, and the means to run any kernel on it.
class LinearCase {
 public:
  LinearCase(const NamedKernel& named, Shape shape, LinearEpilogue epilogue, bool has_bias)
      : kernel_(*named.kernel), is_bf16_(named.is_bf16), shape_(shape), epilogue_(epilogue) {
    x_ = random_floats(shape.rows * shape.depth, 1);
    weight_ = random_floats(shape.columns * shape.depth, 2);
    padded_depth_ =
        is_bf16_ ? ceil_div(shape.depth, kDepthAlignment) * kDepthAlignment : shape.depth;
    num_panels_ = ceil_div(shape.columns, kPanelColumns);
    if (epilogue == LinearEpilogue::kGateMul) num_panels_ = 2 * ceil_div(shape.columns / 2, 16);
    if (has_bias) bias_ = random_floats(num_panels_ * kPanelColumns, 3);
    out_columns_ = epilogue == LinearEpilogue::kGateMul ? shape.columns / 2 : shape.columns;
    initial_out_ = random_floats(shape.rows * out_columns_, 4);
    pack();
  }

  std::int64_t out_columns() const { return out_columns_; }
  std::int64_t num_panels() const { return num_panels_; }

  AlignedVector<float> run(const std::vector<LinearRange>& ranges) const {
    AlignedVector<float> out = initial_out_;
    run(ranges, out.data(), nullptr);
    return out;
  }
  // kAdd in two steps, the depth divided at `cut`.
  AlignedVector<float> run_in_two_parts(std::int64_t cut) const {
    AlignedVector<float> out = initial_out_;
    run(all(), out.data(), nullptr, {0, cut});
    run(all(), out.data(), nullptr, {cut, padded_depth_});
    return out;
  }
  AlignedVector<float> run() const { return run(all()); }
  // kGateMul rounded to bf16.
  std::vector<std::uint16_t> run_to_bf16() const {
    std::vector<std::uint16_t> out(initial_out_.size());
    run(all(), nullptr, out.data());
    return out;
  }

  // Expected output element, and the sum of absolute terms its rounding error is measured against.
  void expect(std::int64_t row, std::int64_t column, double& value, double& magnitude) const {
    const float initial = initial_out_[static_cast<std::size_t>(row * out_columns_ + column)];
    if (epilogue_ == LinearEpilogue::kGateMul) {
      double gate = 0, up = 0, gate_magnitude = 0, up_magnitude = 0;
      dot(row, column, gate, gate_magnitude);
      dot(row, out_columns_ + column, up, up_magnitude);
      value = gate / (1 + std::exp(-gate)) * up;
      magnitude = gate_magnitude * std::abs(up) + std::abs(gate) * up_magnitude + 1;
      return;
    }
    dot(row, column, value, magnitude);
    if (epilogue_ == LinearEpilogue::kAdd) {
      value += initial;
      magnitude += std::abs(initial);
    }
  }

 private:
  std::vector<LinearRange> all() const { return {{0, shape_.rows, 0, num_panels_}}; }
  void run(const std::vector<LinearRange>& ranges, float* out, std::uint16_t* out_bf16) const {
    run(ranges, out, out_bf16, {0, padded_depth_});
  }
  // Over a part [begin, end) of the depth; the bias belongs to the first.
  void run(const std::vector<LinearRange>& ranges, float* out, std::uint16_t* out_bf16,
           std::pair<std::int64_t, std::int64_t> depth) const {
    AlignedVector<std::byte> activations;
    if (kernel_.pack_activations != nullptr) {
      activations.resize(static_cast<std::size_t>(shape_.rows * padded_depth_) *
                         dtype_bytes(kernel_.activation_dtype));
      const std::int64_t cut = ceil_div(shape_.rows, 2);
      const std::int64_t depth_cut = padded_depth_ / 2 / kDepthAlignment * kDepthAlignment;
      const ActivationSource source = {.x = x_.data(),
                                       .stride = shape_.depth,
                                       .depth = shape_.depth,
                                       .padded_depth = padded_depth_};
      for (const auto& [row_begin, row_end] :
           {std::pair(std::int64_t{0}, cut), {cut, shape_.rows}}) {
        kernel_.pack_activations(activations.data(), source, {row_begin, row_end, 0, depth_cut});
        kernel_.pack_activations(activations.data(), source,
                                 {row_begin, row_end, depth_cut, padded_depth_});
      }
    }
    LinearArgs args;
    const auto element = static_cast<std::int64_t>(is_bf16_ ? 2 : 4);
    args.activations =
        (activations.empty() ? reinterpret_cast<const std::byte*>(x_.data()) : activations.data()) +
        depth.first * static_cast<std::int64_t>(dtype_bytes(kernel_.activation_dtype));
    args.activation_stride = activations.empty() ? shape_.depth : padded_depth_;
    args.num_rows = shape_.rows;
    args.weight = packed_.data() + depth.first * kPanelColumns * element;
    args.panel_stride = padded_depth_ * kPanelColumns;
    args.num_columns = shape_.columns;
    args.depth = depth.second - depth.first;
    args.bias = bias_.empty() || depth.first > 0 ? nullptr : bias_.data();
    args.out = out;
    args.out_bf16 = out_bf16;
    args.out_stride = out_columns_;
    args.out_columns = out_columns_;
    args.epilogue = epilogue_;
    AlignedVector<std::byte> scratch(kernel_.scratch_bytes);
    for (const LinearRange& range : ranges) kernel_.run(args, range, scratch.data());
  }

  // Where the bias of a weight row stands: gate and up panels alternate.
  std::size_t bias_index(std::int64_t column) const {
    if (epilogue_ != LinearEpilogue::kGateMul) return static_cast<std::size_t>(column);
    const bool is_up = column >= out_columns_;
    const std::int64_t local = is_up ? column - out_columns_ : column;
    return static_cast<std::size_t>((2 * (local / 16) + (is_up ? 1 : 0)) * 16 + local % 16);
  }

  void dot(std::int64_t row, std::int64_t column, double& sum, double& magnitude) const {
    sum = bias_.empty() ? 0.0 : bias_[bias_index(column)];
    magnitude = std::abs(sum);
    for (std::int64_t k = 0; k < shape_.depth; ++k) {
      float a = x_[static_cast<std::size_t>(row * shape_.depth + k)];
      float b = weight_[static_cast<std::size_t>(column * shape_.depth + k)];
      if (is_bf16_) {
        a = round_to_bf16(a);
        b = round_to_bf16(b);
      }
      sum += static_cast<double>(a) * b;
      magnitude += std::abs(static_cast<double>(a) * b);
    }
  }

  void pack() {
    const std::size_t element = is_bf16_ ? 2 : 4;
    packed_.resize(static_cast<std::size_t>(num_panels_ * padded_depth_ * kPanelColumns) * element);
    for (std::int64_t panel = 0; panel < num_panels_; ++panel) {
      PanelRows source;
      for (std::int64_t i = 0; i < kPanelColumns; ++i) {
        std::int64_t column = panel * kPanelColumns + i;
        bool valid = column < shape_.columns;
        if (epilogue_ == LinearEpilogue::kGateMul) {
          const std::int64_t local = panel / 2 * kPanelColumns + i;
          valid = local < out_columns_;
          column = panel % 2 * out_columns_ + local;
        }
        source.rows[i] =
            valid ? &weight_[static_cast<std::size_t>(column * shape_.depth)] : nullptr;
      }
      std::byte* to = packed_.data() +
                      static_cast<std::size_t>(panel * padded_depth_ * kPanelColumns) * element;
      if (is_bf16_) {
        pack_panel_bf16(reinterpret_cast<std::uint16_t*>(to), source, shape_.depth, padded_depth_);
      } else {
        pack_panel_f32(reinterpret_cast<float*>(to), source, shape_.depth);
      }
    }
  }

  const LinearKernel& kernel_;
  bool is_bf16_;
  Shape shape_;
  LinearEpilogue epilogue_;
  std::int64_t padded_depth_ = 0;
  std::int64_t num_panels_ = 0;
  std::int64_t out_columns_ = 0;
  AlignedVector<float> x_, weight_, bias_, initial_out_;
  AlignedVector<std::byte> packed_;
};

void check_case(const NamedKernel& named, Shape shape, LinearEpilogue epilogue, bool has_bias) {
  const LinearCase linear(named, shape, epilogue, has_bias);
  const AlignedVector<float> out = linear.run();
  double worst = 0;
  for (std::int64_t row = 0; row < shape.rows; ++row) {
    for (std::int64_t column = 0; column < linear.out_columns(); ++column) {
      double expected = 0, magnitude = 0;
      linear.expect(row, column, expected, magnitude);
      const double got = out[static_cast<std::size_t>(row * linear.out_columns() + column)];
      const double error = std::abs(got - expected) / magnitude;
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  // A chain of n float32 additions errs by at most n * 2^-24 of the sum of magnitudes, and by about
  // sqrt(n) of it in practice.
  INFO(std::string(named.kernel->name)
       << " rows " << shape.rows << " columns " << shape.columns << " depth " << shape.depth
       << " epilogue " << static_cast<int>(epilogue));
  CHECK(worst < 2e-6);
}

}  // namespace

TEST_CASE("linear kernels agree with plain loops on odd shapes") {
  const Shape shapes[] = {{1, 1, 1},     {1, 16, 32},  {1, 100, 70},  {2, 33, 31},
                          {3, 64, 64},   {5, 17, 100}, {6, 80, 96},   {7, 130, 33},
                          {8, 48, 65},   {13, 31, 1},  {16, 16, 32},  {17, 200, 96},
                          {25, 65, 130}, {31, 15, 64}, {32, 96, 300}, {33, 100, 97}};
  for (const NamedKernel& named : runnable_kernels()) {
    for (const Shape& shape : shapes) {
      for (const bool has_bias : {false, true}) {
        check_case(named, shape, LinearEpilogue::kStore, has_bias);
        check_case(named, shape, LinearEpilogue::kAdd, has_bias);
        check_case(named, {shape.rows, 2 * shape.columns, shape.depth}, LinearEpilogue::kGateMul,
                   has_bias);
      }
    }
  }
}

TEST_CASE("linear kernels agree with plain loops across blocks of k and of rows") {
  for (const NamedKernel& named : runnable_kernels()) {
    check_case(named, {1, 64, 2100}, LinearEpilogue::kStore, true);
    check_case(named, {40, 80, 1100}, LinearEpilogue::kAdd, false);
    check_case(named, {530, 32, 544}, LinearEpilogue::kStore, false);
    check_case(named, {250, 64, 1056}, LinearEpilogue::kGateMul, false);
  }
}

TEST_CASE("a row's result is the same bits whatever the rows, ranges and blocks around it") {
  for (const NamedKernel& named : runnable_kernels()) {
    for (const LinearEpilogue epilogue :
         {LinearEpilogue::kStore, LinearEpilogue::kAdd, LinearEpilogue::kGateMul}) {
      const Shape full = {67, 192, 1100};
      const LinearCase linear(named, full, epilogue, true);
      const AlignedVector<float> whole = linear.run();
      const std::int64_t row_cut = named.kernel->row_multiple;
      const std::int64_t panel_cut = epilogue == LinearEpilogue::kGateMul ? 2 : 1;
      std::vector<LinearRange> ranges;
      for (std::int64_t row = 0; row < full.rows; row += row_cut) {
        for (std::int64_t panel = 0; panel < linear.num_panels(); panel += panel_cut) {
          ranges.push_back({row, std::min(row + row_cut, full.rows), panel,
                            std::min(panel + panel_cut, linear.num_panels())});
        }
      }
      const AlignedVector<float> pieces = linear.run(ranges);
      INFO(std::string(named.kernel->name));
      CHECK(std::memcmp(whole.data(), pieces.data(), whole.size() * sizeof(float)) == 0);
      for (const std::int64_t rows : {1, 2, 9, 25, 50}) {
        const LinearCase fewer(named, {rows, full.columns, full.depth}, epilogue, true);
        const AlignedVector<float> part = fewer.run();
        const std::size_t bytes =
            static_cast<std::size_t>(rows * linear.out_columns()) * sizeof(float);
        if (epilogue != LinearEpilogue::kAdd) {
          CHECK(std::memcmp(whole.data(), part.data(), bytes) == 0);
        }
      }
    }
  }
}

TEST_CASE("linear kernels run over a part of the depth") {
  for (const NamedKernel& named : runnable_kernels()) {
    for (const std::int64_t rows : {1, 7, 40}) {
      const LinearCase linear(named, {rows, 100, 700}, LinearEpilogue::kAdd, true);
      const AlignedVector<float> whole = linear.run();
      for (const std::int64_t cut : {32, 352, 672}) {
        const AlignedVector<float> parts = linear.run_in_two_parts(cut);
        std::size_t num_equal = 0;  // but for rounding
        for (std::size_t i = 0; i < whole.size(); ++i) {
          num_equal += std::abs(whole[i] - parts[i]) < 1e-3F ? 1U : 0U;
        }
        INFO(std::string(named.kernel->name) << " rows " << rows << " cut " << cut);
        CHECK(num_equal == whole.size());
      }
    }
  }
}

TEST_CASE("a gated product in bf16 is the rounded result in float32") {
  for (const NamedKernel& named : runnable_kernels()) {
    for (const std::int64_t columns : {32, 62, 200}) {
      const LinearCase linear(named, {37, columns, 96}, LinearEpilogue::kGateMul, true);
      const AlignedVector<float> expected = linear.run();
      const std::vector<std::uint16_t> got = linear.run_to_bf16();
      std::size_t num_different = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        num_different += got[i] == float_to_bf16(expected[i]) ? 0U : 1U;
      }
      INFO(std::string(named.kernel->name) << " columns " << columns);
      CHECK(num_different == 0);
    }
  }
}

TEST_CASE("AVX2 and AVX-512 agree bit for bit in float32") {
  const auto& isas = supported_cpu_isas();
  if (std::find(isas.begin(), isas.end(), CpuIsa::kAvx512Bf16) == isas.end()) return;
  const Shape shape = {9, 100, 777};
  const LinearCase narrow({&linear_f32_avx2(), false}, shape, LinearEpilogue::kStore, true);
  const LinearCase wide({&linear_f32_avx512(), false}, shape, LinearEpilogue::kStore, true);
  CHECK(narrow.run() == wide.run());
}

TEST_CASE("packing converts every dtype and unpacks to the same row") {
  constexpr std::int64_t kDepth = 37;
  constexpr std::int64_t kPadded = 64;
  const AlignedVector<float> values = random_floats(kDepth, 7);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    std::vector<std::uint16_t> halves;
    for (const float value : values) {
      halves.push_back(dtype == DType::kF16 ? float_to_f16(value) : float_to_bf16(value));
    }
    PanelRows source;
    source.dtype = dtype;
    source.rows[5] = dtype == DType::kF32 ? static_cast<const void*>(values.data()) : halves.data();
    std::vector<std::uint16_t> panel(kPadded * kPanelColumns, 0xffff);
    pack_panel_bf16(panel.data(), source, kDepth, kPadded);
    std::vector<float> wide(kDepth * kPanelColumns, NAN);
    pack_panel_f32(wide.data(), source, kDepth);
    std::vector<float> from_bf16(kDepth), from_f32(kDepth), zeros(kDepth);
    unpack_row_bf16(from_bf16.data(), panel.data(), 5, kDepth);
    unpack_row_f32(from_f32.data(), wide.data(), 5, kDepth);
    unpack_row_bf16(zeros.data(), panel.data(), 4, kDepth);
    for (std::size_t k = 0; k < kDepth; ++k) {
      float stored = values[k];
      if (dtype == DType::kF16) stored = f16_to_float(halves[k]);
      if (dtype == DType::kBf16) stored = bf16_to_float(halves[k]);
      CHECK(from_f32[k] == stored);
      CHECK(from_bf16[k] == round_to_bf16(stored));
      CHECK(zeros[k] == 0.0F);
    }
  }
}

}  // namespace llmrun::kernels
