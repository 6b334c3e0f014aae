#include "tools/compare/compare.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "tests/support/temporary_folder.h"
#include "tools/compare/compare_render.h"

namespace llmrun {
namespace {

using testing::TemporaryFolder;

// What `llmrun throughput --output json` writes, as far as compare reads it.
std::string report(const std::string& samples, const std::string& more = "",
                   const std::string& hash = "aa", const std::string& check = "OK") {
  return fmt::format(
      R"({{"schema_version": 1, "command": "throughput", "dataset": {{"requests_sha256": "{}"}},
      "model": {{"name": "shape:qwen2-7b", "dtype": "bfloat16"}},
      "device": {{"kind": "cuda", "description": "H100"}},
      "cases": [{{"name": "paged", "num_requests": 4, "num_prompt_tokens": 48,
        "num_output_tokens": 36, "metrics": [
        {{"name": "requests_per_s", "unit": "requests/s", "samples": {}}},
        {{"name": "elapsed_s", "unit": "s", "samples": [2, 2]}},
        {{"name": "energy_j", "unit": "J", "mean": null, "samples": []}}],
        "latencies": [{{"name": "ttft_ms", "unit": "ms", "mean": 5.0}}]}}],
      "checks": [{{"case": "paged", "name": "throttling", "status": "{}", "message": "hot"}}]{}}})",
      hash, samples, check, more);
}

std::vector<BenchmarkRun> runs_of(const std::string& text) {
  const TemporaryFolder folder;
  return read_benchmark_file(folder.write("result.json", text).string());
}

RunComparison compare_texts(const std::string& base, const std::string& changed,
                            const CompareRules& rules = {}) {
  const std::vector<RunComparison> results = compare_runs(runs_of(base), runs_of(changed), rules);
  REQUIRE(results.size() == 1);
  return results.front();
}

