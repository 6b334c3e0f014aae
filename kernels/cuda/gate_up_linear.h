// out = silu(x G^T) * (x U^T) for many tokens, on the warpgroup tensor cores of compute capability
// 9. Bound by their 2 M N K operations, and on a card at its power limit by the energy of the bytes
// moved: the products' sums never leave the registers, so that 2 M N elements less are written and
// read again than by a product and an activation of its own.
#pragma once

#include "kernels/cuda/launch.h"
#include "kernels/cuda/linear_arguments.h"

namespace llmrun::kernels {

// Whether the current device and these arguments will do: kSiluMul without bias, 16-bit types, out
// of the type of x and 16-byte aligned.
bool supports_gate_up_linear(const LinearArguments& args);

// Sums are in float, in an order that depends on nothing but K. Needs no workspace. out may not
// overlap x.
void gate_up_linear(const Launch& launch, const LinearArguments& args);

}  // namespace llmrun::kernels
