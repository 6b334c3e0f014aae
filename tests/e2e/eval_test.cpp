// `llmrun eval` as a user meets it: the built program on problems of the demo set.
#include <csignal>

#include "tests/e2e/generate_fixture.h"
#include "tests/e2e/served_model.h"

namespace llmrun {
namespace {

using testing::ChildProcess;
using testing::parse_lines;
using testing::read_all;
using testing::run_command;
using testing::RunResult;
using testing::ServedModel;
using testing::TemporaryFolder;

std::vector<std::string> eval_command(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {LLMRUN_BINARY_DIR "/llmrun",
                                      "eval",
                                      LLMRUN_SOURCE_DIR "/datasets/demo/test.jsonl",
                                      "--model",
                                      LLMRUN_SOURCE_DIR "/datasets/demo/model",
                                      "--dtype",
                                      "float32"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

RunResult run_eval(const std::vector<std::string>& arguments) {
  return run_command(eval_command(arguments));
}

nlohmann::json json_of(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"-q", "--output", "json"});
  const RunResult result = run_eval(arguments);
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
  return nlohmann::json::parse(result.out);
}

}  // namespace

TEST_CASE("eval, paged against naive: the table, equal texts in float32") {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "report.json").string();
  const RunResult result = run_eval(
      {"--limit", "6", "--backend", "paged,naive", "--group-by", "kind", "--output-json", path});
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("strict-match") != std::string::npos);
  CHECK(result.out.find("minutes:seconds") != std::string::npos);
  CHECK(result.out.find(" x naive") != std::string::npos);
  const auto json = nlohmann::json::parse(read_all(path));
  REQUIRE(json.at("cases").size() == 2);
  CHECK(json.at("cases")[0].at("scores") == json.at("cases")[1].at("scores"));
  CHECK(json.at("comparisons")[0].at("num_equal_texts") == 6);
  CHECK(json.at("results").at("test").contains("exact_match_stderr,strict-match"));
  CHECK(json.at("cases")[0].at("groups").contains("long_ledger"));
}

TEST_CASE("eval of an engine that plans one step ahead") {
  const nlohmann::json report =
      json_of({"--limit", "6", "--backend", "paged", "--steps-ahead", "1"});
  CHECK(report["cases"][0]["num_samples"] == 6);
}

TEST_CASE("eval with repetitions: k up to N, and an early stop that asks less and votes the same") {
  const std::vector<std::string> base = {"--limit",       "6", "--repetitions", "5",
                                         "--temperature", "1"};
  const auto all = json_of(base);
  const auto& repeated = all.at("cases")[0].at("repeated");
  REQUIRE(repeated.size() == 5);
  CHECK(repeated[0].at("pass") == repeated[0].at("majority"));
  CHECK(repeated[4].at("pass").at("mean") >= repeated[0].at("pass").at("mean"));
  CHECK(repeated[4].at("majority") == all.at("cases")[0].at("maj@5"));
  CHECK(all.at("cases")[0].at("warm_up").at("requests") == 6 * 5);

  std::vector<std::string> early = base;
  early.emplace_back("--early-stop");
  const auto stopped = json_of(early);
  CHECK(stopped.at("cases")[0].at("num_left_out_by_early_stop") > 0);
  CHECK(stopped.at("cases")[0].at("maj@5") == all.at("cases")[0].at("maj@5"));
}

TEST_CASE("an evaluation that was killed is gone on with, and ends as an uninterrupted one") {
  const TemporaryFolder folder;
  const std::string whole = (folder.path() / "whole.jsonl").string();
  const std::string killed = (folder.path() / "killed.jsonl").string();
  const std::vector<std::string> base = {"--limit", "10",       "--max-num-seqs", "2",
                                         "-q",      "--output", "jsonl",          "--samples"};
  const auto with = [&](const std::string& path, const char* more) {
    std::vector<std::string> arguments = base;
    arguments.push_back(path);
    if (*more != '\0') arguments.emplace_back(more);
    return arguments;
  };
  const RunResult expected = run_eval(with(whole, ""));
  CHECK(expected.exit_code == 0);

  ChildProcess child(eval_command(with(killed, "")), folder.path());
  while (read_all(killed).find('\n') == std::string::npos && !child.has_ended()) {
  }
  child.signal(SIGKILL);
  child.wait();
  CHECK(run_eval(with(killed, "")).exit_code == 2);  // it exists
  const RunResult resumed = run_eval(with(killed, "--resume"));
  CHECK(resumed.exit_code == 0);
  const auto scores = [](const RunResult& result) {
    return parse_lines(result.out).at(0).at("case").at("scores").dump();
  };
  CHECK(scores(resumed) == scores(expected));
  const auto texts = [](const std::string& path) {
    std::map<std::string, std::string> found;
    for (const auto& record : parse_lines(read_all(path))) {
      CHECK(found.emplace(record.at("id"), record.at("outputs").dump()).second);
    }
    return found;
  };
  CHECK(texts(killed) == texts(whole));
  CHECK(texts(killed).size() == 10);

  std::vector<std::string> other = with(killed, "--resume");
  other.insert(other.end(), {"--prompt", "plain"});
  CHECK(run_eval(other).exit_code == 3);
}

