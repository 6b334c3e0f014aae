// `llmrun generate` as a user meets it: the built program, its files and its exit codes.
#include <cmath>
#include <set>

#include "tests/e2e/generate_fixture.h"

namespace llmrun {
namespace {

using testing::by_id;
using testing::Flags;
using testing::lasting_part;
using testing::make_rows;
using testing::parse_lines;
using testing::read_all;
using testing::run_command;
using testing::run_generate;
using testing::RunResult;
using testing::TemporaryFolder;

const std::string kDemo = LLMRUN_SOURCE_DIR "/datasets/demo/";

// --- input formats ---

TEST_CASE("the shipped prompts are answered with sense, in their order") {
  const RunResult result =
      run_command({LLMRUN_BINARY_DIR "/llmrun", "generate", kDemo + "prompts.jsonl"});
  CHECK(result.exit_code == 0);
  const auto rows = parse_lines(read_all(kDemo + "prompts.jsonl"));
  const auto records = parse_lines(result.out);
  REQUIRE(records.size() == rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(records[i].at("id") == rows[i].at("id"));
    CHECK(records[i].at("index") == i);
    CHECK(!records[i].at("outputs").at(0).at("text").get<std::string>().empty());
  }
  CHECK(records[0].at("outputs").at(0).at("text").get<std::string>().find("####") !=
        std::string::npos);
  CHECK(result.err.find("memory plan") != std::string::npos);
  CHECK(result.err.find("sampling:") != std::string::npos);
}

TEST_CASE("plain text, a prompt a line, from standard input") {
  const RunResult result = run_generate({"-", "--format", "text", "--max-tokens", "5"},
                                        "What is 2 + 3?\nHow do you spell stork?\nlast");
  CHECK(result.exit_code == 0);
  const auto records = parse_lines(result.out);
  REQUIRE(records.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(records[i].at("index") == i);
    CHECK(records[i].at("usage").at("completion_tokens") <= 5);
  }
}

TEST_CASE("ShareGPT conversations") {
  const RunResult result =
      run_generate({kDemo + "sharegpt.json", "--format", "sharegpt", "--max-tokens", "3"});
  CHECK(result.exit_code == 0);
  const auto conversations = nlohmann::json::parse(read_all(kDemo + "sharegpt.json"));
  CHECK(by_id(result.out).size() == conversations.size());
}

TEST_CASE("an OpenAI batch is answered in its envelopes") {
  const std::string input =
      R"({"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m",)"
      R"("messages":[{"role":"user","content":"What is 2 + 3?"}],"max_tokens":8}})"
      "\n"
      R"({"custom_id":"b","method":"POST","url":"/v1/completions","body":{"model":"m",)"
      R"("prompt":"Once there was","max_tokens":4}})"
      "\n"
      R"({"custom_id":"c","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"x",)"
      R"("max_tokens":-4}})"
      "\n";
  const RunResult result = run_generate({"-", "--format", "openai-batch"}, input);
  CHECK(result.exit_code == 1);
  const auto records = parse_lines(result.out);
  REQUIRE(records.size() == 3);
  CHECK(records[0].at("custom_id") == "a");
  const auto& chat = records[0].at("response").at("body");
  CHECK(chat.at("choices").at(0).at("message").at("role") == "assistant");
  CHECK(chat.at("usage").at("completion_tokens") <= 8);
  CHECK(records[1].at("custom_id") == "b");
  CHECK(records[1].at("response").at("status_code") == 200);
  CHECK(records[1].at("response").at("body").at("usage").at("completion_tokens") == 4);
  CHECK(records[2].at("custom_id") == "c");
  CHECK(!records[2].at("error").is_null());
}

TEST_CASE("what a row says about token ids and log-probabilities") {
  const std::string input =
      R"({"id":"ids","prompt":"Once","max_tokens":3,"return_token_ids":true})"
      "\n"
      R"({"id":"all","prompt":"Once","max_tokens":2,"logprobs":-1})"
      "\n"
      R"({"id":"beams","prompt":"Once","max_tokens":3,"n":2,"use_beam_search":true,"logprobs":6})"
      "\n"
      R"({"id":"echo","prompt":"Once","max_tokens":3,"echo":true})"
      "\n";
  for (const bool has_cap : {true, false}) {
    std::vector<std::string> arguments = {"-"};
    if (!has_cap) arguments = {"-", "--max-logprobs", "-1"};
    const RunResult result = run_generate(arguments, input);
    CHECK(result.exit_code == 1);
    const auto records = parse_lines(result.out);
    REQUIRE(records.size() == 4);
    CHECK(records[0].at("prompt_token_ids").size() > 0);
    CHECK(records[0].at("outputs").at(0).at("token_ids").size() == 3);
    if (has_cap) {
      CHECK(testing::contains(records[1].at("error").at("message"), "raise --max-logprobs"));
    } else {
      const auto& rated = records[1].at("outputs").at(0).at("logprobs").at(0);
      double sum = 0;
      for (const auto& entry : rated.at("top_logprobs")) {
        sum += std::exp(entry.at("logprob").get<double>());
      }
      CHECK(std::abs(sum - 1) < 1e-4);
      CHECK_FALSE(records[1].contains("prompt_token_ids"));
    }
    REQUIRE(records[2].at("outputs").size() == 2);
    for (const auto& beam : records[2].at("outputs")) {
      for (const auto& token : beam.at("logprobs")) CHECK(token.at("top_logprobs").size() == 6);
    }
    CHECK(records[3].at("error").at("message") == "echo: true is not supported");
  }
  const RunResult result = run_generate(
      {"-", "--return-token-ids"}, R"({"prompt":"Once","max_tokens":3,"return_token_ids":false})");
  CHECK(result.exit_code == 0);
  CHECK_FALSE(testing::contains(result.out, "token_ids"));
}

TEST_CASE("flags of biases and allowed tokens decide what is generated") {
  const auto ids = [](const std::vector<std::string>& flags) {
    std::vector<std::string> arguments = {
        "-", "--format", "text", "--return-token-ids", "--max-tokens", "4", "--ignore-eos"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const RunResult result = run_generate(arguments, "Once");
    CHECK(result.exit_code == 0);
    return parse_lines(result.out).at(0).at("outputs").at(0).at("token_ids").dump();
  };
  CHECK(ids({"--allowed-token-ids", "50"}) == "[50,50,50,50]");
  CHECK(ids({"--logit-bias", "60:100"}) == "[60,60,60,60]");
  CHECK(ids({"--allowed-token-ids", "50,60", "--logit-bias", "50:-100"}) == "[60,60,60,60]");
}

TEST_CASE("one bad line is one error record with its place, and the others run") {
  const std::string input =
      "{\"id\": \"one\", \"prompt\": \"Hi\", \"max_tokens\": 2}\n"
      "{\"id\": \"two\", \"prompt\": \"Hi\n"
      "\n"
      "{\"id\": \"four\", \"max_tokens\": 2}\n"
      "{\"id\": \"five\", \"prompt_token_ids\": [1, 99999], \"max_tokens\": 2}\n"
      "{\"id\": \"six\", \"prompt_token_ids\": [], \"max_tokens\": 2}\n"
      "{\"id\": \"seven\", \"prompt\": \"Hi\", \"max_tokens\": \"two\"}\n"
      "{\"id\": \"eight\", \"prompt\": \"Hi\", \"max_tokens\": 2}\n";
  const TemporaryFolder folder;
  const std::string path = folder.write("in.jsonl", input);
  const RunResult result = run_generate({path});
  CHECK(result.exit_code == 1);
  const auto records = parse_lines(result.out);
  REQUIRE(records.size() == 7);
  CHECK(records.front().at("outputs").size() == 1);
  CHECK(records.back().at("outputs").size() == 1);
  CHECK(records.back().at("id") == "eight");
  for (std::size_t i = 1; i + 1 < records.size(); ++i) {
    const auto& error = records[i].at("error");
    CHECK(error.at("file") == path);
    CHECK(error.at("line") == (i == 1 ? 2 : i + 2));
    CHECK(!error.at("message").get<std::string>().empty());
    CHECK(!records[i].contains("outputs"));
  }
  CHECK(records[3].at("error").at("message").get<std::string>().find("99999") != std::string::npos);
}

// --- one answer, however it is computed ---

TEST_CASE("every way of scheduling gives the same records") {
  const std::string rows = make_rows(24, 12);
  const std::vector<Flags> ways = {
      {},
      {"--order", "completion"},
      {"--backend", "naive"},
      {"--scheduler", "static"},
      {"--kv-layout", "contiguous", "--no-enable-prefix-caching"},
      {"--no-enable-prefix-caching"},
      {"--no-enable-chunked-prefill"},
      {"--max-num-seqs", "1"},
      {"--max-num-seqs", "3", "--max-num-batched-tokens", "7"},
      {"--block-size", "1"},
      {"--block-size", "64"},
      {"--steps-ahead", "1"},
      {"--threads", "1"},
      {"--max-inflight", "2"},
      {"--num-kv-blocks-override", "12", "--max-num-seqs", "8"},
  };
  std::set<std::string> answers;
  for (const Flags& dtype : testing::exact_dtypes()) {
    CAPTURE(fmt::format("{}", fmt::join(dtype, " ")));
    const RunResult first = run_generate({"-", "--return-token-ids"}, rows, dtype);
    CHECK(first.exit_code == 1);
    const auto expected = by_id(first.out);
    REQUIRE(expected.size() == 24);
    answers.insert(expected.at("row-4"));
    for (Flags arguments : ways) {
      CAPTURE(fmt::format("{}", fmt::join(arguments, " ")));
      arguments.insert(arguments.end(), {"-", "--return-token-ids"});
      const RunResult result = run_generate(arguments, rows, dtype);
      CHECK(result.exit_code == 1);
      CHECK(by_id(result.out) == expected);
    }
  }
  CHECK(answers.size() >= 2);  // log-probabilities tell float32 from bfloat16
  // The pool of the last way was too small for all.
  const RunResult squeezed = run_generate(
      {"-", "--num-kv-blocks-override", "12", "--max-num-seqs", "8", "--block-size", "8"},
      make_rows(24, 40));
  CHECK(squeezed.err.find(" 0 preemptions") == std::string::npos);
  CHECK(squeezed.err.find(" preemptions") != std::string::npos);
}

TEST_CASE("the run's seed decides sampled rows, and nothing else") {
  const std::string rows = make_rows(8, 8);
  const auto first = by_id(run_generate({"-", "--seed", "1"}, rows).out);
  const auto again = by_id(run_generate({"-", "--seed", "1"}, rows).out);
  const auto other = by_id(run_generate({"-", "--seed", "2"}, rows).out);
  CHECK(first == again);
  const auto text = [](const std::string& record) {
    return nlohmann::json::parse(record).at("outputs").at(0).at("text").get<std::string>();
  };
  CHECK(text(first.at("row-0")) == text(other.at("row-0")));  // greedy
  CHECK(text(first.at("row-3")) == text(other.at("row-3")));  // its own seed
  CHECK(text(first.at("row-5")) != text(other.at("row-5")));  // sampled
}

TEST_CASE("answers in a file are those on standard output, in the order asked for") {
  const TemporaryFolder folder;
  const std::string rows = make_rows(16, 6);
  const std::string expected = run_generate({"-"}, rows).out;
  for (const char* order : {"input", "completion"}) {
    const std::string path = (folder.path() / order).string();
    CHECK(run_generate({"-", "-o", path, "--order", order}, rows).exit_code == 1);
    CHECK(by_id(read_all(path)) == by_id(expected));
  }
  const auto records = parse_lines(read_all(folder.path() / "input"));
  for (std::size_t i = 0; i < records.size(); ++i) CHECK(records[i].at("index") == i);
}

// --- exit codes: reliability.md, 5.4 ---

TEST_CASE("exit codes tell what was wrong, and one line on standard error says it") {
  const TemporaryFolder folder;
  const std::string prompts = folder.write("in.jsonl", R"({"prompt": "Hi", "max_tokens": 1})");
  const std::string folder_text = folder.path().string();
  folder.write("broken/config.json", "{\"architectures\": [\"NoSuchModel\"]}");
  const auto check = [&](int exit_code, const std::vector<std::string>& arguments,
                         const std::string& words) {
    CAPTURE(fmt::format("{}", fmt::join(arguments, " ")));
    std::vector<std::string> command = {LLMRUN_BINARY_DIR "/llmrun", "generate"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    const RunResult result = run_command(command);
    CHECK(result.exit_code == exit_code);
    CHECK(result.out.empty());
    CAPTURE(result.err);
    CHECK(result.err.find("llmrun: error: ") != std::string::npos);
    CHECK(result.err.find(words) != std::string::npos);
  };
  check(2, {prompts, "--no-such-flag"}, "--no-such-flag");
  check(2, {prompts, "--foo", "1", "--bar"}, "not expected: --foo 1 --bar");
  check(2, {prompts, "--block-size", "0"}, "--block-size");
  check(2, {prompts, "--temperature", "-3"}, "temperature");
  check(2, {prompts, "--max-model-len", "99999"}, "1024");
  check(2, {prompts, "--kv-layout", "contiguous", "--enable-prefix-caching"},
        "--no-enable-prefix-caching");
  check(2, {prompts, "--device", "cuda"}, "--device cpu");
  check(2, {}, "input");
  check(3, {folder_text + "/nowhere.jsonl"}, "nowhere.jsonl");
  check(3, {folder_text}, folder_text);
  // Told before the model is looked at, and without an output.
  const std::string weights = LLMRUN_SOURCE_DIR "/datasets/demo/model/model.safetensors";
  const std::string out = folder_text + "/out.jsonl";
  check(3, {weights, "--model", folder_text + "/broken", "-o", out},
        "model.safetensors: is a binary file");
  CHECK(!std::filesystem::exists(out));
  check(4, {prompts, "--model", folder_text + "/broken"}, "NoSuchModel");
  check(4, {prompts, "--model", folder_text}, "config.json");
  check(5, {prompts, "--kv-cache-memory-bytes", "64K"}, "--max-model-len");
  check(7, {prompts, "-o", "/dev/full"}, "/dev/full");
  CHECK(run_generate({prompts}).exit_code == 0);
  const RunResult piped = run_command(
      {LLMRUN_BINARY_DIR "/llmrun", "generate", "-", "--model", folder_text + "/broken"},
      read_all(weights));
  CHECK(piped.exit_code == 3);
  CHECK(piped.err.find("<stdin>: is a binary file") != std::string::npos);

  const auto error_of = [](const std::vector<std::string>& arguments) {
    std::vector<std::string> command = {LLMRUN_BINARY_DIR "/llmrun"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run_command(command).err;
  };
  CHECK(
      error_of({"generat", "--top-k", "1"}).find("no command 'generat'; did you mean generate?") !=
      std::string::npos);
  CHECK(error_of({"--top-k", "1", "--seed", "2"})
            .find("not expected before a command: --top-k 1 --seed 2") != std::string::npos);
}

TEST_CASE("a run ends when nobody reads its answers any more") {
  for (const char* line : {"y", "{\\\"prompt_token_ids\\\":[1,5],\\\"max_tokens\\\":2}"}) {
    const std::string pipeline =
        fmt::format("yes \"{}\" | {}/llmrun generate - -q --format jsonl --model {}model | head -1",
                    line, LLMRUN_BINARY_DIR, kDemo);
    const RunResult result = run_command({"/usr/bin/timeout", "60", "/bin/sh", "-c", pipeline});
    CHECK(result.exit_code == 0);
    CHECK(parse_lines(result.out).size() == 1);
  }
}

TEST_CASE("standard streams that are closed or full are no crash, and end up in no file") {
  const TemporaryFolder folder;
  const std::string prompts =
      folder.write("in.jsonl", R"({"id":"x","prompt":"Hi","max_tokens":1})");
  const std::string out = folder.path() / "out.jsonl";
  const auto exit_code_of = [&](const std::string& arguments) {
    const std::string line = fmt::format("exec {}/llmrun {}", LLMRUN_BINARY_DIR, arguments);
    return run_command({"/usr/bin/timeout", "60", "/bin/sh", "-c", line}).exit_code;
  };
  const std::string generate = fmt::format("generate --model {}model {}", kDemo, prompts);
  CHECK(exit_code_of(fmt::format("{} -o {} <&- >&- 2>&-", generate, out)) == 0);
  CHECK(by_id(read_all(out)).size() == 1);
  CHECK(exit_code_of(generate + " >&- 2>&-") == 7);
  CHECK(exit_code_of(generate + " 2>/dev/full") == 0);
  CHECK(exit_code_of("generate nosuch.jsonl 2>/dev/full") == 3);
  CHECK(exit_code_of(fmt::format("generate - --model {}model <&-", kDemo)) == 3);
  CHECK(exit_code_of("nosuch 2>&-") == 2);
  CHECK(exit_code_of("nosuch 2>/dev/full") == 2);
  CHECK(exit_code_of("--help >/dev/full") == 7);
  CHECK(exit_code_of("generate --help >/dev/full") == 7);
  CHECK(exit_code_of(fmt::format("info --model {}model >/dev/full", kDemo)) == 7);
  CHECK(exit_code_of(fmt::format("info --model {}model >&-", kDemo)) == 7);
}

TEST_CASE("an existing output is never overwritten by mistake, nor the input") {
  const TemporaryFolder folder;
  const std::string prompts =
      folder.write("in.jsonl", R"({"id":"x","prompt":"Hi","max_tokens":1})");
  const std::string out = folder.write("out.jsonl", "precious\n");
  CHECK(run_generate({prompts, "-o", out}).exit_code != 0);
  CHECK(read_all(out) == "precious\n");
  CHECK(run_generate({prompts, "-o", prompts, "--overwrite"}).exit_code != 0);
  CHECK(read_all(prompts).starts_with("{\"id\""));
  CHECK(run_generate({prompts, "-o", out, "--overwrite"}).exit_code == 0);
  CHECK(by_id(read_all(out)).size() == 1);
}

TEST_CASE("the command line ranks above the environment, that above the configuration file") {
  const TemporaryFolder folder;
  const std::string prompts = folder.write("in.jsonl", R"({"prompt":"Once upon a time"})");
  const std::string config = folder.write("run.toml", "[generate]\nmax-tokens = 5\n");
  const auto num_tokens = [&](const std::vector<std::string>& more,
                              const std::string& environment) {
    std::vector<std::string> command = {"/usr/bin/env"};
    if (!environment.empty()) command.push_back(environment);
    const std::vector<std::string> generate =
        testing::generate_command({prompts, "--config", config});
    command.insert(command.end(), generate.begin(), generate.end());
    command.insert(command.end(), more.begin(), more.end());
    const RunResult result = run_command(command);
    REQUIRE(result.exit_code == 0);
    return parse_lines(result.out)[0]["usage"]["completion_tokens"].get<int>();
  };
  CHECK(num_tokens({}, "") == 5);
  CHECK(num_tokens({}, "LLMRUN_MAX_TOKENS=3") == 3);
  CHECK(num_tokens({"--max-tokens", "2"}, "LLMRUN_MAX_TOKENS=3") == 2);
}

TEST_CASE("messages about the environment and a configuration file say where to mend them") {
  const TemporaryFolder folder;
  const std::string prompts = folder.write("in.jsonl", R"({"prompt":"Once upon a time"})");
  const auto error_of = [&](const std::string& text) {
    const RunResult result =
        run_generate({prompts, "--config", folder.write("run.toml", text), "--max-tokens", "1"});
    CHECK(result.exit_code == 2);
    return result.err;
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(contains(error_of("[eval]\nmax-tokns = 1\n\n[generate]\nseed = 1\n"),
                 "run.toml:2: 'max-tokns' is no flag of eval; did you mean max-tokens?"));
  CHECK(contains(error_of("# mine\nseed = 5\n"), "run.toml:2: 'seed' stands in no section"));
  CHECK(contains(error_of("[genrate]\nseed = 5\n"), "[genrate] is no command; did you mean "));
  const std::string wrong = error_of("[generate]\ntop-k = many\n");
  CHECK(contains(wrong, "top_k: "));
  CHECK(contains(wrong, "run.toml)"));

  std::vector<std::string> command = {"/usr/bin/env", "LLMRUN_SEDE=1", "LLMRUN_TOP_K=many"};
  for (const std::string& part : testing::generate_command({prompts})) command.push_back(part);
  const RunResult result = run_command(command);
  CHECK(result.exit_code == 2);
  CHECK(contains(result.err, "LLMRUN_SEDE is no flag's variable"));
  CHECK(contains(result.err, "did you mean LLMRUN_SEED?"));
  CHECK(contains(result.err, "(from LLMRUN_TOP_K)"));
}

TEST_CASE("a variable means its flag of the command that runs, whatever others make of it") {
  const TemporaryFolder folder;
  const std::string prompts = folder.write("in.jsonl", R"({"prompt":"Once upon a time"})");
  const std::string config = folder.write("run.toml", "[generate]\nmax-tokens = 2\n");
  const std::string out = folder.path() / "out.jsonl";
  std::vector<std::string> command = {"/usr/bin/env", "LLMRUN_OUTPUT=" + out, "LLMRUN_PORT=none",
                                      "LLMRUN_TOP_K=-1", "LLMRUN_CONFIG=" + config};
  for (const std::string& part : testing::generate_command({prompts})) command.push_back(part);
  const RunResult result = run_command(command);
  CHECK_MESSAGE(result.exit_code == 0, result.err);
  CHECK(parse_lines(read_all(out))[0]["usage"]["completion_tokens"] == 2);
}

TEST_CASE("numbers that are none are refused") {
  for (const std::vector<std::string>& flag : {std::vector<std::string>{"--seed", "-1"},
                                               {"--seed", "18446744073709551616"},
                                               {"--drain-timeout", "nan"},
                                               {"--stall-timeout", "nan"}}) {
    CAPTURE(flag[1]);
    const RunResult result = run_generate({"-", flag[0], flag[1]});
    CHECK(result.exit_code == 2);
    CHECK(result.err.find(flag[0] + ": expected ") != std::string::npos);
  }
}

}  // namespace
}  // namespace llmrun
