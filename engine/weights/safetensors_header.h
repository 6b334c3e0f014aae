// The JSON header of a .safetensors file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/weights/weight_file.h"

namespace llmrun {

// The tensors that `header` describes, in the order of their bytes, with `offset` counted from the
// beginning of the file. `data_begin` is where the data section begins, `data_size` its bytes.
// Throws Error(kModel), beginning with `file`, for everything the format forbids.
std::vector<StoredTensor> parse_safetensors_header(std::string_view header, const std::string& file,
                                                   std::uint64_t data_begin,
                                                   std::uint64_t data_size);

}  // namespace llmrun
