// A checkpoint whose every logit is NaN ends the run, not the night. reliability.md F27.
#include <algorithm>
#include <filesystem>
#include <string>

#include "tests/e2e/generate_fixture.h"

namespace llmrun {
namespace {

using testing::make_rows;
using testing::parse_lines;
using testing::read_all;
using testing::run_command;
using testing::TemporaryFolder;

// The demo model with NaN for the weight of its last norm.
void write_broken_model(const TemporaryFolder& folder) {
  std::filesystem::copy(LLMRUN_SOURCE_DIR "/datasets/demo/model", folder.path());
  std::string bytes = read_all(folder.path() / "model.safetensors");
  std::size_t header_size = 0;
  for (std::size_t i = 0; i < 8; ++i) {
    header_size |= std::size_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  const auto header = nlohmann::json::parse(bytes.substr(8, header_size));
  const auto offsets = header.at("model.norm.weight").at("data_offsets");
  const auto begin = 8 + header_size + offsets.at(0).get<std::size_t>();
  const auto end = 8 + header_size + offsets.at(1).get<std::size_t>();
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
            bytes.begin() + static_cast<std::ptrdiff_t>(end), '\xff');
  folder.write("model.safetensors", bytes);
}

TEST_CASE("NaN everywhere ends the run after 16 rows, and says why") {
  const TemporaryFolder folder;
  write_broken_model(folder);
  const auto run = [&](int num_rows) {
    return run_command({LLMRUN_BINARY_DIR "/llmrun", "generate", "-", "--model",
                        folder.path().string(), "--max-num-seqs", "4", "--max-inflight", "4"},
                       make_rows(num_rows, 5));
  };
  const auto many = run(200);
  CHECK(many.exit_code == 4);
  CHECK(many.err.find("16 rows in a row had logits that are not finite") != std::string::npos);
  const auto records = parse_lines(many.out);
  CHECK(records.size() >= 16);
  CHECK(records.size() < 40);
  for (const auto& record : records) CHECK(record.contains("error"));
  CHECK(run(8).exit_code == 1);  // too few to tell
}

}  // namespace
}  // namespace llmrun
