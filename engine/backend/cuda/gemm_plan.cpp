#include "engine/backend/cuda/gemm_plan.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

// Sizes that are measured. Fine where a step is short and tiles are half empty, coarse where
// everything is large.
constexpr std::array<std::int64_t, 39> kMeasuredTokens = {
    1,    2,    4,    8,    16,   24,   32,   40,   48,   56,   64,   80,    96,
    112,  128,  160,  192,  224,  256,  320,  384,  448,  512,  640,  768,   896,
    1024, 1280, 1536, 1792, 2048, 2560, 3072, 4096, 5120, 6144, 8192, 12288, 16384};

constexpr int kFormatVersion = 5;  // rises when a kernel changes, so that old choices are forgotten
constexpr std::size_t kMaxChosen = 8192;  // more different sizes than that, and it starts anew

int num_candidates(std::int64_t num_tokens) {
  return num_tokens <= 512 ? 16 : 8;
}

nlohmann::json to_json(const GemmChoice& choice) {
  if (choice.kernel == GemmKernel::kSkinny) return "skinny";
  if (choice.kernel == GemmKernel::kGateUp) return "gate_up";
  nlohmann::json words = nlohmann::json::array();
  for (const std::uint64_t word : choice.algo.data) words.push_back(word);
  return words;
}

nlohmann::json to_json(const GemmShape& shape) {
  return {{"num_rows", shape.num_rows},
          {"num_columns", shape.num_columns},
          {"dtype", llmrun::to_string(shape.dtype)},
          {"out_dtype", llmrun::to_string(shape.out_dtype)},
          {"has_bias", shape.has_bias},
          {"is_gate_up", shape.is_gate_up}};
}

bool read_dtype(const nlohmann::json& json, DType& dtype) {
  for (const DType known : {DType::kF32, DType::kF16, DType::kBf16}) {
    if (json != llmrun::to_string(known)) continue;
    dtype = known;
    return true;
  }
  return false;
}

bool from_json(const nlohmann::json& json, GemmShape& shape) {
  constexpr std::int64_t kLargest = std::int64_t{1} << 31;
  const auto is_size = [&](const char* name) {
    return json.contains(name) && json[name].is_number_integer() &&
           json[name].get<std::int64_t>() > 0 && json[name].get<std::int64_t>() < kLargest;
  };
  const auto is_flag = [&](const char* name) {
    return json.contains(name) && json[name].is_boolean();
  };
  if (!json.is_object() || !is_size("num_rows") || !is_size("num_columns") ||
      !is_flag("has_bias") || !is_flag("is_gate_up") || !json.contains("dtype") ||
      !json.contains("out_dtype") || !read_dtype(json["dtype"], shape.dtype) ||
      !read_dtype(json["out_dtype"], shape.out_dtype)) {
    return false;
  }
  shape.num_rows = json["num_rows"].get<std::int64_t>();
  shape.num_columns = json["num_columns"].get<std::int64_t>();
  shape.has_bias = json["has_bias"].get<bool>();
  shape.is_gate_up = json["is_gate_up"].get<bool>();
  return true;
}

bool from_json(const nlohmann::json& json, GemmChoice& choice) {
  for (const auto& [name, kernel] :
       {std::pair{"skinny", GemmKernel::kSkinny}, std::pair{"gate_up", GemmKernel::kGateUp}}) {
    if (json != name) continue;
    choice.kernel = kernel;
    return true;
  }
  if (!json.is_array() || json.size() != std::size(choice.algo.data)) return false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    if (!json[i].is_number_unsigned()) return false;
    choice.algo.data[i] = json[i].get<std::uint64_t>();
  }
  return true;
}

