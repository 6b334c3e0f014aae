#include "tools/workload/workload.h"

#include <set>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/engine_factory.h"
#include "tests/support/temporary_folder.h"
#include "tools/report/report_file.h"
#include "tools/workload/workload_sources.h"

namespace llmrun {
namespace {

using testing::TemporaryFolder;

constexpr WorkloadModel kAnyModel{.tokenizer = nullptr, .vocab_size = 300, .max_model_len = 4096};

WorkloadOptions options_of(const std::string& dataset, std::int32_t num_prompts) {
  WorkloadOptions options;
  options.dataset = dataset;
  options.num_prompts = num_prompts;
  return options;
}

struct DemoModel {
  std::unique_ptr<Tokenizer> tokenizer =
      load_model_tokenizer(LLMRUN_SOURCE_DIR "/datasets/demo/model");
  WorkloadModel model{tokenizer.get(), tokenizer->vocab_size(), 1024};
};

std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += " apples";
  return text;
}

std::string conversation(const std::string& prompt, const std::string& completion) {
  return fmt::format(R"({{"conversations": [{{"from": "human", "value": "{}"}}, )"
                     R"({{"from": "gpt", "value": "{}"}}]}})",
                     prompt, completion);
}

}  // namespace

TEST_CASE("random requests have the lengths asked for and depend on the seed only") {
  const Workload workload = make_workload(options_of("random", 25), 2024, kAnyModel);
  REQUIRE(workload.requests.size() == 25);
  CHECK(workload.num_prompt_tokens() == 25 * 64);
  CHECK(workload.num_output_tokens() == 25 * 128);
  CHECK(workload.longest() == 192);
  CHECK(workload.num_duplicate_prompts() == 0);
  for (const WorkloadRequest& request : workload.requests) {
    for (const TokenId id : request.prompt_token_ids) CHECK((id >= 0 && id < 300));
  }
  CHECK(make_workload(options_of("random", 25), 2024, kAnyModel).sha256() == workload.sha256());
  CHECK(make_workload(options_of("random", 25), 2025, kAnyModel).sha256() != workload.sha256());
  // Fewer requests are the first of more.
  const Workload fewer = make_workload(options_of("random", 5), 2024, kAnyModel);
  CHECK(fewer.requests[4].prompt_token_ids == workload.requests[4].prompt_token_ids);
}

TEST_CASE("random-range-ratio spreads lengths as vLLM does") {
  WorkloadOptions options = options_of("random", 400);
  options.input_len = 50;
  options.output_len = 20;
  options.random_range_ratio = 0.5;
  const Workload workload = make_workload(options, 1, kAnyModel);
  std::set<std::int64_t> inputs, outputs;
  for (const WorkloadRequest& request : workload.requests) {
    inputs.insert(std::ssize(request.prompt_token_ids));
    outputs.insert(request.output_len);
  }
  CHECK(*inputs.begin() == 25);
  CHECK(*inputs.rbegin() == 75);
  CHECK(*outputs.begin() == 10);
  CHECK(*outputs.rbegin() == 30);
}

TEST_CASE("requests that the model cannot take are refused with both numbers") {
  WorkloadOptions options = options_of("random", 1);
  options.input_len = 4000;
  options.output_len = 97;
  CHECK_THROWS_WITH_AS(make_workload(options, 1, kAnyModel), doctest::Contains("4097"), Error);
}

TEST_CASE("shared prefixes") {
  WorkloadOptions options = options_of("prefix_repetition", 6);
  options.num_prefixes = 2;
  options.prefix_len = 10;
  options.suffix_len = 4;
  const Workload workload = make_workload(options, 1, kAnyModel);
  const auto prefix = [&](std::size_t i) {
    const auto& ids = workload.requests[i].prompt_token_ids;
    REQUIRE(ids.size() == 14);
    return std::vector<TokenId>(ids.begin(), ids.begin() + 10);
  };
  CHECK(prefix(0) == prefix(2));
  CHECK(prefix(1) == prefix(5));
  CHECK(prefix(0) != prefix(1));
  CHECK(workload.num_duplicate_prompts() == 0);
}

TEST_CASE("lengths as in ShareGPT keep their means after the cut") {
  const Workload workload = make_workload(options_of("lengths", 1000), 3, kAnyModel);
  CHECK(static_cast<double>(workload.num_prompt_tokens()) / 1000 ==
        doctest::Approx(161.31).epsilon(0.01));
  CHECK(static_cast<double>(workload.num_output_tokens()) / 1000 ==
        doctest::Approx(337.99).epsilon(0.01));
  for (const WorkloadRequest& request : workload.requests) {
    CHECK((request.prompt_token_ids.size() >= 4 && request.prompt_token_ids.size() <= 1024));
    CHECK((request.output_len >= 4 && request.output_len <= 2048));
  }
}

