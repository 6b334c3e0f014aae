// Files that a report is written to.
#pragma once

#include <string>

namespace llmrun {

// Replaces the file's content. Throws Error(kOutput) that names it.
void write_text_file(const std::string& path, const std::string& text);

// Throws what write_text_file would throw for a path that cannot be written; makes the file if it
// is not there. Asked before a long run, whose results must not be lost to a wrong name.
void require_writable(const std::string& path);

}  // namespace llmrun
