// One .safetensors file.
//
// Accepted is what the format's own reader accepts: tensors fill the data section without a hole or
// an overlap, and each has the size its shape and dtype say.
// Source: https://github.com/huggingface/safetensors, safetensors/src/tensor.rs.
#pragma once

#include <filesystem>

#include "engine/weights/weight_file.h"

namespace llmrun {

// Checks the file from end to end. Throws Error(kModel) that names file, tensor, offset, expected
// and found.
// REQUIRES: path is no symbolic link (see model_file() in model_location.h).
WeightFile open_safetensors(std::filesystem::path path);

}  // namespace llmrun
