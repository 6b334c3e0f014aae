// `llmrun compare` as a user meets it: result files of llmrun, vLLM, SGLang and llama-bench.
#include "tests/e2e/generate_fixture.h"

namespace llmrun {
namespace {

using testing::contains;
using testing::run_command;
using testing::RunResult;
using testing::TemporaryFolder;

RunResult run_compare(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {LLMRUN_BINARY_DIR "/llmrun", "compare"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return run_command(command);
}

// Lines as `llmrun throughput --repeats 1 --output jsonl` writes them, one a rate.
std::string llmrun_lines(const std::vector<double>& rates) {
  std::string text;
  for (const double rate : rates) {
    text += fmt::format(
        R"({{"schema_version":1,"command":"throughput","dataset":{{"requests_sha256":"aa"}},)"
        R"("model":{{"name":"demo"}},"case":{{"name":"paged","metrics":[)"
        R"({{"name":"requests_per_s","unit":"requests/s","samples":[{}]}}]}}}})"
        "\n",
        rate);
  }
  return text;
}

}  // namespace

TEST_CASE("compare: exit codes of --fail-below, alone and paired") {
  const TemporaryFolder folder;
  const auto base = folder.write("base.jsonl", llmrun_lines({10, 10.1, 9.9, 10, 10.05, 9.95}));
  const auto same = folder.write("same.jsonl", llmrun_lines({10, 9.9, 10.1, 10, 9.95, 10.05}));
  const auto slow = folder.write("slow.jsonl", llmrun_lines({9, 9.1, 8.9, 9, 9.05, 8.95}));
  const auto other = folder.write("other.json", R"({"elapsed_time": 1})");
  const auto code = [&](const std::filesystem::path& changed, std::vector<std::string> more) {
    more.insert(more.begin(), {base.string(), changed.string()});
    return run_compare(more).exit_code;
  };
  CHECK(code(same, {"--fail-below", "0.97"}) == 0);
  CHECK(code(slow, {"--fail-below", "0.97"}) == 1);
  CHECK(code(slow, {"--fail-below", "0.97", "--paired"}) == 1);
  CHECK(code(slow, {"--fail-below", "0.8"}) == 0);
  CHECK(code(slow, {}) == 0);
  CHECK(code(slow, {"--fail-below", "1.5"}) == 2);
  CHECK(code(other, {}) == 3);
  CHECK(code("/nowhere.json", {}) == 3);

  const std::string recorded = LLMRUN_SOURCE_DIR "/results/ci/h200/planted-caught/";
  CHECK(run_compare(
            {recorded + "base.jsonl", recorded + "new.jsonl", "--paired", "--fail-below", "0.97"})
            .exit_code == 1);

  // A CI job whose builds cannot be run is broken, which is no drop.
  const auto ci_job = [&](const std::string& build) {
    return run_command({"/usr/bin/env", "python3", LLMRUN_SOURCE_DIR "/scripts/bench_ci.py",
                        "--base", build, "--new", build, "--pairs", "6", "--output",
                        (folder.path() / "bench-ci").string()});
  };
  const RunResult missing = ci_job("/nowhere/llmrun");
  CHECK(missing.exit_code == 2);
  CHECK(contains(missing.err, "bench_ci.py: /nowhere/llmrun: No such file"));
  CHECK(ci_job("/bin/false").exit_code == 2);

  const RunResult text = run_compare({base.string(), same.string(), slow.string()});
  CHECK(contains(text.out, "slower"));
  CHECK(contains(text.out, "no difference"));
  const RunResult markdown =
      run_compare({base.string(), slow.string(), "--fail-below", "0.97", "--output", "md"});
  CHECK(contains(markdown.out, "| paged |"));
  CHECK(contains(markdown.out, "0.9"));
}

TEST_CASE("compare: files of vLLM, SGLang and llama-bench, of one tool and across") {
  const TemporaryFolder folder;
  const auto vllm = [&](const std::string& name, double rate) {
    return folder
        .write(name, fmt::format(R"({{"elapsed_time": {}, "num_requests": 4, "total_num_tokens": 84,
          "requests_per_second": {}, "tokens_per_second": {}}})",
                                 4 / rate, rate, 21 * rate))
        .string();
  };
  const auto serving = [&](const std::string& name, const std::string& backend, double rate) {
    return folder
        .write(name, fmt::format(R"({{"backend": "{}", "model_id": "m", "request_rate": "inf",
          "duration": 3.0, "completed": 5, "failed": 0, "total_input_tokens": 9,
          "total_output_tokens": 8, "request_throughput": {}, "output_throughput": 2.5,
          "mean_ttft_ms": 7.0}})",
                                 backend, rate))
        .string();
  };
  const auto llama = [&](const std::string& name, const std::string& samples) {
    return folder
        .write(name, fmt::format(R"([{{"model_filename": "a.gguf", "gpu_info": "H100",
          "n_prompt": 512, "n_gen": 0, "avg_ts": 10.0, "samples_ts": {}}}])",
                                 samples))
        .string();
  };
  const RunResult one = run_compare({vllm("a.json", 8), vllm("b.json", 4)});
  CHECK(one.exit_code == 0);
  CHECK(contains(one.out, "0.5"));
  const RunResult serve = run_compare(
      {serving("c.json", "vllm", 2), serving("d.json", "sglang-oai", 3), "--output", "json"});
  CHECK(contains(serve.out, "1.5"));
  const RunResult bench = run_compare({llama("e.json", "[10, 10.1, 9.9]"),
                                       llama("f.json", "[8, 8.1, 7.9]"), "--fail-below", "0.97"});
  CHECK(bench.exit_code == 1);
  CHECK(contains(bench.out, "pp512"));
  // Offline against llama-bench: nothing in common.
  CHECK(run_compare({vllm("a.json", 8), llama("f.json", "[8, 8.1]")}).exit_code == 3);
}

TEST_CASE("compare reads what throughput and serve-bench write") {
  const TemporaryFolder folder;
  const std::vector<std::string> model = {"--model",
                                          LLMRUN_SOURCE_DIR "/datasets/demo/model",
                                          "--device",
                                          "cpu",
                                          "--num-prompts",
                                          "4",
                                          "--input-len",
                                          "8",
                                          "--output-len",
                                          "4",
                                          "-q"};
  const auto run = [&](const char* command, const std::string& name,
                       const std::vector<std::string>& more) {
    const std::string path = (folder.path() / name).string();
    std::vector<std::string> arguments = {LLMRUN_BINARY_DIR "/llmrun", command};
    arguments.insert(arguments.end(), model.begin(), model.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.insert(arguments.end(), {"--output-json", path});
    run_command(arguments);
    return path;
  };
  const std::string offline = run("throughput", "t.json", {"--backend", "paged", "-r", "2"});
  const RunResult same = run_compare({offline, offline, "--fail-below", "0.97"});
  CHECK(same.exit_code == 0);
  CHECK(contains(same.out, "no difference"));
  const std::string online = run("serve-bench", "s.json", {"--skip-overhead"});
  const RunResult served = run_compare({online, online});
  CHECK(served.exit_code == 0);
  CHECK(run_compare({offline, online}).exit_code == 3);
}

}  // namespace llmrun
