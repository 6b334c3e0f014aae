// `llmrun serve-bench` as a user meets it: the built program on the demo model, in process, over
// HTTP, and against a server that runs already.
#include <csignal>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/e2e/generate_fixture.h"
#include "tests/e2e/served_model.h"

namespace llmrun {
namespace {

using testing::ChildProcess;
using testing::contains;
using testing::parse_lines;
using testing::read_all;
using testing::run_command;
using testing::RunResult;
using testing::ServedModel;
using testing::TemporaryFolder;

std::vector<std::string> bench_command(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {LLMRUN_BINARY_DIR "/llmrun",
                                      "serve-bench",
                                      "--model",
                                      LLMRUN_SOURCE_DIR "/datasets/demo/model",
                                      "--dtype",
                                      "float32",
                                      "--device",
                                      "cpu",
                                      "--input-len",
                                      "12",
                                      "--output-len",
                                      "9",
                                      "--skip-overhead"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

}  // namespace

TEST_CASE("serve-bench, in process and over HTTP: vLLM's block and keys, both modes in one table") {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "report.json").string();
  const RunResult result = run_command(
      bench_command({"--modes", "inproc,http", "--num-warmups", "2", "--num-prompts", "8",
                     "--request-rate", "200", "--goodput", "e2el:60000", "--output-json", path}));
  CAPTURE(result.err);
  CHECK(contains(result.out, "============ Serving Benchmark Result ============\n"));
  CHECK(contains(result.out, "Successful requests:                     8         \n"));
  CHECK(contains(result.out, "Total generated tokens:                  72        \n"));
  CHECK(contains(result.out, "The same requests inproc and http"));
  const auto json = nlohmann::json::parse(read_all(path));
  const auto& points = json.at("results");
  REQUIRE(points.size() == 2);
  for (const auto& point : points) {
    CHECK(point.at("completed") == 8);
    CHECK(point.at("failed") == 0);
    CHECK(point.at("total_input_tokens") == 96);
    CHECK(point.at("total_output_tokens") == 72);
    CHECK(point.at("request_throughput") > 0);
    CHECK(point.at("request_goodput") == point.at("request_throughput"));
    CHECK(point.at("request_rate") == 200);
    for (const char* key : {"mean_ttft_ms", "median_tpot_ms", "p99_itl_ms", "p99_e2el_ms"}) {
      CAPTURE(key);
      CHECK(point.at(key) >= 0);
    }
  }
  CHECK(points[0].at("mode") == "inproc");
  CHECK(points[1].at("mode") == "http");
}

TEST_CASE("serve-bench against a server that runs: completions, chat, a sweep, saved files") {
  const TemporaryFolder folder;
  const ServedModel server(folder, {"--api-key", "sk-e2e"});
  ::setenv("OPENAI_API_KEY", "sk-e2e", 1);
  const RunResult result = run_command(bench_command(
      {"--base-url", server.url() + "/v1", "--served-model-name", "demo", "--num-prompts", "6",
       "--max-concurrency", "1,3", "--save-result", "--save-detailed", "--result-dir",
       folder.path().string(), "--label", "swept", "--output", "jsonl"}));
  const RunResult chat = run_command(
      bench_command({"--base-url", server.url(), "--served-model-name", "demo", "--endpoint",
                     "/v1/chat/completions", "--num-prompts", "2", "--output", "json", "-q"}));
  ::unsetenv("OPENAI_API_KEY");
  const RunResult refused = run_command(bench_command(
      {"--base-url", server.url(), "--served-model-name", "demo", "--num-warmups", "1"}));

  CAPTURE(result.err);
  const auto lines = parse_lines(result.out);
  REQUIRE(lines.size() == 2);
  int num_files = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder.path())) {
    if (!file.path().filename().string().starts_with("swept-")) continue;
    ++num_files;
    const auto json = nlohmann::json::parse(read_all(file.path()));
    CHECK(json.at("completed") == 6);
    CHECK(json.at("input_lens").size() == 6);
    CHECK(json.at("output_lens")[0] == 9);
    // Tokens of half a character, and those that are ready before the last is sent, share a piece.
    CHECK(json.at("itls").size() == 6);
    CHECK(json.at("itls")[0].size() <= 8);
  }
  CHECK(num_files == 2);
  const auto report = nlohmann::json::parse(chat.out);
  CHECK(report.at("completed") == 2);
  CHECK(report.at("backend") == "openai-chat");
  CHECK(refused.exit_code == 3);
  CHECK(contains(refused.err, "http_401"));
}

