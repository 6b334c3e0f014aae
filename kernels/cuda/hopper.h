// Which device code the current device runs.
#pragma once

namespace llmrun::kernels {

// Whether the current device runs code that was compiled for Hopper (sm_90a): bulk copies,
// warpgroup products, launches that overlap. False on other cards, and on a Hopper card in a build
// for other architectures only, which runs the code for Ampere there.
bool runs_hopper_code();

}  // namespace llmrun::kernels
