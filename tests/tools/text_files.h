// Files of one test.
#pragma once

#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/temporary_folder.h"

namespace llmrun {

using testing::TemporaryFolder;

inline std::string operator/(const TemporaryFolder& folder, const std::string& name) {
  return folder.path() / name;
}

inline void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

inline std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace llmrun