TEST_CASE("serve-bench: a search asks at each rate for as long as --duration says") {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "report.json").string();
  const RunResult result =
      run_command(bench_command({"--num-warmups", "1", "--num-prompts", "8", "--find-rate",
                                 "--search-min-rate", "30", "--search-max-rate", "30", "--duration",
                                 "1", "--goodput", "e2el:60000", "--output-json", path}));
  CAPTURE(result.err);
  // 30, but for those whose turn would come after the end.
  CHECK(nlohmann::json::parse(read_all(path)).at("completed") > 24);
}

TEST_CASE("serve-bench, stopped by a signal: the report of what was answered") {
  for (const int number : {SIGINT, SIGTERM}) {
    const TemporaryFolder folder;
    ChildProcess child(
        bench_command({"--num-warmups", "0", "--num-prompts", "10000", "--request-rate", "50"}),
        folder.path());
    while (!contains(child.standard_error(), "workload:") && !child.has_ended()) {
    }
    std::this_thread::sleep_for(std::chrono::seconds(2));
    child.signal(number);
    CHECK(child.wait() == 128 + number);
    const std::string out = child.standard_output();
    CHECK(contains(out, " Serving Benchmark Result "));
    CHECK(contains(out, "INVALID: stopped: "));
    CHECK(contains(out, "Failed requests:                         0  "));
    CHECK(contains(out, "Not sent"));
  }
}

TEST_CASE("serve-bench, stopped by a signal while it waits for a server: at once") {
  // One address where nobody listens, and one where nobody answers.
  const int listening = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  REQUIRE(::bind(listening, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listening, 8) == 0);
  REQUIRE(::getsockname(listening, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  for (const int port : {1, int{ntohs(address.sin_port)}}) {
    for (const int number : {SIGINT, SIGTERM}) {
      const TemporaryFolder folder;
      ChildProcess child(bench_command({"--base-url", "http://127.0.0.1:" + std::to_string(port),
                                        "--ready-check-timeout-sec", "600"}),
                         folder.path());
      std::this_thread::sleep_for(std::chrono::seconds(2));
      CHECK_FALSE(child.has_ended());
      const auto start = std::chrono::steady_clock::now();
      child.signal(number);
      CHECK(child.wait() == 128 + number);
      CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
      CHECK(contains(child.standard_error(), "stopped before anything was measured"));
    }
  }
  ::close(listening);
}

TEST_CASE("serve-bench: what cannot be measured is told") {
  const auto error_of = [](const std::vector<std::string>& arguments, int exit_code) {
    const RunResult result = run_command(bench_command(arguments));
    CHECK(result.exit_code == exit_code);
    return result.err;
  };
  CHECK(contains(error_of({"--modes", "tcp"}, 2), "--modes: 'tcp'"));
  CHECK(contains(error_of({"--request-rate", "0"}, 2), "--request-rate: '0'"));
  CHECK(contains(error_of({"--find-rate"}, 2), "--find-rate needs --goodput"));
  CHECK(contains(error_of({"--goodput", "ttft"}, 2), "--goodput: 'ttft'"));
  CHECK(contains(error_of({"--base-url", "http://127.0.0.1:1"}, 3), "127.0.0.1:1"));
}

}  // namespace llmrun
