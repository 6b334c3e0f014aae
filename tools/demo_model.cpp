#include "tools/demo_model.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "engine/core/error.h"

namespace llmrun {

std::string model_or_demo(const std::string& model) {
  if (!model.empty()) return model;
  if (const char* folder = std::getenv("LLMRUN_DEMO_MODEL"); folder != nullptr && *folder != '\0') {
    return folder;
  }
  const std::filesystem::path below = "datasets/demo/model";
  std::vector<std::filesystem::path> candidates = {below};
  std::error_code failure;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", failure);
  // build/PRESET/llmrun in a checkout, PREFIX/bin/llmrun when installed.
  for (std::filesystem::path folder = program.parent_path(); !failure && folder.has_relative_path();
       folder = folder.parent_path()) {
    candidates.push_back(folder / below);
    candidates.push_back(folder / "share/llmrun" / "demo/model");
  }
  for (const std::filesystem::path& candidate : candidates) {
    if (std::filesystem::is_regular_file(candidate / "config.json", failure))
      return candidate.string();
  }
  throw Error(
      ErrorKind::kUsage,
      "no --model given and the demo model (datasets/demo/model) is not beside this program; "
      "use --model FOLDER or --model shape:NAME");
}

}  // namespace llmrun
