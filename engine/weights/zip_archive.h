// The members of a zip archive whose members are stored, not compressed: what torch.save writes.
//
// Sizes come from the central directory, in 32 or 64 bits (zip64). Refused with Error(kModel) that
// names file and offset: compressed or encrypted members, members that overlap or do not lie in the
// file, names that occur twice, archives in several parts, bytes before the archive.
// Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/weights/random_access_file.h"

namespace llmrun {

struct ZipMember {
  std::string name;          // as written; may be no UTF-8
  std::uint64_t offset = 0;  // of its first byte, from the beginning of the file
  std::uint64_t num_bytes = 0;
};

// The members in the order of their names.
std::vector<ZipMember> read_zip_members(const RandomAccessFile& file);

}  // namespace llmrun
