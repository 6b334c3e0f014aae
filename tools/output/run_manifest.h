// What a run was: OUT.manifest, a JSON file beside the output. --resume compares it with the run
// that wants to go on, since answers of another model or of other parameters must not be mixed in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace llmrun {

// The bytes of an input file.
struct InputIdentity {
  std::uint64_t num_bytes = 0;
  std::string sha256;  // hexadecimal
  bool operator==(const InputIdentity&) const = default;
};

// Nothing for pipes, devices and standard input, which can be read only once. Throws Error(kInput).
std::optional<InputIdentity> identify_input(const std::string& path);

struct RunManifest {
  std::string llmrun_version;
  std::string model_name;
  std::string model_fingerprint;  // of weights, tokenizer and configuration
  std::string input_name;
  std::optional<InputIdentity> input;
  // What answers depend on beside model and rows: default sampling parameters, the run's seed, the
  // chat template, number formats. Compared key by key.
  nlohmann::ordered_json generation = nlohmann::ordered_json::object();
  // Everything else, for the reader.
  nlohmann::ordered_json options = nlohmann::ordered_json::object();
};

// What differs so that answers could: sentences with both values. A moved or renamed input does
// not; an input that cannot be identified is not compared (its rows are, one by one).
std::vector<std::string> differences(const RunManifest& before, const RunManifest& now);

// Stands for model and generation in input_hash.
std::string run_fingerprint(const RunManifest& manifest);

// Written beside its place and renamed: after a crash there is the old one or the new one.
// Throws Error(kOutput).
void write_manifest(const std::string& path, const RunManifest& manifest);
// Nothing when there is none. Throws Error(kInput) when it cannot be read.
std::optional<RunManifest> read_manifest(const std::string& path);

}  // namespace llmrun
