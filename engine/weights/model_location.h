// Where a model's files are: a folder, or a name in the caches that `hf download` and `modelscope
// download` fill. Nothing is ever downloaded.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace llmrun {

// Roots of the download caches.
struct ModelCaches {
  std::filesystem::path huggingface;  // holds models--ORG--NAME
  std::filesystem::path modelscope;   // holds models/ORG/NAME, or ORG/NAME

  // HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, MODELSCOPE_CACHE, HOME.
  static ModelCaches from_environment();
};

struct ModelLocation {
  std::string name;              // as the user wrote it, for reports
  std::filesystem::path folder;  // absolute, holds config.json; empty for "shape:NAME"

  // The NAME of "shape:NAME": a known model's shape with dummy weights.
  bool is_shape() const { return folder.empty(); }
  std::string shape_name() const;
};

// Finds `model`: "shape:NAME", a folder, "ORG/NAME" or "ORG/NAME@REVISION", where the revision is a
// branch, tag or commit; main if there is none. Throws Error(kModel) that lists the places searched
// and the command that downloads the model.
ModelLocation find_model(const std::string& model, const ModelCaches& caches);

// For a message about missing files: "; download them with: hf download ORG/NAME --revision COMMIT"
// where the folder is a snapshot of the Hugging Face cache, else "".
std::string download_hint(const std::filesystem::path& folder);

// The real path of file `name` of a model folder, or an empty path when there is none. Symbolic
// links are followed where the download caches make them (into the same cache) or within the
// folder; one that leads elsewhere is Error(kModel) unless `allow_symlinks`. So is what is no
// regular file.
// REQUIRES: name is a single path component.
std::filesystem::path model_file(const std::filesystem::path& folder, std::string_view name,
                                 bool allow_symlinks);

}  // namespace llmrun
