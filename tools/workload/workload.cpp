#include "tools/workload/workload.h"

#include <algorithm>
#include <bit>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "engine/core/counted.h"
#include "engine/core/error.h"
#include "engine/core/sha256.h"
#include "tools/flag_checks.h"
#include "tools/workload/workload_sources.h"

namespace llmrun {
namespace {

std::string_view bytes_of(const std::vector<TokenId>& ids) {
  static_assert(std::endian::native == std::endian::little, "digests are over little-endian ids");
  return {reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(TokenId)};
}

void check(const WorkloadOptions& options) {
  const bool from_file = options.dataset == "sharegpt" || options.dataset == "custom";
  if (from_file && options.path.empty()) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--dataset-name {} needs --dataset-path FILE", options.dataset));
  }
  if (!from_file && !options.path.empty()) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--dataset-path is for --dataset-name sharegpt and custom; "
                            "--dataset-name is {}",
                            options.dataset));
  }
}

// Made-up requests must fit; files are filtered.
void check_fit(const Workload& workload, const WorkloadModel& model) {
  if (workload.longest() <= model.max_model_len) return;
  throw Error(
      ErrorKind::kUsage,
      fmt::format("a request needs {} tokens, prompt and output together; this model takes "
                  "{}. Lower the lengths, or take a longer --max-model-len or a model made for it",
                  workload.longest(), model.max_model_len));
}

}  // namespace

std::string size_text(const Workload& workload) {
  return fmt::format("{}, {}, {}", counted(std::ssize(workload.requests), "request"),
                     counted(workload.num_prompt_tokens(), "prompt token"),
                     counted(workload.num_output_tokens(), "output token"));
}

void add_workload_options(CLI::App& command, WorkloadOptions& options) {
  const std::string group = "Workload";
  command
      .add_option("--dataset-name", options.dataset,
                  "random: ids of --input-len and --output-len; sharegpt: conversations, by vLLM's "
                  "rules; custom: JSON lines with prompt or prompt_token_ids; prefix_repetition: "
                  "prompts that share prefixes; lengths: random ids, lengths as in ShareGPT")
      ->check(CLI::IsMember({"random", "sharegpt", "custom", "prefix_repetition", "lengths"}))
      ->group(group)
      ->capture_default_str();
  command.add_option("--dataset-path,--dataset", options.path, "File of sharegpt or custom")
      ->group(group);
  command
      .add_option("--prompt-field", options.prompt_field,
                  "Key of the prompt in the lines of custom")
      ->group(group)
      ->capture_default_str();
  command.add_option("--num-prompts", options.num_prompts, "Requests, at most")
      ->check(CLI::Range(1, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command.add_option("--input-len,--random-input-len", options.input_len, "Prompt tokens (random)")
      ->check(CLI::Range(1, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--output-len,--random-output-len,--sharegpt-output-len", options.output_len,
                  "Output tokens of every request (0: as the dataset says, else 128)")
      ->check(CLI::Range(0, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--random-range-ratio", options.random_range_ratio,
                  "Lengths uniform in [L (1 - r), L (1 + r)], as in vLLM; 0 <= r < 1 (random)")
      ->check(number_from(0.0, 0.999999))
      ->group(group)
      ->capture_default_str();
  command
      .add_flag("--disable-shuffle", options.disable_shuffle, "Keep the file's order (sharegpt)")
      ->group(group);
  command
      .add_option("--prefix-repetition-num-prefixes", options.num_prefixes, "Different prefixes")
      ->check(CLI::Range(1, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--prefix-repetition-prefix-len", options.prefix_len, "Tokens of a shared prefix")
      ->check(CLI::Range(1, 1 << 24))
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--prefix-repetition-suffix-len", options.suffix_len,
                  "Tokens after it, different for every request")
      ->check(CLI::Range(1, 1 << 24))
      ->group(group)
      ->capture_default_str();
}

std::int64_t Workload::num_prompt_tokens() const {
  std::int64_t count = 0;
  for (const WorkloadRequest& request : requests) count += std::ssize(request.prompt_token_ids);
  return count;
}

std::int64_t Workload::num_output_tokens() const {
  std::int64_t count = 0;
  for (const WorkloadRequest& request : requests) count += request.output_len;
  return count;
}

std::int64_t Workload::longest() const {
  std::int64_t longest = 0;
  for (const WorkloadRequest& request : requests) {
    longest = std::max(longest, std::ssize(request.prompt_token_ids) + request.output_len);
  }
  return longest;
}

std::int64_t Workload::num_duplicate_prompts() const {
  std::set<std::string_view> prompts;
  for (const WorkloadRequest& request : requests) {
    prompts.insert(bytes_of(request.prompt_token_ids));
  }
  return std::ssize(requests) - std::ssize(prompts);
}

std::string Workload::sha256() const {
  Sha256 hash;
  for (const WorkloadRequest& request : requests) {
    hash.update(fmt::format("{} {}:", request.prompt_token_ids.size(), request.output_len));
    hash.update(bytes_of(request.prompt_token_ids));
  }
  return to_hex(hash.finish());
}

Workload make_workload(const WorkloadOptions& options, std::uint64_t seed,
                       const WorkloadModel& model) {
  check(options);
  Workload workload;
  workload.dataset = options.dataset;
  workload.seed = seed;
  if (options.dataset == "sharegpt") {
    append_sharegpt(options, model, workload);
  } else if (options.dataset == "custom") {
    append_custom(options, model, workload);
  } else if (options.dataset == "prefix_repetition") {
    append_prefix_repetition(options, model, workload);
  } else if (options.dataset == "lengths") {
    append_lengths(options, model, workload);
  } else {
    append_random(options, model, workload);
  }
  if (workload.path.empty()) check_fit(workload, model);
  const auto num_requests = std::ssize(workload.requests);
  if (num_requests == 0) {
    std::string reasons;
    for (const auto& [reason, count] : workload.num_left_out) {
      reasons += fmt::format("{}{} {}", reasons.empty() ? ": " : ", ", count, reason);
    }
    throw Error(ErrorKind::kInput, fmt::format("{}: no usable request{}", workload.path, reasons));
  }
  if (num_requests < options.num_prompts) {
    workload.warnings.push_back(
        fmt::format("{} of --num-prompts {} requests: the file has no more that are usable "
                    "(none is sent twice)",
                    num_requests, options.num_prompts));
  }
  return workload;
}

}  // namespace llmrun
