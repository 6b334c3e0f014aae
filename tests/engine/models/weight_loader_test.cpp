// Weights of a checkpoint for a backend that reads them in pieces.
#include "engine/models/weight_loader.h"

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/models/model_registry.h"
#include "tests/support/model_driver.h"
#include "tests/support/reference_backend.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::make_safetensors;
using testing::ModelDriver;
using testing::ReferenceBackend;
using testing::TemporaryFolder;

// Reads parts itself, the last piece first.
class PieceBackend final : public ReferenceBackend {
 public:
  bool reads_weights_in_pieces() const override { return true; }
  std::unique_ptr<LinearWeight> make_linear(const LinearSource& source, DType dtype) override {
    if (!source.read_part) return ReferenceBackend::make_linear(source, dtype);
    ++num_unread;
    std::vector<std::vector<std::byte>> memory;
    LinearSource in_memory;
    in_memory.biases = source.biases;
    for (std::size_t i = 0; i < source.parts.size(); ++i) {
      const Tensor& part = source.parts[i];
      CHECK(part.empty());
      std::vector<std::byte>& bytes = memory.emplace_back(part.num_bytes());
      const std::size_t piece = 12 * dtype_bytes(part.dtype());
      for (std::size_t end = bytes.size(); end > 0;) {
        const std::size_t begin = end > piece ? end - piece : 0;
        source.read_part(i, begin, {bytes.data() + begin, bytes.data() + end});
        end = begin;
      }
      in_memory.parts.emplace_back(bytes.data(), part.dtype(),
                                   std::initializer_list{part.dim(0), part.dim(1)});
    }
    return ReferenceBackend::make_linear(in_memory, dtype);
  }

  int num_unread = 0;
};

std::vector<std::vector<float>> logits_of(ReferenceBackend& backend, const std::string& model) {
  const std::string folder = std::string(LLMRUN_SOURCE_DIR) + "/tests/data/models/" + model;
  std::uint64_t done = 0;
  std::uint64_t total = 0;
  const auto progress = [&](std::uint64_t now, std::uint64_t all) {
    done = now;
    total = all;
  };
  const LoadedModel loaded = load_model(find_model(folder, {}), backend, {.progress = progress});
  CHECK(done <= total);
  CHECK(done > total * 9 / 10);
  ModelDriver driver(backend, *loaded.model, {});
  ModelDriver::Sequence sequence{.tokens = {5, 6, 7, 8}};
  return driver.step({{{&sequence, 4, ModelDriver::Rows::kAll}}});
}

// Plain, with biases, with q, k, v as parts of one tensor, transposed, with normalised rows, with
// experts.
TEST_CASE("models whose weights are read in pieces are the same") {
  for (const std::string model :
       {"llama_gqa", "qwen2_tied", "phi3_window", "gpt2", "baichuan_rope", "mixtral"}) {
    CAPTURE(model);
    ReferenceBackend whole;
    PieceBackend pieces;
    CHECK(logits_of(pieces, model) == logits_of(whole, model));
    CHECK(pieces.num_unread > 0);
  }
}

TEST_CASE("what is wrong with a matrix in pieces is told as for a whole one") {
  const TemporaryFolder folder;
  const std::string bytes("\0\0\x80\x3f\0\0\0\0\0\0\x80\x7f\0\0\x80\xff", 16);
  folder.write("model.safetensors", make_safetensors({{"w.weight", "F32", {4, 1}, bytes}}));
  const std::string file = (folder.path() / "model.safetensors").string();
  Checkpoint checkpoint(folder.path());
  PieceBackend backend;
  CheckpointWeightLoader loader(checkpoint, backend, DType::kF32);
  CHECK_THROWS_WITH_AS(loader.linear({.parts = {{"w", 2}}, .num_columns = 2}),
                       doctest::Contains((file + ": tensor w.weight at offset ").c_str()), Error);
  CHECK_THROWS_WITH_AS(loader.linear({.parts = {{"v", 4}}, .num_columns = 1}),
                       doctest::Contains("tensor v.weight is missing"), Error);
  CHECK(checkpoint.notes().empty());
  CHECK(loader.linear({.parts = {{"w", 4}}, .num_columns = 1})->num_rows() == 4);
  REQUIRE(checkpoint.notes().size() == 1);
  CHECK(checkpoint.notes()[0] ==
        file + ": tensor w.weight holds NaN or infinity: requests will fail");

  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 4);
  CHECK_THROWS_WITH_AS(loader.linear({.parts = {{"w", 4}}, .num_columns = 1}),
                       doctest::Contains((file + ": the file ends at offset ").c_str()), Error);
}

}  // namespace
}  // namespace llmrun
