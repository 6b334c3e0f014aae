// `llmrun throughput` as a user meets it: the built program on the demo model.
#include <csignal>

#include "tests/e2e/generate_fixture.h"

namespace llmrun {
namespace {

using testing::parse_lines;
using testing::read_all;
using testing::run_command;
using testing::RunResult;
using testing::TemporaryFolder;

std::vector<std::string> throughput_command(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {LLMRUN_BINARY_DIR "/llmrun",
                                      "throughput",
                                      "--model",
                                      LLMRUN_SOURCE_DIR "/datasets/demo/model",
                                      "--dtype",
                                      "float32",
                                      "--num-prompts",
                                      "4",
                                      "--input-len",
                                      "12",
                                      "--output-len",
                                      "9"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

RunResult run_throughput(const std::vector<std::string>& arguments) {
  return run_command(throughput_command(arguments));
}

}  // namespace

TEST_CASE("paged against naive: vLLM's lines, the table, equal outputs") {
  const TemporaryFolder folder;
  const std::string json_path = (folder.path() / "out.json").string();
  const RunResult result = run_throughput({"--repeats", "2", "--output-json", json_path});
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("paged\nThroughput: ") == 0);
  CHECK(result.out.find("Total num prompt tokens:  48\nTotal num output tokens:  36\n") !=
        std::string::npos);
  CHECK(result.out.find("difference") != std::string::npos);
  CHECK(result.err.find("memory plan") != std::string::npos);

  const auto json = nlohmann::json::parse(read_all(json_path));
  CHECK(json.at("schema_version") == 1);
  CHECK(json.at("valid") == true);
  CHECK(json.at("num_requests") == 4);
  CHECK(json.at("total_num_tokens") == 84);
  CHECK(json.at("elapsed_time") > 0);
  CHECK(json.at("device").at("limits").at("read_bytes_per_s") > 0);
  REQUIRE(json.at("cases").size() == 2);
  const auto& paged = json.at("cases")[0];
  const auto& naive = json.at("cases")[1];
  CHECK(paged.at("output_digest") == naive.at("output_digest"));
  CHECK(naive.at("config").at("max_num_seqs") == 4);
  CHECK(json.at("comparisons")[0].at("same_requests_share") == 1.0);
  for (const auto& metric : paged.at("metrics")) {
    if (metric.at("name") == "elapsed_s") CHECK(metric.at("samples").size() == 2);
    if (metric.at("name") == "decode_mbu_percent") CHECK(metric.at("mean") > 0);
  }
}

TEST_CASE("the same seed gives the same outputs, greedy or not") {
  const auto digest = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--backend", "paged",    "-r",   "1",
                                          "-q",        "--output", "jsonl"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const RunResult result = run_throughput(arguments);
    CHECK(result.exit_code == 0);
    CHECK(result.err.empty());
    return parse_lines(result.out).at(0).at("case").at("output_digest").get<std::string>();
  };
  CHECK(digest({}) == digest({}));
  CHECK(digest({}) != digest({"--seed", "7"}));
  CHECK(digest({}) != digest({"--temperature", "0"}));
}

TEST_CASE("the ladder: five levels, equal outputs, a trace") {
  const TemporaryFolder folder;
  const std::string trace = (folder.path() / "steps.jsonl").string();
  const RunResult result =
      run_throughput({"--ablation", "-r", "1", "-q", "--output", "json", "--trace", trace});
  CHECK(result.exit_code == 0);
  const auto json = nlohmann::json::parse(result.out);
  REQUIRE(json.at("cases").size() == 5);
  for (const auto& level : json.at("cases")) {
    CHECK(level.at("output_digest") == json.at("cases")[0].at("output_digest"));
  }
  CHECK(json.at("cases")[0].at("config").at("max_model_len") == 1024);
  CHECK(json.at("cases")[1].at("config").at("max_model_len") == 21);
  CHECK(parse_lines(read_all(trace)).size() >= 5 * 9);
  CHECK(!nlohmann::json::parse(read_all(trace + ".chrome.json")).at("traceEvents").empty());
}

TEST_CASE("conversations, shared prefixes with their hit rate, and other forms") {
  const RunResult conversations = run_throughput({"--dataset-name", "sharegpt", "--dataset-path",
                                                  LLMRUN_SOURCE_DIR "/datasets/demo/sharegpt.json",
                                                  "-r", "1", "--output", "md"});
  CHECK(conversations.exit_code == 0);
  CHECK(conversations.out.find("| paged |") != std::string::npos);

  const RunResult prefixes =
      run_throughput({"--dataset-name", "prefix_repetition", "--prefix-repetition-num-prefixes",
                      "1", "--prefix-repetition-prefix-len", "64", "--prefix-repetition-suffix-len",
                      "4", "--max-num-seqs", "1", "--enable-prefix-caching", "--backend", "paged",
                      "-r", "2", "-q", "--output", "csv"});
  CHECK(prefixes.exit_code == 0);
  CHECK(prefixes.out.find("prefix_hit_percent") != std::string::npos);
}

TEST_CASE("usage errors are told in one line") {
  CHECK(run_throughput({"--backend", "paged,fast"}).exit_code == 2);
  CHECK(run_throughput({"--input-len", "2000"}).exit_code == 2);
  CHECK(run_throughput({"--dataset-name", "sharegpt"}).exit_code == 2);
  CHECK(run_throughput({"--dataset-name", "custom", "--dataset-path", "/nowhere"}).exit_code == 3);
}

TEST_CASE("a benchmark stopped by a signal reports its whole repeats, as INVALID") {
  for (const int number : {SIGINT, SIGTERM}) {
    const TemporaryFolder folder;
    const std::string path = (folder.path() / "report.json").string();
    testing::ChildProcess child(throughput_command({"--repeats", "1000", "--backend", "paged,naive",
                                                    "--output-json", path}),
                                folder.path());
    while (child.standard_error().find("repeat 2 of") == std::string::npos && !child.has_ended()) {
    }
    child.signal(number);
    CHECK(child.wait() == 128 + number);
    CHECK(child.standard_output().find("INVALID") != std::string::npos);
    const auto json = nlohmann::json::parse(read_all(path));
    CHECK(json.at("valid") == false);
    CHECK(json.at("cases").size() == 1);
    CHECK(json.dump().find("a signal ended the benchmark: 1 of 2 cases") != std::string::npos);
  }
}

TEST_CASE("a benchmark stopped before its first repeat says so, and the second signal ends it") {
  const TemporaryFolder folder;
  testing::ChildProcess child(
      {LLMRUN_BINARY_DIR "/llmrun", "throughput", "--model",
       LLMRUN_SOURCE_DIR "/datasets/demo/model", "--device", "cpu", "--num-prompts", "4096",
       "--output-len", "200", "--num-warmups", "0"},
      folder.path());
  while (child.standard_error().find("memory plan") == std::string::npos && !child.has_ended()) {
  }
  child.signal(SIGINT);
  CHECK(child.wait() == 130);
  CHECK(child.standard_error().find("stopped before anything was measured") != std::string::npos);
  CHECK(child.standard_output().empty());
}

TEST_CASE("names of other engines") {
  const auto error_of = [](const std::vector<std::string>& arguments) {
    const RunResult result = run_throughput(arguments);
    CHECK(result.exit_code == 2);
    return result.err;
  };
  CHECK(error_of({"--tensor-parallel-size", "2"}).find("runs a model on one device") !=
        std::string::npos);
  CHECK(error_of({"--enforce-eager"}).find("--no-cuda-graphs") != std::string::npos);
  // A CPU does not multiply in float16, and says so by that name.
  const RunResult half =
      run_command({LLMRUN_BINARY_DIR "/llmrun", "throughput", "--model",
                   LLMRUN_SOURCE_DIR "/datasets/demo/model", "--device", "cpu", "--dtype", "half",
                   "--num-prompts", "1", "--output-len", "2", "--repeats", "1"});
  CHECK((half.err + half.out).find("float16") != std::string::npos);
}

TEST_CASE("custom: the prompt may have another key") {
  const TemporaryFolder folder;
  const auto path = folder
                        .write("lines.jsonl",
                               "{\"question\": \"Ada has 3 pens.\"}\n"
                               "{\"question\": \"Ada has 4 pens and more.\"}\n")
                        .string();
  const RunResult result =
      run_throughput({"--dataset-name", "custom", "--dataset-path", path, "--prompt-field",
                      "question", "--backend", "paged", "-r", "1", "-q", "--output", "json"});
  CHECK(nlohmann::json::parse(result.out).at("num_requests") == 2);
}

}  // namespace llmrun