// One time of each says who is fast; since clocks move, those that are close are timed in turns.
std::optional<std::size_t> find_fastest(std::span<const GemmChoice> candidates,
                                        std::int64_t num_tokens,
                                        const GemmPlanner::Measure& measure) {
  constexpr std::size_t kFinalists = 3;
  constexpr int kTurns = 3;
  constexpr double kCloseRatio = 1.05;
  std::vector<std::pair<double, std::size_t>> times;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const double seconds = measure(num_tokens, candidates[i]);
    if (seconds >= 0) times.emplace_back(seconds, i);
  }
  if (times.empty()) return std::nullopt;
  std::sort(times.begin(), times.end());
  const double close = kCloseRatio * times.front().first;
  std::erase_if(times, [&](const auto& time) { return time.first > close; });
  times.resize(std::min(times.size(), kFinalists));
  if (times.size() == 1) return times.front().second;
  for (auto& [seconds, i] : times) seconds = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    for (auto& [seconds, i] : times) seconds += measure(num_tokens, candidates[i]);
  }
  return std::min_element(times.begin(), times.end())->second;
}

nlohmann::json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return {};
  nlohmann::json json = nlohmann::json::parse(file, nullptr, false);
  return json.is_object() ? json : nlohmann::json();
}

}  // namespace

std::string GemmShape::to_string() const {
  return fmt::format("{}x{} {} to {}{}{}", num_rows, num_columns, llmrun::to_string(dtype),
                     llmrun::to_string(out_dtype), has_bias ? ", bias" : "",
                     is_gate_up ? ", gate and up" : "");
}

const GemmChoice& GemmPlanner::choose(const GemmShape& shape, std::int64_t num_tokens,
                                      const CanRun& can_run) {
  const Key key{shape, num_tokens};
  const auto found = chosen_.find(key);
  if (found != chosen_.end() &&
      (found->second.kernel == GemmKernel::kCublasLt || can_run(found->second.kernel))) {
    return found->second;
  }
  if (chosen_.size() >= kMaxChosen) chosen_.clear();
  return chosen_.insert_or_assign(key, decide(shape, num_tokens, can_run)).first->second;
}

GemmChoice GemmPlanner::decide(const GemmShape& shape, std::int64_t num_tokens,
                               const CanRun& can_run) const {
  constexpr std::int64_t kDeterministicTokens = 256;
  if (options_.deterministic) {
    // The algorithm of one size for all: the order of its sums does not depend on M.
    const auto algos = gemm_.guesses(shape, kDeterministicTokens, 8, true);
    for (const cublasLtMatmulAlgo_t& algo : algos) {
      if (gemm_.can_run(shape, num_tokens, algo)) return {.algo = algo};
    }
  } else {
    if (const GemmChoice* measured = find_measured(shape, num_tokens)) {
      if (measured->kernel == GemmKernel::kCublasLt
              ? gemm_.can_run(shape, num_tokens, measured->algo)
              : can_run(measured->kernel)) {
        return *measured;
      }
    } else if (can_run(GemmKernel::kSkinny)) {
      return {.kernel = GemmKernel::kSkinny, .algo = {}};
    }
  }
  const auto algos = gemm_.guesses(shape, num_tokens, 1, options_.deterministic);
  if (algos.empty()) {
    throw Error(ErrorKind::kDevice, fmt::format("cuBLASLt has no algorithm for {} rows of {}",
                                                num_tokens, shape.to_string()));
  }
  return {.algo = algos.front()};
}

const GemmChoice* GemmPlanner::find_measured(const GemmShape& shape,
                                             std::int64_t num_tokens) const {
  auto found = measured_.lower_bound({shape, measured_size(num_tokens)});
  if (found == measured_.end() || std::get<GemmShape>(found->first) != shape) {
    if (found == measured_.begin()) return nullptr;
    --found;
  }
  return std::get<GemmShape>(found->first) == shape ? &found->second : nullptr;
}

std::int64_t GemmPlanner::measured_size(std::int64_t num_tokens) {
  const auto* found = std::lower_bound(kMeasuredTokens.begin(), kMeasuredTokens.end(), num_tokens);
  return found == kMeasuredTokens.end() ? kMeasuredTokens.back() : *found;
}

