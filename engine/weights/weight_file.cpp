#include "engine/weights/weight_file.h"

#include "engine/core/error.h"

namespace llmrun {

void WeightFile::read(const StoredTensor& tensor, std::uint64_t begin,
                      std::span<std::byte> out) const {
  LLMRUN_CHECK(begin <= tensor.num_bytes && out.size() <= tensor.num_bytes - begin);
  file_.read(tensor.offset + begin, out);
  file_.check_unchanged();
}

}  // namespace llmrun
