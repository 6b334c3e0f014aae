// The nonlinearity of an MLP.
#pragma once

#include <cstdint>

namespace llmrun {

enum class Activation : std::uint8_t {
  kSilu,      // x / (1 + e^-x), also called swish
  kRelu,      // max(x, 0)
  kGelu,      // x * (1 + erf(x / sqrt(2))) / 2
  kGeluTanh,  // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2: gelu_new, gelu_pytorch_tanh
};

}  // namespace llmrun