std::string error_of(const std::string& text) {
  try {
    runs_of(text);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kInput);
    return error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("verdicts by the interval of the repeats") {
  const std::string base = report("[10, 10.1, 9.9, 10]");
  CHECK(compare_texts(base, report("[12, 12.1, 11.9, 12]")).verdict == Verdict::kFaster);
  CHECK(compare_texts(base, report("[8, 8.1, 7.9, 8]")).verdict == Verdict::kSlower);
  CHECK(compare_texts(base, report("[10.02, 10.1, 9.9, 10]")).verdict == Verdict::kNoDifference);
  CHECK(compare_texts(base, report("[8]")).verdict == Verdict::kOneRun);
  CHECK(compare_texts(base, report("[12, 12.1, 11.9, 12]")).speed_ratio ==
        doctest::Approx(1.2).epsilon(0.001));
}

TEST_CASE("a drop fails when all of its interval is below the bound") {
  const CompareRules rules{
      .figures = {}, .is_paired = false, .ignores_device = false, .fail_below = 0.97};
  const std::string base = report("[10, 10.1, 9.9, 10]");
  const auto code = [&](const std::string& samples) {
    return compare_exit_code({compare_texts(base, report(samples), rules)}, true);
  };
  CHECK(code("[8.9, 9.1, 9.0, 9.0]") == 1);
  CHECK(code("[9.8, 9.9, 9.7, 9.8]") == 0);  // slower, but by less than 3 %
  CHECK(code("[7, 11, 9, 8]") == 0);         // may be noise
  CHECK(code("[5]") == 0);                   // nobody knows
  CHECK(compare_exit_code({compare_texts(base, report("[9, 9]", "", "bb"), rules)}, true) == 3);
}

TEST_CASE("times: less is better") {
  CompareRules rules;
  rules.figures = {"elapsed_s"};
  const std::string slow = report("[1, 1]");
  std::string fast = slow;
  fast.replace(fast.find("[2, 2]"), 6, "[1, 1]");
  const RunComparison result = compare_texts(slow, fast, rules);
  CHECK(result.speed_ratio == doctest::Approx(2));
  CHECK(result.verdict == Verdict::kFaster);
  rules.figures = {"ttft_ms"};
  CHECK(compare_texts(slow, fast, rules).verdict == Verdict::kOneRun);
  rules.figures = {"energy_j"};
  CHECK_THROWS_AS(compare_texts(slow, fast, rules), Error);  // a name that neither knows
}

TEST_CASE("what is not comparable says why") {
  const std::string base = report("[10, 10]");
  const auto reason = [&](std::string text, const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
    const RunComparison result = compare_texts(base, text);
    CHECK(result.verdict == Verdict::kNotComparable);
    return result.reason;
  };
  CHECK(contains(reason(base, "qwen2-7b", "llama3-8b"), "other model"));
  CHECK(contains(reason(base, "bfloat16", "float32"), "other dtype"));
  CHECK(contains(reason(base, "H100", "A100"), "other device"));
  CHECK(contains(reason(base, "\"aa\"", "\"bb\""), "other requests"));
  CHECK(compare_texts(base, report("[10, 10]", "", "aa", "INVALID")).reason ==
        "new is INVALID: throttling: hot");
  CompareRules rules;
  rules.ignores_device = true;
  std::string other = base;
  other.replace(other.find("H100"), 4, "A100");
  CHECK(compare_texts(base, other, rules).verdict == Verdict::kNoDifference);
}

TEST_CASE("repeats over lines of JSON, paired in their order") {
  const auto line = [](double rate) {
    return fmt::format(
        R"({{"schema_version":1,"command":"throughput","dataset":{{"requests_sha256":"aa"}},)"
        R"("case":{{"name":"paged","metrics":[{{"name":"requests_per_s","samples":[{}]}}]}}}})"
        "\n",
        rate);
  };
  std::string base, changed;
  for (int i = 0; i < 8; ++i) {
    base += line(10 + 5 * (i % 3));
    changed += line(0.9 * (10 + 5 * (i % 3)));
  }
  CompareRules rules;
  CHECK(compare_texts(base, changed, rules).verdict == Verdict::kNoDifference);
  rules.is_paired = true;
  const RunComparison result = compare_texts(base, changed, rules);
  CHECK(result.base_count == 8);
  CHECK(result.is_paired);
  CHECK(result.verdict == Verdict::kSlower);
  CHECK(result.interval->high == doctest::Approx(0.9));
  CHECK(contains(compare_texts(base, changed + line(1), rules).reason, "as many repeats"));
  // Fewer than an interval of pairs needs: compared by their means, and told.
  const RunComparison few =
      compare_texts(line(10) + line(15) + line(20), line(9) + line(13.5) + line(18), rules);
  CHECK_FALSE(few.is_paired);
  CHECK(few.verdict == Verdict::kNoDifference);
  CHECK(contains(few.reason, "3 pairs are too few for --paired"));
  CHECK(few.base_origin == "llmrun");
}

TEST_CASE("the results of other tools") {
  const auto vllm = runs_of(
      R"({"elapsed_time": 2.0, "num_requests": 4, "total_num_tokens": 84,
          "requests_per_second": 2.0, "tokens_per_second": 42.0})");
  REQUIRE(vllm.size() == 1);
  CHECK(vllm[0].tool == "vLLM");
  CHECK(vllm[0].find("requests_per_s")->samples == std::vector<double>{2.0});

  const auto serve = runs_of(
      R"({"backend": "vllm", "model_id": "Qwen/Qwen2-7B", "request_rate": "inf", "duration": 3.0,
          "completed": 5, "failed": 1, "total_input_tokens": 9, "total_output_tokens": 8,
          "request_throughput": 1.5, "output_throughput": 2.5, "mean_ttft_ms": 7.0})");
  CHECK(serve[0].workload.to_text() ==
        "serve, 5 requests, 9 prompt tokens, 8 output tokens, all at once");
  CHECK(!serve[0].find("ttft_ms")->higher_is_better);
  CHECK(serve[0].invalid.size() == 1);

  const auto sglang = runs_of(
      R"({"backend": "engine", "successful_requests": 3, "total_latency": 1.0,
          "total_input_tokens": 5, "total_output_tokens": 6, "request_throughput": 3.0,
          "output_throughput": 6.0})");
  CHECK(sglang[0].tool == "SGLang");

  const auto llama = runs_of(
      R"([{"model_filename": "/m/a.gguf", "gpu_info": "H100", "n_prompt": 512, "n_gen": 0,
           "avg_ts": 10.0, "samples_ts": [9.0, 11.0]},
          {"model_filename": "/m/a.gguf", "gpu_info": "H100", "n_prompt": 0, "n_gen": 128,
           "n_depth": 64, "avg_ts": 5.0, "samples_ts": [5.0, 5.0]}])");
  REQUIRE(llama.size() == 2);
  CHECK(llama[0].name == "pp512");
  CHECK(llama[1].name == "tg128 @ d64");
  const auto results = compare_runs(llama, llama, {});
  REQUIRE(results.size() == 2);
  CHECK(results[1].verdict == Verdict::kNoDifference);

  // vLLM's numbers against llmrun's: of equal numbers, though whether of equal requests is not
  // known.
  const RunComparison mixed =
      compare_texts(R"({"num_requests": 4, "requests_per_second": 8.0, "tokens_per_second": 1.0})",
                    report("[10, 10]"));
  CHECK(mixed.verdict == Verdict::kOneRun);
  CHECK(contains(mixed.reason, "not told"));
}