int GemmPlanner::tune(const GemmShape& shape, std::int64_t max_num_tokens, const Measure& measure) {
  int num_measured = 0;
  for (const std::int64_t num_tokens : kMeasuredTokens) {
    if (num_tokens > max_num_tokens) break;
    if (measured_.contains({shape, num_tokens})) continue;
    std::vector<GemmChoice> candidates = {{.kernel = GemmKernel::kSkinny, .algo = {}},
                                          {.kernel = GemmKernel::kGateUp, .algo = {}}};
    for (const cublasLtMatmulAlgo_t& algo :
         gemm_.guesses(shape, num_tokens, num_candidates(num_tokens), false)) {
      candidates.push_back({.algo = algo});
    }
    if (const auto fastest = find_fastest(candidates, num_tokens, measure)) {
      measured_[{shape, num_tokens}] = candidates[*fastest];
      ++num_measured;
    }
  }
  chosen_.clear();
  return num_measured;
}

std::string GemmPlanner::library_key() const {
  return fmt::format("{}, cuBLASLt {}, format {}", options_.device_name, gemm_.version(),
                     kFormatVersion);
}

std::filesystem::path GemmPlanner::default_path() {
  const auto folder_in = [](const char* variable) {
    const char* value = std::getenv(variable);
    return std::filesystem::path(value == nullptr ? "" : value);
  };
  if (const auto folder = folder_in("LLMRUN_CACHE"); !folder.empty()) return folder / "gemm.json";
  if (const auto folder = folder_in("XDG_CACHE_HOME"); !folder.empty()) {
    return folder / "llmrun" / "gemm.json";
  }
  if (const auto home = folder_in("HOME"); !home.empty()) {
    return home / ".cache" / "llmrun" / "gemm.json";
  }
  return {};
}

void GemmPlanner::load(const std::filesystem::path& path) {
  const nlohmann::json json = read_json(path);
  const auto entries = json.find(library_key());
  if (entries == json.end() || !entries->is_object()) return;
  for (const nlohmann::json& sizes : *entries) {
    if (!sizes.is_object() || !sizes.contains("shape") || !sizes.contains("choices")) continue;
    GemmShape shape;
    if (!from_json(sizes["shape"], shape)) continue;
    for (const std::int64_t num_tokens : kMeasuredTokens) {
      const auto entry = sizes["choices"].find(std::to_string(num_tokens));
      GemmChoice choice;
      if (entry == sizes["choices"].end() || !from_json(*entry, choice)) continue;
      // A file is not trusted: an algorithm that this library does not know is measured anew.
      if (choice.kernel == GemmKernel::kCublasLt &&
          !gemm_.can_run(shape, num_tokens, choice.algo)) {
        continue;
      }
      measured_[{shape, num_tokens}] = choice;
    }
  }
}

void GemmPlanner::save(const std::filesystem::path& path) const {
  if (path.empty()) return;
  nlohmann::json json = read_json(path);
  const auto object = [](nlohmann::json& value) -> nlohmann::json& {
    if (!value.is_object()) value = nlohmann::json::object();
    return value;
  };
  nlohmann::json& entries = object(object(json)[library_key()]);
  for (const auto& [key, choice] : measured_) {
    const auto& [shape, num_tokens] = key;
    nlohmann::json& entry = object(entries[shape.to_string()]);
    entry["shape"] = to_json(shape);
    object(entry["choices"])[std::to_string(num_tokens)] = to_json(choice);
  }
  std::error_code ignored;
  std::filesystem::create_directories(path.parent_path(), ignored);
  // Of its own, since several processes may start at once.
  const std::filesystem::path temporary = fmt::format("{}.{}.new", path.string(), getpid());
  std::ofstream file(temporary);
  file << json.dump(1) << '\n';
  file.close();
  if (file) std::filesystem::rename(temporary, path, ignored);
}

}  // namespace llmrun