TEST_CASE("a sweep names the knee; what cannot be evaluated is told") {
  const auto json = json_of({"--limit", "4", "--max-num-seqs", "1,2"});
  REQUIRE(json.at("cases").size() == 2);
  CHECK(json.at("cases")[1].at("name") == "paged@2");
  CHECK(json.at("knees").size() == 1);

  CHECK(run_eval({"--repetitions", "4"}).exit_code == 2);
  CHECK(run_eval({"--num-fewshot", "2"}).exit_code == 2);
  CHECK(run_eval({"--max-num-seqs", "1,x"}).exit_code == 2);
  CHECK(run_eval({"--prompt", "unknown"}).exit_code == 2);
  const RunResult no_group = run_eval({"--limit", "4", "--group-by", "nosuch"});
  CHECK(no_group.exit_code == 2);
  CHECK(no_group.err.find("has a field \"nosuch\"") != std::string::npos);
  CHECK(run_eval(
            {"--num-fewshot", "1", "--fewshot-file", LLMRUN_SOURCE_DIR "/datasets/demo/test.jsonl"})
            .exit_code == 3);
  const TemporaryFolder folder;
  const auto bad = folder.write("bad.jsonl", "{\"question\": \"?\", \"answer\": \"four\"}\n");
  const RunResult result = run_command({LLMRUN_BINARY_DIR "/llmrun", "eval", bad.string()});
  CHECK(result.exit_code == 3);
  CHECK(result.err.find("bad.jsonl:1: answer") != std::string::npos);
}

TEST_CASE("an evaluation stopped by a signal: what is answered is reported, and gone on with") {
  for (const int number : {SIGINT, SIGTERM}) {
    const TemporaryFolder folder;
    const std::string samples = (folder.path() / "samples.jsonl").string();
    // Few at a time, so that most are not begun when the first is answered.
    const std::vector<std::string> base = {"--limit",  "20",    "--max-num-seqs", "1",    "-q",
                                           "--output", "jsonl", "--samples",      samples};
    ChildProcess child(eval_command(base), folder.path());
    while (read_all(samples).find('\n') == std::string::npos && !child.has_ended()) {
    }
    child.signal(number);
    CHECK(child.wait() == 128 + number);
    const auto report = parse_lines(child.standard_output()).at(0);
    CHECK(report.at("valid") == false);
    CHECK(report.at("case").at("partial") == true);
    const auto num_answered = report.at("case").at("num_questions").get<std::size_t>();
    CHECK(num_answered > 0);
    CHECK(num_answered < 20);
    CHECK(parse_lines(read_all(samples)).size() == num_answered);
    CHECK(child.standard_error().find("--resume") != std::string::npos);

    std::vector<std::string> again = base;
    again.emplace_back("--resume");
    const RunResult resumed = run_eval(again);
    CHECK(resumed.exit_code == 0);
    const auto whole = parse_lines(resumed.out).at(0);
    CHECK(whole.at("valid") == true);
    CHECK(whole.at("case").at("num_questions") == 20);
    CHECK(whole.at("case").at("num_resumed") == num_answered);
    CHECK(parse_lines(read_all(samples)).size() == 20);
  }
}

