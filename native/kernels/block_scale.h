// The scales of blocks, from their largest magnitudes.
#pragma once
#include "kernels/block.h"
#include "kernels/simd.h"

namespace {

constexpr int32_t INFINITE = 0x7f800000;

inline int32_t bits_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float float_of(int32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// 2^e, for e from the smallest subnormal number's on.
inline float power(int32_t e) {
  return e >= -126 ? float_of((e + 127) << 23) : float_of(1 << (e + 149));
}

// 2^e, for normal numbers.
inline double wide_power(int32_t e) {
  const int64_t pattern = (int64_t)(e + 1023) << 52;
  double x;
  memcpy(&x, &pattern, sizeof x);
  return x;
}

// In double, where every float is normal.
inline int32_t scale_exponent(float largest, const dv_block_format& f) {
  const double wide = largest, top = f.largest;
  uint64_t u, t;
  memcpy(&u, &wide, sizeof u);
  memcpy(&t, &top, sizeof t);
  const uint64_t fraction = (1ull << 52) - 1;
  if (f.mode == 2)
    u += 1ull << (51 - f.even_bits);
  int32_t e = (int32_t)(u >> 52) - 1023;
  if (f.mode == 1)
    e += (u & fraction) > 0;
  if (f.mode == 3)
    e += (u & fraction) > (t & fraction);
  e -= f.emax;
  e = e > f.low ? e : f.low;
  return e < f.high ? e : f.high;
}

// The scale of a block, in units of codes, and what its values are multiplied with (a quotient's:
// divided by), then with, to become codes.
struct BlockScale {
  float scale, by, rest;
};

// Scaling up is exact; scaling down may round values that are far below half a unit.
inline BlockScale power_scale(float largest, const dv_block_format& f) {
  const int32_t unit = scale_exponent(largest, f) + f.quantum;
  const int32_t shift = -unit > 127 ? 127 : -unit;
  return {power(unit), power(shift), power(-unit - shift)};
}

// To the format of scales, whose smallest step may be subnormal: in double. A number plus
// 1.5 * 2^52 steps is rounded to a multiple of the step.
inline float rounded_scale(float x, const dv_block_format& f) {
  x = x < f.scale_flush ? 0.0f : x;
  const double wide = x, least = wide_power(f.scale_quantum);
  int64_t bits;
  memcpy(&bits, &wide, sizeof bits);
  bits = (bits & 0x7ff0000000000000) - ((int64_t)f.scale_digits << 52); // negative for zero
  double step;
  memcpy(&step, &bits, sizeof step);
  const double magic = 0x1.8p52 * (step > least ? step : least), y = (wide + magic) - magic;
  return y < f.scale_most ? (float)y : f.scale_most;
}

// Each operation is rounded once, in the order that the formats state.
inline BlockScale real_scale(float largest, const dv_block_format& f) {
  const float unit = power(f.quantum), rest = power(-f.quantum);
  float ratio = largest / (float)f.largest;
  if (f.scale == DV_SCALE_QUOTIENT) {
    const float s = rounded_scale(ratio, f);
    return {s * unit, s, rest};
  }
  ratio /= f.whole;
  ratio = ratio > 0x1p-6f ? ratio : 0x1p-6f;
  ratio = ratio < 448.0f ? ratio : 448.0f;
  const float s = rounded_scale(ratio, f);
  return {s * unit, 1.0f / f.whole / s, rest};
}

template <int SCALE> BlockScale block_scale(float largest, const dv_block_format& f) {
  if constexpr (SCALE == DV_SCALE_NONE)
    return {1.0f, 1.0f, 1.0f};
  else
    return SCALE == DV_SCALE_POWER ? power_scale(largest, f) : real_scale(largest, f);
}

} // namespace
