#include "engine/weights/model_location.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "engine/core/file.h"

namespace llmrun {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kShapePrefix = "shape:";
constexpr std::string_view kRepositoryPrefix = "models--";

std::optional<fs::path> environment_path(const char* variable) {
  const char* value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return fs::path(value);
}

bool has_config(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / "config.json", ignored);
}

std::string replace_all(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// A name in a hub: "ORG/NAME" or "NAME", and the revision after '@'.
struct HubName {
  std::string id;
  std::string revision;
};

bool is_hub_component(std::string_view text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !text.empty() && text.front() != '.' && text.find("..") == text.npos &&
         std::all_of(text.begin(), text.end(), allowed);
}

std::optional<HubName> parse_hub_name(const std::string& model) {
  const std::size_t at = model.find('@');
  HubName name{.id = model.substr(0, at), .revision = "main"};
  if (at != model.npos) name.revision = model.substr(at + 1);
  const std::size_t slash = name.id.find('/');
  const bool is_valid = slash == name.id.npos
                            ? is_hub_component(name.id)
                            : is_hub_component(std::string_view(name.id).substr(0, slash)) &&
                                  is_hub_component(std::string_view(name.id).substr(slash + 1));
  // A branch may hold slashes ("refs/pr/3"), but leads nowhere else.
  if (!is_valid || name.revision.empty() || name.revision.front() == '/' ||
      name.revision.find("..") != name.revision.npos) {
    return std::nullopt;
  }
  return name;
}

// The snapshot of a model in the Hugging Face cache: refs/REVISION holds the commit that names it,
// or the revision is a commit itself. Any other snapshot would be a guess.
std::optional<fs::path> find_snapshot(const fs::path& repository, const std::string& revision) {
  std::string commit = revision;
  if (auto text = read_file_if_exists(repository / "refs" / revision, 4096, ErrorKind::kModel)) {
    commit = *text;
    while (!commit.empty() && (commit.back() == '\n' || commit.back() == ' ')) commit.pop_back();
  }
  if (!is_hub_component(commit)) return std::nullopt;
  const fs::path snapshot = repository / "snapshots" / commit;
  if (!has_config(snapshot)) return std::nullopt;
  return snapshot;
}

ModelLocation make_location(const std::string& name, const fs::path& folder) {
  return {.name = name, .folder = fs::canonical(folder)};
}

bool is_within(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first ==
         folder.end();
}

// Where the links of a model folder may lead: the cache it lies in, or the folder itself.
fs::path link_root(const fs::path& folder) {
  const fs::path snapshots = folder.parent_path();
  const fs::path repository = snapshots.parent_path();
  const bool in_cache = snapshots.filename() == "snapshots" &&
                        repository.filename().string().starts_with(kRepositoryPrefix);
  return in_cache ? repository.parent_path() : folder;
}

}  // namespace

ModelCaches ModelCaches::from_environment() {
  const fs::path home = environment_path("HOME").value_or("/");
  const fs::path cache = environment_path("XDG_CACHE_HOME").value_or(home / ".cache");
  ModelCaches caches;
  caches.huggingface = environment_path("HF_HOME").value_or(cache / "huggingface") / "hub";
  for (const char* variable : {"HUGGINGFACE_HUB_CACHE", "HF_HUB_CACHE"}) {
    if (const auto path = environment_path(variable)) caches.huggingface = *path;
  }
  caches.modelscope =
      environment_path("MODELSCOPE_CACHE").value_or(home / ".cache" / "modelscope" / "hub");
  return caches;
}

std::string ModelLocation::shape_name() const {
  return is_shape() ? name.substr(kShapePrefix.size()) : std::string();
}

ModelLocation find_model(const std::string& model, const ModelCaches& caches) {
  if (model.starts_with(kShapePrefix)) return {.name = model, .folder = {}};
  std::error_code ignored;
  if (fs::is_directory(model, ignored)) {
    if (has_config(model)) return make_location(model, model);
    throw Error(
        ErrorKind::kModel,
        fmt::format("{}: no config.json; expected the folder of a Hugging Face checkpoint", model));
  }
  const std::optional<HubName> name = parse_hub_name(model);
  if (!name) {
    throw Error(
        ErrorKind::kModel,
        fmt::format("{}: no such folder, and not a model name like Qwen/Qwen2-7B-Instruct", model));
  }
  const fs::path repository =
      caches.huggingface / (std::string(kRepositoryPrefix) + replace_all(name->id, "/", "--"));
  std::vector<fs::path> searched = {repository};
  if (const auto snapshot = find_snapshot(repository, name->revision)) {
    return make_location(model, *snapshot);
  }
  // ModelScope's cache keeps no revisions apart; its own name for the first branch is master.
  if (name->revision == "main" || name->revision == "master") {
    const std::string id = replace_all(name->id, ".", "___");
    for (const fs::path& folder : {caches.modelscope / "models" / id, caches.modelscope / id}) {
      if (has_config(folder)) return make_location(model, folder);
      searched.push_back(folder);
    }
  }
  std::string places;
  for (const fs::path& path : searched) places += "\n  " + path.string();
  const std::string option =
      name->revision == "main" ? "" : fmt::format(" --revision {}", name->revision);
  throw Error(ErrorKind::kModel,
              fmt::format("{}: no such folder, and no complete download of this model in:{}\n"
                          "Download it with: hf download {}{}\n"
                          "or from ModelScope: modelscope download --model {}{}",
                          model, places, name->id, option, name->id, option));
}

std::string download_hint(const fs::path& folder) {
  const fs::path repository = folder.parent_path().parent_path();
  const std::string name = repository.filename().string();
  if (folder.parent_path().filename() != "snapshots" || !name.starts_with(kRepositoryPrefix)) {
    return "";
  }
  const std::string id = replace_all(name.substr(kRepositoryPrefix.size()), "--", "/");
  return fmt::format("; download them with: hf download {} --revision {}", id,
                     folder.filename().string());
}

std::filesystem::path model_file(const std::filesystem::path& folder, std::string_view name,
                                 bool allow_symlinks) {
  const fs::path path = folder / name;
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::not_found) return {};
  fs::path target = fs::canonical(path, error);
  if (error) {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: cannot be resolved: {}", path.string(), error.message()));
  }
  const fs::path root = link_root(fs::canonical(folder));
  if (status.type() == fs::file_type::symlink && !allow_symlinks && !is_within(target, root)) {
    throw Error(ErrorKind::kModel,
                fmt::format("{}: is a symbolic link to {}, outside {}; put the file there, or pass "
                            "--allow-symlinks",
                            path.string(), target.string(), root.string()));
  }
  if (!fs::is_regular_file(target, error)) {
    throw Error(ErrorKind::kModel, fmt::format("{}: not a regular file", path.string()));
  }
  return target;
}

}  // namespace llmrun
