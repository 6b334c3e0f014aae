// Names a stretch of host time for profilers (Nsight Systems). Costs nothing when none is attached.
#pragma once

#include <nvtx3/nvToolsExt.h>

namespace llmrun {

class NvtxRange {
 public:
  explicit NvtxRange(const char* name) { nvtxRangePushA(name); }
  ~NvtxRange() { nvtxRangePop(); }
  NvtxRange(const NvtxRange&) = delete;
  NvtxRange& operator=(const NvtxRange&) = delete;
};

}  // namespace llmrun
