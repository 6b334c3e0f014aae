// Weights that are read in pieces while others are on their way to the GPU: the same bytes there as
// from memory. Skipped, and said so, without a device.
#include "engine/backend/cuda/cuda_weights.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/support/gpu.h"

namespace llmrun {
namespace {

// Bytes of finite numbers in any of the types: no exponent is all ones.
std::vector<std::byte> some_bytes(std::size_t num_bytes, std::uint32_t seed) {
  std::vector<std::byte> bytes(num_bytes);
  std::uint32_t state = seed;
  for (std::byte& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>((state >> 24) & 0x37U);
  }
  return bytes;
}

struct Parts {
  Parts(DType type, std::int64_t num_rows, std::int64_t num_columns) : dtype(type) {
    const auto num_bytes = static_cast<std::size_t>(num_rows * num_columns) * dtype_bytes(dtype);
    for (std::uint32_t part = 0; part < 2; ++part) {
      bytes.push_back(some_bytes(num_bytes, part));
      in_memory.parts.emplace_back(bytes.back().data(), dtype,
                                   std::initializer_list{num_rows, num_columns});
      unread.parts.emplace_back(nullptr, dtype, std::initializer_list{num_rows, num_columns});
    }
    unread.read_part = [this](std::size_t part, std::size_t begin, std::span<std::byte> out) {
      REQUIRE(begin + out.size() <= bytes[part].size());
      std::memcpy(out.data(), bytes[part].data() + begin, out.size());
      num_bytes_read += out.size();
    };
  }
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;

  DType dtype;
  std::vector<std::vector<std::byte>> bytes;
  LinearSource in_memory;
  LinearSource unread;
  std::atomic<std::size_t> num_bytes_read{0};
};

std::vector<std::byte> download(const CudaLinearWeight& weight) {
  std::vector<std::byte> bytes(weight.num_bytes());
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  REQUIRE(cudaMemcpy(bytes.data(), weight.data(), bytes.size(), cudaMemcpyDeviceToHost) ==
          cudaSuccess);
  return bytes;
}

// Sizes below and above a piece of page-locked memory and of the memory for conversions.
TEST_CASE("weights in pieces are those in memory") {
  if (!testing::can_test_cuda()) return;
  CudaWeightMaker maker(nullptr);
  for (const DType stored : {DType::kBf16, DType::kF16, DType::kF32}) {
    for (const std::int64_t num_rows : {8, 1016, 9000}) {
      CAPTURE(to_string(stored));
      CAPTURE(num_rows);
      Parts parts(stored, num_rows, 4104);
      const std::vector<std::byte> linear =
          download(*maker.make_linear(parts.in_memory, DType::kBf16));
      CHECK(download(*maker.make_linear(parts.unread, DType::kBf16)) == linear);
      CHECK(parts.num_bytes_read == parts.bytes[0].size() + parts.bytes[1].size());
      if (stored == DType::kBf16) {
        const std::size_t half = linear.size() / 2;
        CHECK(std::equal(linear.begin(), linear.begin() + static_cast<std::ptrdiff_t>(half),
                         parts.bytes[0].begin(), parts.bytes[0].end()));
        CHECK(std::equal(linear.begin() + static_cast<std::ptrdiff_t>(half), linear.end(),
                         parts.bytes[1].begin(), parts.bytes[1].end()));
      }
      const std::vector<std::byte> gate_up =
          download(*maker.make_gate_up(parts.in_memory, DType::kBf16));
      CHECK((gate_up == linear) == (num_rows == 8));  // interleaved in groups of 8 rows
      CHECK(download(*maker.make_gate_up(parts.unread, DType::kBf16)) == gate_up);
      maker.release_staging();
    }
  }
}

TEST_CASE("an error while a weight is read arrives, and the next weight is whole") {
  if (!testing::can_test_cuda()) return;
  CudaWeightMaker maker(nullptr);
  Parts parts(DType::kBf16, 9000, 4104);
  LinearSource broken = parts.unread;
  broken.read_part = [&](std::size_t part, std::size_t begin, std::span<std::byte> out) {
    if (part == 1 && begin >= (std::size_t{40} << 20)) {
      throw Error(ErrorKind::kModel, "file at offset 7: cannot read");
    }
    parts.unread.read_part(part, begin, out);
  };
  CHECK_THROWS_WITH_AS(maker.make_linear(broken, DType::kBf16), "file at offset 7: cannot read",
                       Error);
  CHECK_THROWS_WITH_AS(maker.make_gate_up(broken, DType::kBf16), "file at offset 7: cannot read",
                       Error);
  CHECK(download(*maker.make_linear(parts.unread, DType::kBf16)) ==
        download(*maker.make_linear(parts.in_memory, DType::kBf16)));
}

}  // namespace
}  // namespace llmrun
