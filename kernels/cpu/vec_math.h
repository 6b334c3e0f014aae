// exp, tanh and silu on Vec. Include after one of the vec_*.h headers.
#pragma once

#include <cstdint>

namespace llmrun::kernels {
namespace {

// Elements [i, i + kLanes) of x [count]; beyond its end 0.
inline Vec load_up_to(const float* x, std::int64_t i, std::int64_t count) {
  if (i + Vec::kLanes <= count) return Vec::load(x + i);
  return i < count ? Vec::load_first(x + i, static_cast<int>(count - i)) : Vec::broadcast(0.0F);
}

// e^x with a relative error below 2e-7; exactly 1 at 0, exactly 0 below -87.3 (-infinity included);
// saturates at 88.3. Cody-Waite reduction and the polynomial of Cephes' expf.
inline Vec exp(Vec x) {
  const Vec limit = Vec::broadcast(-87.3F);
  const Vec clamped = Vec::min(Vec::max(x, limit), Vec::broadcast(88.3F));
  // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
  const Vec magic = Vec::broadcast(12582912.0F);
  const Vec n = Vec::fma(clamped, Vec::broadcast(1.44269504088896341F), magic) - magic;
  Vec r = Vec::fma(n, Vec::broadcast(-0.693359375F), clamped);
  r = Vec::fma(n, Vec::broadcast(2.12194440e-4F), r);
  Vec p = Vec::broadcast(1.9875691500e-4F);
  p = Vec::fma(p, r, Vec::broadcast(1.3981999507e-3F));
  p = Vec::fma(p, r, Vec::broadcast(8.3334519073e-3F));
  p = Vec::fma(p, r, Vec::broadcast(4.1665795894e-2F));
  p = Vec::fma(p, r, Vec::broadcast(1.6666665459e-1F));
  p = Vec::fma(p, r, Vec::broadcast(5.0000001201e-1F));
  p = Vec::fma(p, r * r, r) + Vec::broadcast(1.0F);
  return Vec::select_at_least(x, limit, Vec::scale_by_power_of_two(p, n));
}

// x / (1 + e^-x)
inline Vec silu(Vec x) {
  const Vec one = Vec::broadcast(1.0F);
  return x / (one + exp(Vec::broadcast(0.0F) - x));
}

// 1 - 2 / (1 + e^2x): absolute error below 2e-7.
inline Vec tanh(Vec x) {
  const Vec one = Vec::broadcast(1.0F);
  const Vec two = Vec::broadcast(2.0F);
  return one - two / (one + exp(two * x));
}

}  // namespace
}  // namespace llmrun::kernels