TEST_CASE("bad files are told by name, line and what is wrong") {
  CHECK(contains(error_of(""), "is empty"));
  CHECK(contains(error_of("[]"), "no runs"));
  CHECK(contains(error_of("{\"a\": 1"), "result.json"));
  CHECK(contains(error_of("{\"a\": 1}"), "no benchmark result"));
  CHECK(contains(error_of("[3]"), "[0]"));
  CHECK(contains(error_of("{\"requests_per_second\": 1}\n{\"a\"\n"), "result.json:2"));
  CHECK(contains(error_of("{\"requests_per_second\": \"x\"}"), "requests_per_second"));
  CHECK(contains(error_of(report("[1, \"x\"]")), "list of numbers"));
  CHECK(contains(error_of(R"({"schema_version": 9, "command": "throughput", "cases": []})"),
                 "newer"));
  CHECK(contains(error_of(R"({"n_prompt": 1, "n_gen": 0, "avg_ts": 1, "samples_ts": []})"),
                 "is empty"));
}

namespace {

// What `llmrun eval` writes, as far as compare reads it; `scores`: a list or "null".
std::string evaluation(const std::string& scores, double accuracy, const std::string& more = "",
                       const std::string& model = "demo", int num_failed = 0) {
  return fmt::format(
      R"({{"schema_version": 1, "command": "eval", "main_rule": "strict-match", "repetitions": 1,
      "model": {{"name": "{}", "dtype": "bfloat16"}}, "device": {{"description": "a CPU"}},
      "dataset": {{"task": "test", "sha256": "aa", "num_questions": 100}},
      "prompt": {{"style": "lm-eval", "chat": false, "num_fewshot": 0}},
      "sampling": {{"temperature": 0.0}},
      "cases": [{{"name": "paged", "num_questions": 100, "num_failed": {},
        "questions_per_s": 5.0, "scores": {{"strict-match": {{"mean": {}}}}},
        "question_scores": {}}}]{}}})",
      model, num_failed, accuracy, scores, more);
}

std::string question_scores(int num_right) {
  std::string text = "[";
  for (int i = 0; i < 100; ++i)
    text += fmt::format("{}{}", i > 0 ? "," : "", i < num_right ? 1 : 0);
  return text + "]";
}

}  // namespace

