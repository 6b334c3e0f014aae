// Rotary tables against transformers: scripts/make_model_goldens.py.
#include "engine/models/rope.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/models/model_registry.h"

namespace llmrun {
namespace {

TEST_CASE("frequencies and table rows of every kind of scaling") {
  const std::string path = std::string(LLMRUN_SOURCE_DIR) + "/tests/data/models/rope.json";
  const nlohmann::json cases = parse_json(read_file(path, 1 << 20, ErrorKind::kInput), "rope.json");
  REQUIRE(cases.size() == 9);
  for (const nlohmann::json& entry : cases) {
    const auto name = entry.at("name").get<std::string>();
    CAPTURE(name);
    const ModelConfig config = parse_model_config(entry.at("config"), name);
    const auto expected = entry.at("inverse_frequencies").get<std::vector<double>>();
    const auto positions = entry.at("positions").get<std::vector<std::size_t>>();
    const auto run_length = static_cast<std::int64_t>(positions.back()) + 1;
    const std::vector<float> frequencies =
        inverse_frequencies(config.rope, config.head_dim, run_length);
    REQUIRE(frequencies.size() == expected.size());
    double max_error = 0;  // relative
    for (std::size_t i = 0; i < expected.size(); ++i) {
      max_error = std::max(max_error, std::abs(frequencies[i] / expected[i] - 1.0));
    }
    CHECK(max_error < 1.3e-7);  // one unit in the last place

    const auto rows = entry.at("table").get<std::vector<std::vector<double>>>();
    const auto width = static_cast<std::size_t>(config.head_dim);
    const std::vector<float> table = make_rope_table(config.rope, config.head_dim, run_length);
    REQUIRE(table.size() == (positions.back() + 1) * width);
    for (std::size_t p = 0; p < positions.size(); ++p) {
      double max_difference = 0;
      for (std::size_t i = 0; i < width; ++i) {
        max_difference =
            std::max(max_difference, std::abs(table[positions[p] * width + i] - rows[p][i]));
      }
      CAPTURE(positions[p]);
      CHECK(max_difference < 1e-5);  // also at position 131071
    }
  }
}

}  // namespace
}  // namespace llmrun
