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

// From the largest magnitudes of blocks to scales relative to their elements and, with two levels,
// to the tensor's scale.
template <bool TWO_LEVEL>
void ratios(const int32_t* largest, int64_t n, const dv::ScaleRule& rule, float* __restrict out) {
  const float element = rule.element, whole = rule.whole;
  for (int64_t i = 0; i < n; i++) {
    const float ratio = float_of<float, int32_t>(largest[i] < INFINITE ? largest[i] : 0) / element;
    if (!TWO_LEVEL) {
      out[i] = ratio;
      continue;
    }
    float r = ratio / whole;
    r = r > 0x1p-6f ? r : 0x1p-6f;
    out[i] = r < 448.0f ? r : 448.0f;
  }
}

// What values are divided by, or with two levels multiplied with, and codes multiplied with. Blocks
// with NaN or an infinity become NaN, which needs no care. Others do where a product may exceed the
// largest float, or where `quotient` (see lanes.h) may not use the divisor's reciprocal: quotients
// below 2^-30 are as good as each other only if `coarse`.
template <bool TWO_LEVEL>
int32_t factors(const int32_t* largest, const float* step, int64_t n, const dv::ScaleRule& rule,
                float* __restrict by, float* __restrict reciprocal, float* __restrict times) {
  const float nan = float_of<float, int32_t>(INFINITE + 1 + (1 << 22));
  const float whole = rule.whole, reach = rule.reach, inverse = 1.0f / whole;
  const float widest = rule.coarse ? 0x1p100f : 0.0f;
  int32_t careful = 0, zeros = 0;
  for (int64_t i = 0; i < n; i++) {
    const float s = step[i], divisor = s != 0 ? s : 1.0f, most = float_of<float, int32_t>(largest[i]);
    const float factor = TWO_LEVEL ? whole * s : s;
    bool near = factor * reach <= FLT_MAX;
    if (TWO_LEVEL) {
      by[i] = inverse / divisor;
    } else {
      by[i] = divisor;
      reciprocal[i] = 1.0f / divisor;
      near = near & (divisor >= 0x1p-60f) & (divisor <= widest) & (most < 0x1p100f) &
             (most <= divisor * 0x1p20f);
    }
    const bool finite = largest[i] < INFINITE;
    times[i] = finite ? factor : nan;
    careful |= finite & !near;
    zeros |= s == 0;
  }
  return (careful ? dv::CAREFUL : 0) | (zeros ? dv::ZEROS : 0);
}

} // namespace
