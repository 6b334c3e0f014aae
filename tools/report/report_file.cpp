#include "tools/report/report_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include <fmt/format.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

void close_or_throw(std::ofstream& file, const std::string& path) {
  file.close();
  if (file) return;
  throw Error(ErrorKind::kOutput,
              fmt::format("{} cannot be written: {}", path, std::strerror(errno)));
}

}  // namespace

void write_text_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  close_or_throw(file, path);
}

void require_writable(const std::string& path) {
  std::ofstream file(path, std::ios::binary | std::ios::app);
  close_or_throw(file, path);
}

}  // namespace llmrun