TEST_CASE("a model with a short context gets lengths of the same shape") {
  WorkloadModel model = kAnyModel;
  model.max_model_len = 1024;  // a third of 1024 + 2048
  const Workload workload = make_workload(options_of("lengths", 1000), 3, model);
  CHECK(static_cast<double>(workload.num_output_tokens()) / 1000 ==
        doctest::Approx(337.99 / 3).epsilon(0.01));
  CHECK(workload.longest() <= 1024);
}

TEST_CASE("vLLM's filter of lengths") {
  const LengthFilter filter;
  CHECK(reason_to_leave_out(4, 4, filter) == nullptr);
  CHECK(reason_to_leave_out(1024, 1024, filter) == nullptr);
  CHECK(reason_to_leave_out(3, 100, filter) != nullptr);
  CHECK(reason_to_leave_out(100, 3, filter) != nullptr);
  CHECK(reason_to_leave_out(1025, 100, filter) != nullptr);
  CHECK(reason_to_leave_out(1024, 1025, filter) != nullptr);
  CHECK(reason_to_leave_out(100, 3, {.check_min_output_len = false}) == nullptr);
}

TEST_CASE("ShareGPT: two turns, in a seeded order, filtered, with their places in the file") {
  const DemoModel demo;
  const TemporaryFolder folder;
  const auto path = folder.write(
      "s.json", "[" + conversation("Hi", words(20)) + ",\n" + conversation(words(10), words(12)) +
                    ",\n" + conversation(words(11), words(6000)) + ",\n" +
                    R"({"conversations": [{"from": "human", "value": "alone"}]})" + ",\n" +
                    conversation(words(13), words(9)) + "]");
  WorkloadOptions options = options_of("sharegpt", 10);
  options.path = path;
  options.disable_shuffle = true;
  const Workload workload = make_workload(options, 0, demo.model);
  REQUIRE(workload.requests.size() == 2);
  CHECK(workload.requests[0].source_index == 1);
  CHECK(workload.requests[1].source_index == 4);
  CHECK(workload.requests[0].prompt_token_ids == demo.tokenizer->encode(words(10), true));
  CHECK(workload.requests[0].output_len == std::ssize(demo.tokenizer->encode(words(12), true)));
  CHECK(workload.num_left_out.size() == 3);
  CHECK(workload.file_sha256.size() == 64);
  CHECK(!workload.warnings.empty());  // fewer than asked for

  options.output_len = 7;
  CHECK(make_workload(options, 0, demo.model).requests[0].output_len == 7);
  options.num_prompts = 1;
  CHECK(make_workload(options, 0, demo.model).requests.size() == 1);
}

TEST_CASE("the shipped conversations come in the seed's order") {
  const DemoModel demo;
  WorkloadOptions options = options_of("sharegpt", 5);
  options.path = LLMRUN_SOURCE_DIR "/datasets/demo/sharegpt.json";
  const auto order = [&](std::uint64_t seed) {
    std::vector<std::int64_t> indices;
    for (const auto& request : make_workload(options, seed, demo.model).requests) {
      indices.push_back(request.source_index);
    }
    return indices;
  };
  CHECK(order(0) == order(0));
  CHECK(order(0) != order(1));
}

TEST_CASE("custom JSON lines: text, ids, max_tokens of a line") {
  const DemoModel demo;
  const TemporaryFolder folder;
  const auto path = folder.write("p.jsonl",
                                 "{\"prompt\": \"What is 2 + 3?\"}\n"
                                 "{\"prompt_token_ids\": [5, 6, 7], \"max_tokens\": 9}\n"
                                 "{\"max_tokens\": 9}\n"
                                 "{\"prompt\": 5}\n"
                                 "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}\n");
  WorkloadOptions options = options_of("custom", 10);
  options.path = path;
  const Workload workload = make_workload(options, 0, demo.model);
  REQUIRE(workload.requests.size() == 2);
  CHECK(workload.requests[0].output_len == 128);
  CHECK(workload.requests[1].output_len == 9);
  CHECK(workload.requests[1].prompt_token_ids == std::vector<TokenId>{5, 6, 7});
  REQUIRE(workload.num_left_out.size() == 2);
  CHECK(workload.num_left_out[0].first.starts_with("that cannot be read (the first: line 3: "));
  CHECK(workload.num_left_out[0].second == 2);

  options.output_len = 40;
  for (const auto& request : make_workload(options, 0, demo.model).requests) {
    CHECK(request.output_len == 40);
  }
}

TEST_CASE("a report's place is tried before the run") {
  const TemporaryFolder folder;
  require_writable((folder.path() / "report.json").string());
  CHECK_THROWS_AS(require_writable((folder.path() / "none" / "report.json").string()), Error);
}

TEST_CASE("datasets and their files belong together") {
  CHECK_THROWS_AS(make_workload(options_of("sharegpt", 1), 0, kAnyModel), Error);
  WorkloadOptions options = options_of("random", 1);
  options.path = "x.json";
  CHECK_THROWS_AS(make_workload(options, 0, kAnyModel), Error);
}

}  // namespace llmrun