TEST_CASE("evaluations: the difference of accuracies, in pairs where questions are told") {
  const std::string base = evaluation(question_scores(80), 0.80);
  const CompareRules rules{.figures = {}, .fail_below = 0.97};
  const auto compare = [&](const std::string& changed) {
    return compare_runs(runs_of(base), runs_of(changed), rules);
  };
  const std::vector<RunComparison> worse = compare(evaluation(question_scores(70), 0.70));
  REQUIRE(worse.size() == 2);
  CHECK(worse[0].figure == "accuracy");
  CHECK(worse[0].is_paired);
  CHECK(worse[0].verdict == Verdict::kWorse);
  CHECK(worse[0].difference->difference == doctest::Approx(-0.1));
  CHECK(worse[0].base_mean == doctest::Approx(80));
  CHECK(worse[0].fails);
  CHECK(worse[1].figure == "questions_per_s");
  CHECK(worse[1].verdict == Verdict::kOneRun);
  CHECK(compare_exit_code(worse, true) == 1);

  // The same two shares, without the questions: the interval is wider.
  const std::vector<RunComparison> shares = compare(evaluation("null", 0.70));
  CHECK(!shares[0].is_paired);
  CHECK(shares[0].verdict == Verdict::kNoDifference);
  CHECK(!shares[0].fails);

  const std::vector<RunComparison> same = compare(base);
  CHECK(same[0].verdict == Verdict::kNoDifference);
  CHECK(compare_exit_code(same, true) == 0);
  // A drop that is real, but perhaps of less than 3 %.
  const std::vector<RunComparison> slight = compare(evaluation(question_scores(75), 0.75));
  CHECK(slight[0].verdict == Verdict::kWorse);
  CHECK(!slight[0].fails);
  CHECK(compare(evaluation(question_scores(95), 0.95))[0].verdict == Verdict::kBetter);

  CHECK(contains(render_comparison_text(worse, 0.97), "worse (-10.0 points), FAILS"));
  CHECK(render_comparison_json(worse, 0.97).at("comparisons")[0].at("difference") ==
        doctest::Approx(-0.1));
  CHECK(contains(render_comparison_markdown(shares, 0), "Newcombe"));
}

TEST_CASE("evaluations that cannot be compared say why") {
  const std::string base = evaluation(question_scores(80), 0.80);
  const auto reason = [&](const std::string& changed) {
    return compare_runs(runs_of(base), runs_of(changed), {}).front().reason;
  };
  CHECK(contains(reason(evaluation(question_scores(80), 0.8, "", "other")), "--any-model"));
  CHECK(contains(reason(evaluation(question_scores(80), 0.8, "", "demo", 2)), "2 samples failed"));
  const std::string shots = R"(, "prompt": {"style": "lm-eval", "num_fewshot": 5})";
  CHECK(contains(reason(evaluation(question_scores(80), 0.8, shots)), "5-shot"));
  const std::string sampled = R"(, "sampling": {"temperature": 1.0})";
  CHECK(reason(evaluation(question_scores(80), 0.8, sampled)) ==
        "sampled differently: temperature 0.0 and 1.0");
  CHECK(compare_runs(runs_of(base), runs_of(evaluation("null", 0.9, "", "other")),
                     {.figures = {}, .ignores_model = true, .fail_below = std::nullopt})
            .front()
            .verdict == Verdict::kBetter);
}

TEST_CASE("forms") {
  const std::vector<RunComparison> results = {
      compare_texts(report("[10, 10.1, 9.9, 10]"), report("[8, 8.1, 7.9, 8]"))};
  CHECK(contains(render_comparison_text(results, 0), "1 slower\n"));
  CHECK(contains(render_comparison_markdown(results, 0.97), "| paged |"));
  CHECK(contains(dump_json(render_comparison_json(results, 0)), "\"verdict\":\"slower\""));
  CHECK(contains(sql_table(comparison_records(results)),
                 "CREATE TABLE IF NOT EXISTS \"llmrun_compare\" (\"base_file\""));
}

}  // namespace llmrun
