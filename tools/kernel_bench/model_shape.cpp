#include "tools/kernel_bench/model_shape.h"

#include "engine/core/error.h"

namespace llmrun {
namespace {

constexpr ModelShape kModelShapes[] = {
    {"qwen2.5-0.5b", 896, 4864, 14, 2, 64, 151936, true},
    {"llama-3.2-1b", 2048, 8192, 32, 8, 64, 128256, false},
    {"qwen2-7b", 3584, 18944, 28, 4, 128, 152064, true},
    {"llama-3-8b", 4096, 14336, 32, 8, 128, 128256, false},
};

}  // namespace

const ModelShape& find_model_shape(const std::string& name) {
  std::string names;
  for (const ModelShape& shape : kModelShapes) {
    if (name == shape.name) return shape;
    names += std::string(names.empty() ? "" : ", ") + shape.name;
  }
  throw Error(ErrorKind::kUsage, "--model-shape " + name + ": one of " + names);
}

}  // namespace llmrun
