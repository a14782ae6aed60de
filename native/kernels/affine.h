// Integers with a scale: rounding and clamping in floats.
#pragma once
#include "kernels/bits.h"

namespace {

// Adding 1.5 * 2^23 rounds to an integer, ties to even; clamping first keeps the sum in range.
inline float affine_one(float x, float scale, float low, float high) {
  const float magic = 12582912.0f;
  float v = x / scale;
  v = v == v ? v : 0.0f;
  v = v > low ? v : low;
  v = v < high ? v : high;
  return ((v + magic) - magic) * scale;
}

void affine(const float* x, int64_t n, float scale, float low, float high, float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = affine_one(x[i], scale, low, high);
}

void affines(const float* x, int64_t n, const float* scale, const float* low, const float* high,
             float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = affine_one(x[i], scale[i], low[i], high[i]);
}

} // namespace
