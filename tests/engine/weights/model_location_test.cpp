#include "engine/weights/model_location.h"

#include <cstdlib>
#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

std::string error_of(const std::string& model, const ModelCaches& caches) {
  try {
    find_model(model, caches);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
    return error.what();
  }
  return "";
}

TEST_CASE("a known shape has no folder") {
  const ModelLocation location = find_model("shape:qwen2-7b", {});
  CHECK(location.is_shape());
  CHECK(location.shape_name() == "qwen2-7b");
  CHECK(location.name == "shape:qwen2-7b");
}

TEST_CASE("a folder is a model when it holds config.json") {
  const TemporaryFolder folder;
  CHECK(error_of(folder.path().string(), {}).find("no config.json") != std::string::npos);
  folder.write("config.json", "{}");
  const ModelLocation location = find_model(folder.path().string() + "/", {});
  CHECK_FALSE(location.is_shape());
  CHECK(location.folder == folder.path());
  CHECK(error_of((folder.path() / "config.json").string(), {}).find("no such folder") !=
        std::string::npos);
}

TEST_CASE("the Hugging Face cache") {
  const TemporaryFolder cache;
  const std::string repository = "models--Org--Some.Model-7B";
  const ModelCaches caches{.huggingface = cache.path(), .modelscope = cache.path() / "none"};
  const std::string snapshot = repository + "/snapshots/" + kCommit;
  cache.write(repository + "/blobs/abc", "{}");
  cache.write(snapshot + "/README.md", "");

  const std::string miss = error_of("Org/Some.Model-7B", caches);
  CHECK(miss.find((cache.path() / repository).string()) != std::string::npos);
  CHECK(
      miss.ends_with("Download it with: hf download Org/Some.Model-7B\n"
                     "or from ModelScope: modelscope download --model Org/Some.Model-7B"));

  fs::create_symlink("../../blobs/abc", cache.path() / snapshot / "config.json");
  // Without refs/main it would be a guess which snapshot is meant.
  CHECK(error_of("Org/Some.Model-7B", caches) == miss);
  cache.write(repository + "/refs/main", kCommit);
  const ModelLocation location = find_model("Org/Some.Model-7B", caches);
  CHECK(location.folder == cache.path() / snapshot);
  CHECK(location.name == "Org/Some.Model-7B");

  CHECK(find_model("Org/Some.Model-7B@main", caches).folder == cache.path() / snapshot);
  CHECK(find_model(std::string("Org/Some.Model-7B@") + kCommit, caches).folder ==
        cache.path() / snapshot);
  CHECK(error_of("Org/Some.Model-7B@v2", caches).ends_with("Org/Some.Model-7B --revision v2"));
  cache.write(repository + "/refs/v2", std::string(kCommit) + "\n");
  CHECK(find_model("Org/Some.Model-7B@v2", caches).folder == cache.path() / snapshot);
  cache.write(repository + "/refs/refs/pr/3", kCommit);
  CHECK(find_model("Org/Some.Model-7B@refs/pr/3", caches).folder == cache.path() / snapshot);

  // Links into the cache are the cache's own; a ref cannot lead out of it.
  CHECK(model_file(location.folder, "config.json", false) ==
        cache.path() / repository / "blobs/abc");
  cache.write("elsewhere/config.json", "{}");
  cache.write(repository + "/refs/main", "../../elsewhere");
  CHECK(error_of("Org/Some.Model-7B", caches) == miss);
}

TEST_CASE("the ModelScope cache, new and old layout") {
  const TemporaryFolder cache;
  const ModelCaches caches{.huggingface = cache.path() / "none", .modelscope = cache.path()};
  cache.write("Org/Qwen2___5-7B/config.json", "{}");
  CHECK(find_model("Org/Qwen2.5-7B", caches).folder == cache.path() / "Org/Qwen2___5-7B");
  cache.write("models/Org/Qwen2___5-7B/config.json", "{}");
  CHECK(find_model("Org/Qwen2.5-7B", caches).folder == cache.path() / "models/Org/Qwen2___5-7B");
  CHECK(find_model("Org/Qwen2.5-7B@master", caches).folder ==
        cache.path() / "models/Org/Qwen2___5-7B");
  CHECK(error_of("Org/Qwen2.5-7B@v1", caches) != "");
}

TEST_CASE("a snapshot's missing files have a command that downloads them") {
  const fs::path snapshot = fs::path("/cache/models--Org--Some.Model/snapshots") / kCommit;
  CHECK(download_hint(snapshot) ==
        std::string("; download them with: hf download Org/Some.Model --revision ") + kCommit);
  CHECK(download_hint("/models/Org/Some.Model").empty());
}

TEST_CASE("what is neither a folder nor a name in a hub") {
  for (const char* model : {"", "/no/such/folder", "./missing", "../x", "a/b/c", "Org/..", "Org/",
                            "/Org", "Org/na me", "Org/x@", "Org/x@../y", "Org/x@/y"}) {
    CAPTURE(model);
    CHECK(error_of(model, {}).find("no such folder, and not a model name like") !=
          std::string::npos);
  }
}

TEST_CASE("cache roots come from the environment") {
  const char* const variables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                   "XDG_CACHE_HOME", "MODELSCOPE_CACHE"};
  for (const char* variable : variables) ::unsetenv(variable);
  ::setenv("HOME", "/home/somebody", 1);
  CHECK(ModelCaches::from_environment().huggingface == "/home/somebody/.cache/huggingface/hub");
  CHECK(ModelCaches::from_environment().modelscope == "/home/somebody/.cache/modelscope/hub");
  ::setenv("XDG_CACHE_HOME", "/cache", 1);
  CHECK(ModelCaches::from_environment().huggingface == "/cache/huggingface/hub");
  ::setenv("HF_HOME", "/hf", 1);
  CHECK(ModelCaches::from_environment().huggingface == "/hf/hub");
  ::setenv("HUGGINGFACE_HUB_CACHE", "/old", 1);
  CHECK(ModelCaches::from_environment().huggingface == "/old");
  ::setenv("HF_HUB_CACHE", "/hub", 1);
  ::setenv("MODELSCOPE_CACHE", "/ms", 1);
  CHECK(ModelCaches::from_environment().huggingface == "/hub");
  CHECK(ModelCaches::from_environment().modelscope == "/ms");
  ::setenv("HF_HUB_CACHE", "", 1);  // empty counts as absent
  CHECK(ModelCaches::from_environment().huggingface == "/old");
  for (const char* variable : variables) ::unsetenv(variable);
}

}  // namespace
}  // namespace llmrun
