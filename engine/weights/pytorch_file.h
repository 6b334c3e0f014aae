// The tensors of one pytorch_model.bin, as torch.save has written it since torch 1.6.
//
// Such a file is a zip archive of stored members: NAME/data.pkl, a pickle of the state dict, and
// one member NAME/data/KEY a storage, raw and little-endian. The pickle is read as data and nothing
// in it is run (pickle_reader.h). A tensor is a view of a storage: shared storages and offsets are
// honoured, other orders than row-major are refused.
// Source: PyTorch, torch/serialization.py and torch/_utils.py.
#pragma once

#include <filesystem>

#include "engine/weights/weight_file.h"

namespace llmrun {

// Checks everything. Throws Error(kModel) that names the file and the place.
// REQUIRES: path is no symbolic link (see model_file() in model_location.h).
WeightFile open_pytorch_file(std::filesystem::path path);

}  // namespace llmrun
