#include "tools/output/run_manifest.h"

#include <filesystem>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/tools/input/text_files.h"

namespace llmrun {
namespace {

RunManifest make_manifest() {
  RunManifest manifest;
  manifest.llmrun_version = "0.1.0";
  manifest.model_name = "demo";
  manifest.model_fingerprint = "0123456789abcdef0123456789abcdef";
  manifest.input_name = "prompts.jsonl";
  manifest.input = InputIdentity{123, "abc"};
  manifest.generation = {{"sampling", {{"temperature", 0.5}}}, {"seed", 7}};
  manifest.options = {{"max_num_seqs", 64}};
  return manifest;
}

TEST_CASE("a manifest is read as it was written") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.manifest";
  CHECK(!read_manifest(path));
  write_text(path + ".tmp", "left by a run that was killed");
  RunManifest manifest = make_manifest();
  write_manifest(path, manifest);
  CHECK(!std::filesystem::exists(path + ".tmp"));
  auto found = read_manifest(path);
  REQUIRE(found);
  CHECK(differences(*found, manifest).empty());
  CHECK(found->options == manifest.options);
  CHECK(run_fingerprint(*found) == run_fingerprint(manifest));

  manifest.input.reset();
  write_manifest(path, manifest);  // replaces the other
  found = read_manifest(path);
  REQUIRE(found);
  CHECK(!found->input);
}

TEST_CASE("what changes answers is a difference, named with both values") {
  const RunManifest before = make_manifest();
  const auto difference = [&before](auto change) {
    RunManifest now = make_manifest();
    change(now);
    const auto found = differences(before, now);
    REQUIRE(found.size() == 1);
    return found[0];
  };
  CHECK(difference([](RunManifest& m) { m.generation["seed"] = 8; }) == "seed: 7 before, 8 now");
  CHECK(difference([](RunManifest& m) { m.generation.erase("seed"); }) ==
        "seed: 7 before, nothing now");
  CHECK(difference([](RunManifest& m) { m.generation["dtype"] = "float32"; }) ==
        "dtype: nothing before, \"float32\" now");
  CHECK(difference([](RunManifest& m) { m.llmrun_version = "0.2.0"; }) ==
        "llmrun: \"0.1.0\" before, \"0.2.0\" now");
  CHECK(difference([](RunManifest& m) { m.model_fingerprint += 'x'; }).find("model: demo") == 0);
  CHECK(difference([](RunManifest& m) { m.input->sha256 += 'x'; }).find("input: prompts.jsonl") ==
        0);
}

TEST_CASE("what does not change answers is no difference") {
  RunManifest now = make_manifest();
  now.options["max_num_seqs"] = 1;
  now.input_name = "moved/prompts.jsonl";
  CHECK(differences(make_manifest(), now).empty());
  now.input.reset();  // a pipe
  CHECK(differences(make_manifest(), now).empty());
  CHECK(run_fingerprint(make_manifest()) == run_fingerprint(now));
  now.generation["seed"] = 8;
  CHECK(run_fingerprint(make_manifest()) != run_fingerprint(now));
}

TEST_CASE("a manifest that is none is an input error with its name") {
  const TemporaryFolder folder;
  const std::string path = folder / "out.manifest";
  for (const char* text :
       {"", "{", "[]", "{}", R"({"llmrun_version": 1})",
        R"({"llmrun_version":"a","model":"b","model_fingerprint":"c","input":"d","generation":1})",
        R"({"llmrun_version":"a","model":"b","model_fingerprint":"c","input":"d"})"}) {
    CAPTURE(text);
    write_text(path, text);
    try {
      read_manifest(path);
      FAIL("no error");
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::kInput);
      CHECK(std::string(error.what()).find(path) == 0);
    }
  }
}

TEST_CASE("inputs are identified by their bytes") {
  const TemporaryFolder folder;
  const std::string path = folder / "in";
  write_text(path, "abc");
  const auto identity = identify_input(path);
  REQUIRE(identity);
  CHECK(identity->num_bytes == 3);
  CHECK(identity->sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(!identify_input("-"));
  CHECK(!identify_input("/dev/null"));
  CHECK_THROWS_AS(identify_input(folder / "missing"), Error);
}

}  // namespace
}  // namespace llmrun
