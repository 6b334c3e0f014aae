// Linear layers on the CPU: out = x W^T with an epilogue, over packed weights.
//
// Packed weight, bf16: [N / 16] panels of [K / 32][16 k-pairs][16 columns][2], zero padded. 1 KiB
// of it is one AMX tile, 64 bytes one operand of vdpbf16ps, 32 bytes 8 columns for AVX2: one layout
// for every instruction set. Packed weight, float32: [N / 16] panels of [K][16 columns].
//
// Every kernel gives each output element one accumulator that runs over k in ascending order, so a
// row's result does not depend on the number of rows, on the blocking or on the partition.
// AVX2 and AVX-512 agree bit for bit in float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/core/activation.h"
#include "engine/core/dtype.h"

namespace llmrun::kernels {

inline constexpr std::int64_t kPanelColumns = 16;    // output columns of one panel of packed weight
inline constexpr std::int64_t kDepthAlignment = 32;  // K of a bf16 weight is padded to this

enum class LinearEpilogue : std::uint8_t {
  kStore,    // out = c + bias
  kAdd,      // out += c + bias
  kGateMul,  // panels alternate gate, up: out = activation(c_gate + bias) * (c_up + bias), N / 2
             // columns
};

struct LinearArgs {
  const void* activations = nullptr;   // as LinearKernel says
  std::int64_t activation_stride = 0;  // elements from row to row
  std::int64_t num_rows = 0;           // M, rows of x
  const void* weight = nullptr;
  std::int64_t panel_stride = 0;      // elements from panel to panel: 16 K of the whole weight
  std::int64_t num_columns = 0;       // N, columns of c. kGateMul: a multiple of 32
  std::int64_t depth = 0;             // K, or the part of it to run over; a multiple of
                                      // kDepthAlignment for bf16
  const float* bias = nullptr;        // N rounded up to whole panels, or null
  float* out = nullptr;               // [M, out_stride]
  std::uint16_t* out_bf16 = nullptr;  // kGateMul: the result rounded to bf16, instead of `out`
  std::int64_t out_stride = 0;        // elements
  std::int64_t out_columns = 0;       // valid columns of out: N, or at most N / 2 for kGateMul
  LinearEpilogue epilogue = LinearEpilogue::kStore;
  Activation activation = Activation::kSilu;  // of kGateMul
};

// A rectangle of the output. Panels and rows in half-open ranges.
struct LinearRange {
  std::int64_t row_begin = 0;
  std::int64_t row_end = 0;
  std::int64_t panel_begin = 0;
  std::int64_t panel_end = 0;
  // The weights that follow in memory are likely to be wanted next: a kernel may ask for them.
  bool has_next = false;
};

// Rows of float32 that become packed activations: x [num_rows, depth] to [num_rows, padded_depth],
// what lies beyond `depth` 0.
struct ActivationSource {
  const float* x = nullptr;
  std::int64_t stride = 0;        // elements from row to row
  std::int64_t depth = 0;         // K
  std::int64_t padded_depth = 0;  // of the weights
};

// A rectangle of packed activations, in half-open ranges.
struct PackRange {
  std::int64_t row_begin = 0;
  std::int64_t row_end = 0;
  std::int64_t depth_begin = 0;  // a multiple of kDepthAlignment
  std::int64_t depth_end = 0;    // likewise, or padded_depth
};

// One implementation. Plain functions, so that the caller alone decides about threads.
struct LinearKernel {
  const char* name;
  std::int64_t row_multiple;  // ranges begin at a multiple of this many rows
  std::int64_t panel_group;   // panels that are computed together; a range may cut a group, but not
                              // a pair of gate and up
  std::size_t scratch_bytes;  // what run() needs, for each thread, 64-byte aligned

  // Element type of the activations. kF32 without pack_activations: x itself, [num_rows, depth].
  // Else packed rows [num_rows, padded_depth] of float32 or bf16; x that has this form already, in
  // bf16 and with nothing to pad, needs no packing.
  DType activation_dtype;
  void (*pack_activations)(void* packed, const ActivationSource& source, const PackRange& range);
  // Computes one rectangle of the output.
  void (*run)(const LinearArgs& args, const LinearRange& range, void* scratch);
};

const LinearKernel& linear_f32_portable();
const LinearKernel& linear_f32_avx2();
const LinearKernel& linear_f32_avx512();
const LinearKernel& linear_bf16_portable();
const LinearKernel& linear_bf16_avx2();
const LinearKernel& linear_bf16_avx512();
const LinearKernel& linear_bf16_avx512_xeon();  // the same bits, reads memory less far ahead
// The calling thread must have the operating system's permission for AMX (request_amx()).
const LinearKernel& linear_bf16_amx();

}  // namespace llmrun::kernels
