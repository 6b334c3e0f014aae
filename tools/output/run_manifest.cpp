#include "tools/output/run_manifest.h"

#include <cstdio>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "engine/core/file.h"
#include "engine/core/json.h"
#include "engine/core/sha256.h"
#include "tools/input/input_buffer.h"
#include "tools/output/output_file.h"

namespace llmrun {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{16} << 20;
constexpr JsonLimits kManifestJson{
    .max_depth = 64, .reject_duplicate_keys = true, .error_kind = ErrorKind::kInput};

std::string shown(const nlohmann::json* value) {
  return value == nullptr ? "nothing" : describe_json(*value);
}

void compare_text(std::vector<std::string>& found, const char* what, const std::string& before,
                  const std::string& now) {
  if (before == now) return;
  found.push_back(
      fmt::format("{}: {} before, {} now", what, describe_json(before), describe_json(now)));
}

void compare_generation(std::vector<std::string>& found, const Json& before, const Json& now) {
  std::set<std::string> names;
  for (const auto& [name, value] : before.items()) names.insert(name);
  for (const auto& [name, value] : now.items()) names.insert(name);
  const auto look_up = [](const Json& object, const std::string& name) {
    const auto it = object.find(name);
    return it == object.end() ? std::optional<nlohmann::json>() : nlohmann::json(*it);
  };
  for (const std::string& name : names) {
    const std::optional<nlohmann::json> was = look_up(before, name);
    const std::optional<nlohmann::json> is = look_up(now, name);
    if (was == is) continue;
    found.push_back(fmt::format("{}: {} before, {} now", name, shown(was ? &*was : nullptr),
                                shown(is ? &*is : nullptr)));
  }
}

}  // namespace

std::optional<InputIdentity> identify_input(const std::string& path) {
  if (path == "-") return std::nullopt;
  FileSource source(path);
  if (!source.size()) return std::nullopt;
  InputIdentity identity;
  Sha256 hash;
  std::vector<char> chunk(std::size_t{1} << 20);
  while (const std::size_t count = source.read(chunk)) {
    hash.update({chunk.data(), count});
    identity.num_bytes += count;
  }
  identity.sha256 = to_hex(hash.finish());
  source.check_unchanged();
  return identity;
}

std::vector<std::string> differences(const RunManifest& before, const RunManifest& now) {
  std::vector<std::string> found;
  compare_text(found, "llmrun", before.llmrun_version, now.llmrun_version);
  if (before.model_fingerprint != now.model_fingerprint) {
    found.push_back(fmt::format("model: {} (fingerprint {:.16}) before, {} ({:.16}) now",
                                before.model_name, before.model_fingerprint, now.model_name,
                                now.model_fingerprint));
  }
  if (before.input && now.input && before.input != now.input) {
    found.push_back(fmt::format(
        "input: {} ({} bytes) before, {} ({} bytes), with other content, "
        "now",
        before.input_name, before.input->num_bytes, now.input_name, now.input->num_bytes));
  }
  compare_generation(found, before.generation, now.generation);
  return found;
}

std::string run_fingerprint(const RunManifest& manifest) {
  Sha256 hash;
  hash.update(fmt::format("{}:{}", manifest.model_fingerprint.size(), manifest.model_fingerprint));
  hash.update(dump_json(manifest.generation));
  return to_hex(hash.finish());
}

void write_manifest(const std::string& path, const RunManifest& manifest) {
  Json json = {{"llmrun_version", manifest.llmrun_version},
               {"model", manifest.model_name},
               {"model_fingerprint", manifest.model_fingerprint},
               {"input", manifest.input_name}};
  if (manifest.input) {
    json["input_bytes"] = manifest.input->num_bytes;
    json["input_sha256"] = manifest.input->sha256;
  }
  json["generation"] = manifest.generation;
  json["options"] = manifest.options;

  const std::string temporary = fmt::format("{}.tmp", path);
  std::remove(temporary.c_str());  // of a run that was killed here
  const UniqueFd fd = create_private_file(temporary);
  write_all(fd, dump_json(json, 2) + "\n", temporary);
  replace_file(fd, temporary, path);
}

std::optional<RunManifest> read_manifest(const std::string& path) {
  const auto text = read_file_if_exists(path, kMaxManifestBytes, ErrorKind::kInput);
  if (!text) return std::nullopt;
  const Json ordered = parse_ordered_json(*text, path, kManifestJson);
  const nlohmann::json json(ordered);
  const JsonObject object(json, path, ErrorKind::kInput);
  RunManifest manifest;
  manifest.llmrun_version = object.get_string("llmrun_version");
  manifest.model_name = object.get_string("model");
  manifest.model_fingerprint = object.get_string("model_fingerprint");
  manifest.input_name = object.get_string("input");
  if (object.has("input_sha256")) {
    manifest.input =
        InputIdentity{static_cast<std::uint64_t>(object.get_int("input_bytes", 0, INT64_MAX)),
                      object.get_string("input_sha256")};
  }
  object.get_object("generation");
  manifest.generation = ordered["generation"];
  if (ordered.contains("options")) manifest.options = ordered["options"];
  return manifest;
}

}  // namespace llmrun