TEST_CASE("an evaluation stopped without a file of samples tells what it has") {
  const TemporaryFolder folder;
  ChildProcess child(eval_command({"--max-num-seqs", "1", "--color", "never"}), folder.path());
  while (child.standard_error().find(" done") == std::string::npos &&
         child.standard_error().find("paged:") == std::string::npos && !child.has_ended()) {
  }
  std::this_thread::sleep_for(std::chrono::seconds(3));
  child.signal(SIGINT);
  CHECK(child.wait() == 130);
  // On a machine that is busy enough nothing is answered by then, which is told, too.
  const bool has_report = child.standard_output().find(
                              "INVALID: a signal stopped the run; paged: ") != std::string::npos;
  const bool has_nothing =
      child.standard_error().find("stopped before a question was answered") != std::string::npos;
  CHECK(has_report != has_nothing);
}

TEST_CASE("a server's row beside the engine's: the same texts, and no engine where only it is") {
  const TemporaryFolder folder;
  const ServedModel server(folder, {});
  const std::vector<std::string> base = {"--limit",    "6",          "-q",
                                         "--base-url", server.url(), "--served-model-name",
                                         "demo",       "--output",   "json"};
  std::vector<std::string> both = base;
  both.insert(both.end(), {"--backend", "paged", "--repetitions", "3", "--temperature", "0.8"});
  const RunResult result = run_eval(both);
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  const auto report = nlohmann::json::parse(result.out);
  REQUIRE(report.at("cases").size() == 2);
  CHECK(report.at("cases")[0].at("name") == "paged");
  const std::string address = server.url().substr(server.url().find("//") + 2);
  CHECK(report.at("cases")[1].at("name") == address + " demo");
  CHECK(report.at("comparisons")[0].at("num_samples") == 18);
  CHECK(report.at("comparisons")[0].at("num_equal_texts") == 18);

  std::vector<std::string> chat = base;
  chat.insert(chat.end(), {"--apply-chat-template", "--max-concurrency", "1,4"});
  const RunResult swept = run_eval(chat);
  REQUIRE(swept.exit_code == 0);
  const auto sweep = nlohmann::json::parse(swept.out);
  REQUIRE(sweep.at("cases").size() == 2);
  CHECK(sweep.at("model").at("name") == "demo");
  CHECK(sweep.at("knees").size() == 1);
  CHECK(sweep.at("cases")[0].at("scores") == sweep.at("cases")[1].at("scores"));
  CHECK(run_eval({"--base-url", "http://127.0.0.1:1"}).exit_code == 3);
}

TEST_CASE("what failed is asked again by --retry-errors, and only that") {
  const TemporaryFolder folder;
  const std::string samples = (folder.path() / "samples.jsonl").string();
  const std::vector<std::string> base = {"--limit", "5",         "-q",    "--served-model-name",
                                         "demo",    "--retry",   "0",     "--output",
                                         "json",    "--samples", samples, "--base-url"};
  const auto with = [&](const std::string& url, std::vector<std::string> more) {
    std::vector<std::string> arguments = base;
    arguments.push_back(url);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_eval(arguments);
  };
  {
    // Its window is too short for the questions: each is refused.
    const TemporaryFolder first;
    const ServedModel server(first, {"--max-model-len", "16"});
    const RunResult failed = with(server.url(), {});
    CHECK(failed.exit_code == 1);
    const auto report = nlohmann::json::parse(failed.out);
    CHECK(report.at("cases")[0].at("num_failed") == 5);
    CHECK(read_all(samples).find("http_400") != std::string::npos);
  }
  const TemporaryFolder second;
  const ServedModel server(second, {});
  // Another address is no other run; without the flag errors stay.
  const RunResult kept = with(server.url(), {"--resume"});
  CHECK(kept.exit_code == 1);
  const RunResult retried = with(server.url(), {"--resume", "--retry-errors"});
  CAPTURE(retried.err);
  CHECK(retried.exit_code == 0);
  const auto report = nlohmann::json::parse(retried.out);
  CHECK(report.at("cases")[0].at("num_failed") == 0);
  CHECK(report.at("cases")[0].at("num_questions") == 5);
}

TEST_CASE("samples that fail are counted, and do not end the run") {
  const RunResult result =
      run_eval({"--limit", "6", "--max-model-len", "60", "-q", "--output", "jsonl"});
  CHECK(result.exit_code == 1);  // some prompts are longer
  const auto one = parse_lines(result.out).at(0).at("case");
  CHECK(one.at("num_failed") > 0);
  CHECK(one.at("num_failed") < 6);
  CHECK(one.at("num_samples") == 6);
}

}  // namespace llmrun
