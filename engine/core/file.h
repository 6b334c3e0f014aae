// Whole files into memory, with errors that name the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "engine/core/error.h"

namespace llmrun {

// The bytes of a regular file. Throws Error(kind) that names the path when the file is missing,
// unreadable, not a regular file (a FIFO or device is never opened for waiting), larger than
// `max_bytes`, or changes its size while it is read.
std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes, ErrorKind kind);

// The same, but nothing when no such file exists.
std::optional<std::string> read_file_if_exists(const std::filesystem::path& path,
                                               std::uint64_t max_bytes, ErrorKind kind);

}  // namespace llmrun
