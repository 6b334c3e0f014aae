// read_trace(): recorded loads as JSON lines or CSV.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/core/sha256.h"
#include "tools/serve_bench/arrival_schedule.h"
#include "tools/workload/workload_sources.h"

namespace llmrun {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 30;
constexpr std::int64_t kMaxLength = 1 << 24;
constexpr std::int64_t kBlockTokens = 512;  // of a hash id, as Mooncake's traces define them

struct TraceRow {
  double timestamp = 0;
  std::int64_t input_length = 0;
  std::int64_t output_length = 0;
  std::vector<std::int64_t> hash_ids{};
};

std::string_view take_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

TraceRow row_of_json(std::string_view line, const std::string& place) {
  const nlohmann::json value = parse_json(line, place, kRequestJson);
  const JsonObject object(value, place, ErrorKind::kInput);
  TraceRow row{.timestamp = object.get_float("timestamp", 0, 1e15),
               .input_length = object.get_int("input_length", 1, kMaxLength),
               .output_length = object.get_int("output_length", 1, kMaxLength)};
  if (const nlohmann::json* ids = object.find_array("hash_ids")) {
    for (const nlohmann::json& id : *ids) {
      if (!id.is_number_integer()) object.fail("hash_ids", "expected integers");
      row.hash_ids.push_back(id.get<std::int64_t>());
    }
  }
  return row;
}

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  for (;;) {
    const std::size_t comma = std::min(line.find(','), line.size());
    std::string_view cell = line.substr(0, comma);
    while (cell.starts_with(' ') || cell.starts_with('"')) cell.remove_prefix(1);
    while (cell.ends_with(' ') || cell.ends_with('"')) cell.remove_suffix(1);
    cells.push_back(cell);
    if (comma == line.size()) return cells;
    line.remove_prefix(comma + 1);
  }
}

class CsvTrace {
 public:
  CsvTrace(std::string_view header, const std::string& place) {
    const std::vector<std::string_view> names = cells_of(header);
    for (std::size_t i = 0; i < std::size(kColumns); ++i) {
      const auto found = std::find(names.begin(), names.end(), kColumns[i]);
      if (found == names.end()) {
        throw Error(ErrorKind::kInput,
                    fmt::format("{}: no column '{}'; expected JSON lines, or CSV with the columns "
                                "timestamp,input_length,output_length",
                                place, kColumns[i]));
      }
      columns_[i] = static_cast<std::size_t>(found - names.begin());
    }
  }

  TraceRow row(std::string_view line, const std::string& place) const {
    const std::vector<std::string_view> cells = cells_of(line);
    double values[3] = {};
    for (std::size_t i = 0; i < 3; ++i) {
      const std::string_view cell = columns_[i] < cells.size() ? cells[columns_[i]] : "";
      const auto result = std::from_chars(cell.data(), cell.data() + cell.size(), values[i]);
      const double low = i == 0 ? 0 : 1;
      const double high = i == 0 ? 1e15 : static_cast<double>(kMaxLength);
      if (result.ec != std::errc() || result.ptr != cell.data() + cell.size() ||
          !(values[i] >= low && values[i] <= high)) {
        throw Error(ErrorKind::kInput, fmt::format("{}: {}: expected a number from {} to {}", place,
                                                   kColumns[i], low, high));
      }
    }
    return {.timestamp = values[0],
            .input_length = static_cast<std::int64_t>(values[1]),
            .output_length = static_cast<std::int64_t>(values[2])};
  }

 private:
  static constexpr std::string_view kColumns[3] = {"timestamp", "input_length", "output_length"};
  std::size_t columns_[3] = {};
};

std::vector<TokenId> prompt_of(const TraceRow& row, std::uint64_t seed, std::uint64_t index,
                               std::int64_t vocab_size) {
  constexpr std::uint64_t kBlockStreams = std::uint64_t{1} << 40;  // behind those of requests
  if (row.hash_ids.empty()) return random_token_ids(seed, index, row.input_length, vocab_size);
  std::vector<TokenId> ids;
  for (const std::int64_t hash : row.hash_ids) {
    const std::int64_t left = row.input_length - std::ssize(ids);
    if (left <= 0) break;
    const auto block = random_token_ids(seed, kBlockStreams + static_cast<std::uint64_t>(hash),
                                        std::min(left, kBlockTokens), vocab_size);
    ids.insert(ids.end(), block.begin(), block.end());
  }
  const std::int64_t left = row.input_length - std::ssize(ids);
  const auto rest = random_token_ids(seed, index, std::max<std::int64_t>(left, 0), vocab_size);
  ids.insert(ids.end(), rest.begin(), rest.end());
  return ids;
}

std::vector<TraceRow> read_rows(std::string_view text, const TraceOptions& options, bool& is_json) {
  std::vector<TraceRow> rows;
  std::optional<CsvTrace> csv;
  std::int64_t line_number = 0;
  while (!text.empty() && std::ssize(rows) < options.max_requests) {
    const std::string_view line = take_line(text);
    ++line_number;
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string place = fmt::format("{}:{}", options.path, line_number);
    if (rows.empty() && !csv) is_json = line.starts_with('{');
    if (is_json) {
      rows.push_back(row_of_json(line, place));
    } else if (!csv) {
      csv.emplace(line, place);
    } else {
      rows.push_back(csv->row(line, place));
    }
  }
  if (rows.empty()) {
    throw Error(ErrorKind::kInput, fmt::format("{}: no request", options.path));
  }
  return rows;
}

}  // namespace

TraceWorkload read_trace(const TraceOptions& options, std::uint64_t seed,
                         const WorkloadModel& model) {
  const std::string text = read_file(options.path, kMaxFileBytes, ErrorKind::kInput);
  bool is_json = false;
  std::vector<TraceRow> rows = read_rows(text, options, is_json);
  std::stable_sort(rows.begin(), rows.end(),
                   [](const TraceRow& a, const TraceRow& b) { return a.timestamp < b.timestamp; });
  const bool is_ms = options.time_unit == "ms" || (options.time_unit == "auto" && is_json);
  const double scale = (is_ms ? 1e-3 : 1.0) * options.time_scale;

  TraceWorkload trace;
  trace.workload.dataset = "trace";
  trace.workload.path = options.path;
  trace.workload.description = fmt::format("arrivals and lengths of {}, random ids", options.path);
  Sha256 hash;
  hash.update(text);
  trace.workload.file_sha256 = to_hex(hash.finish());
  trace.workload.seed = seed;
  std::int64_t num_too_long = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const TraceRow& row = rows[i];
    if (model.max_model_len > 0 && row.input_length + row.output_length > model.max_model_len) {
      ++num_too_long;
      continue;
    }
    trace.workload.requests.push_back({prompt_of(row, seed, i, model.vocab_size),
                                       static_cast<std::int32_t>(row.output_length),
                                       static_cast<std::int64_t>(i)});
    trace.arrivals_s.push_back((row.timestamp - rows.front().timestamp) * scale);
  }
  if (num_too_long > 0) trace.workload.num_left_out.emplace_back("too long", num_too_long);
  if (trace.arrivals_s.empty()) {
    throw Error(ErrorKind::kInput, fmt::format("{}: every request is longer than the model's {} "
                                               "tokens",
                                               options.path, model.max_model_len));
  }
  return trace;
}

}  // namespace llmrun
