#include "kernels/cpu/elementwise.h"

#include <bit>
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "tests/kernels/cpu/kernel_fixture.h"

namespace llmrun::kernels {

TEST_CASE("rms_norm agrees with plain loops") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    const ElementwiseKernels& kernels = cpu_kernels(isa).elementwise;
    for (const std::int64_t size : {1, 7, 16, 33, 64, 100, 896}) {
      constexpr std::int64_t kRows = 3;
      const AlignedVector<float> x = random_floats(kRows * size, 1);
      const AlignedVector<float> weight = random_floats(size, 2);
      AlignedVector<float> out(x.size() + 1, -5.0F);
      kernels.rms_norm(out.data(), size, x.data(), size, weight.data(), 1e-5F, 1, kRows, size);
      for (std::int64_t row = 1; row < kRows; ++row) {
        double squares = 0;
        for (std::int64_t i = 0; i < size; ++i) {
          const double value = x[static_cast<std::size_t>(row * size + i)];
          squares += value * value;
        }
        const double scale = 1 / std::sqrt(squares / static_cast<double>(size) + 1e-5);
        for (std::int64_t i = 0; i < size; ++i) {
          const auto at = static_cast<std::size_t>(row * size + i);
          const double expected = x[at] * scale * weight[static_cast<std::size_t>(i)];
          CHECK(std::abs(out[at] - expected) <= 1e-6 * (1 + std::abs(expected)));
        }
      }
      CHECK(out[0] == -5.0F);                                       // before the range
      CHECK(out[static_cast<std::size_t>(kRows * size)] == -5.0F);  // after the last row
    }
  }
}

TEST_CASE("rope rotates the halves of the rotary part and nothing else") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    const ElementwiseKernels& kernels = cpu_kernels(isa).elementwise;
    struct Case {
      std::int64_t num_heads, head_dim, rotary_dim;
    };
    for (const auto& [num_heads, head_dim, rotary_dim] :
         {Case{1, 2, 2}, Case{3, 64, 64}, Case{2, 80, 32}, Case{2, 96, 72}, Case{1, 24, 10}}) {
      const AlignedVector<float> x = random_floats(num_heads * head_dim, 3);
      const AlignedVector<float> cos = random_floats(rotary_dim / 2, 4);
      const AlignedVector<float> sin = random_floats(rotary_dim / 2, 5);
      AlignedVector<float> rotated = x;
      kernels.rope(rotated.data(), num_heads, head_dim, rotary_dim, cos.data(), sin.data());
      const std::int64_t half = rotary_dim / 2;
      for (std::int64_t head = 0; head < num_heads; ++head) {
        for (std::int64_t i = 0; i < head_dim; ++i) {
          const auto at = static_cast<std::size_t>(head * head_dim + i);
          double expected = x[at];
          if (i < half) {
            const auto j = static_cast<std::size_t>(i);
            expected = static_cast<double>(x[at]) * cos[j] -
                       static_cast<double>(x[at + static_cast<std::size_t>(half)]) * sin[j];
          } else if (i < rotary_dim) {
            const auto j = static_cast<std::size_t>(i - half);
            expected = static_cast<double>(x[at]) * cos[j] +
                       static_cast<double>(x[at - static_cast<std::size_t>(half)]) * sin[j];
          }
          CHECK(std::abs(rotated[at] - expected) <= 1e-6 * (4 + std::abs(expected)));
        }
      }
    }
  }
}

TEST_CASE("float_to_bf16 rounds as the scalar conversion does, in every lane") {
  const float specials[] = {0.0F,
                            -0.0F,
                            1.0F,
                            1.00390625F,
                            1.01171875F,
                            1e-40F,
                            -1e-39F,
                            3.3895314e38F,
                            std::numeric_limits<float>::max(),
                            std::numeric_limits<float>::infinity(),
                            NAN,
                            std::bit_cast<float>(0x7f800001U),
                            std::bit_cast<float>(0xffffffffU)};
  AlignedVector<float> x = random_floats(50, 6);
  x.insert(x.end(), std::begin(specials), std::end(specials));
  for (const CpuIsa isa : supported_cpu_isas()) {
    std::vector<std::uint16_t> out(x.size() + 1, 0x1234);
    cpu_kernels(isa).elementwise.float_to_bf16(out.data(), x.data(),
                                               static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) CHECK(out[i] == float_to_bf16(x[i]));
    CHECK(out.back() == 0x1234);
  }
}

TEST_CASE("peak loops do work and the read loop reads everything") {
  for (const CpuIsa isa : supported_cpu_isas()) {
    const PeakKernels& kernels = cpu_kernels(isa).peak;
    CHECK(kernels.multiply_f32(100) > 0);
    CHECK(kernels.multiply_bf16(100) > 0);
    const AlignedVector<float> data(1003, 1.0F);
    CHECK(kernels.read(data.data(), 1003) == 1003.0F);
  }
}

}  // namespace llmrun::kernels
