// Rounded scales of blocks: from largest magnitudes to what values are divided by.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"

namespace {

int32_t largest_finite(const int32_t* largest, int64_t n) {
  int32_t most = 0;
  for (int64_t i = 0; i < n; i++) {
    const int32_t u = largest[i] < INFINITE ? largest[i] : 0;
    most = u > most ? u : most;
  }
  return most;
}

// From the largest magnitudes of blocks to scales relative to their elements and the tensor.
void ratios(const int32_t* largest, int64_t n, float element, bool two_level, float whole,
            float* out) {
  for (int64_t i = 0; i < n; i++) {
    const float ratio = float_of<float, int32_t>(largest[i] < INFINITE ? largest[i] : 0) / element;
    float r = ratio / whole;
    r = r > 0x1p-6f ? r : 0x1p-6f;
    r = r < 448.0f ? r : 448.0f;
    out[i] = two_level ? r : ratio;
  }
}

// What values are divided by (or multiplied with, at two levels), and codes multiplied with. Blocks
// with NaN or an infinity become NaN. The reciprocal of the divisor where `quotient` may use it
// (see lanes.h), if quotients below 2^-30 are as good as each other (`coarse`); else NaN.
void factors(const int32_t* largest, const float* step, int64_t n, bool two_level, float whole,
             bool coarse, float* by, float* reciprocal, float* times) {
  const float nan = float_of<float, int32_t>(INFINITE + 1 + (1 << 22)), inverse = 1.0f / whole;
  const float widest = coarse ? 0x1p100f : 0.0f;
  for (int64_t i = 0; i < n; i++) {
    const float s = step[i], divisor = s != 0 ? s : 1.0f;
    const float quotient = inverse / divisor;
    const float most = float_of<float, int32_t>(largest[i]);
    const bool near = (divisor >= 0x1p-60f) & (divisor <= widest) & (most < 0x1p100f) &
                      (most <= divisor * 0x1p20f);
    by[i] = two_level ? quotient : divisor;
    reciprocal[i] = near ? 1.0f / divisor : nan;
    const float factor = two_level ? whole * s : s;
    times[i] = largest[i] < INFINITE ? factor : nan;
  }
}

} // namespace
