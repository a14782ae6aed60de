// Rounding to posits on the bits of float32 magnitudes, in plain loops.
//
// Less the exponent of one, a magnitude's bits are a number t whose lowest 23 + es bits are a
// posit's exponent and fraction, and whose other bits are the regime k: what the posit drops is
// what lies below a place of t that depends on k alone. Adding one at that place carries from the
// fraction into exponent and regime, which is what the next posit is.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"

namespace {

template <int MODE> void posit(const float* x, int64_t n, const dv::Posit& format, float* out) {
  const int32_t all = 0x7fffffff, infinite = 0x7f800000, one = 0x3f800000;
  const dv::Posit p = format;
  const int32_t below_regime = 23 + p.es;
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++) {
    int32_t given;
    memcpy(&given, &x[i], sizeof given);
    const int32_t u = given & all, negative = given >> 31;
    int32_t v = u > p.min ? u : p.min;
    v = v < p.max ? v : p.max;
    const int32_t t = v - one, k = t >> below_regime;
    const int32_t regime = (k ^ (k >> 31)) + 2; // its length: k + 2, or 1 - k
    int32_t drop = below_regime - (p.width - 1) + regime;
    drop = drop < below_regime ? drop : below_regime;
    const int32_t step = 1 << drop, rest = t & (step - 1);
    // Where only the regime is left, its last bit tells odd from even: 1 below one, 0 above.
    const int32_t odd = drop < below_regime ? t & step : k & step;
    bool up;
    if (MODE == DV_TIES_TO_EVEN)
      up = 2 * rest + (odd != 0) > step;
    else if (MODE == DV_TIES_TO_AWAY)
      up = 2 * rest >= step;
    else if (MODE == DV_TOWARD_ZERO)
      up = false;
    else if (MODE == DV_TOWARD_POSITIVE)
      up = (rest & ~negative) != 0;
    else if (MODE == DV_TOWARD_NEGATIVE)
      up = (rest & negative) != 0;
    else
      up = (rest != 0) & (odd == 0);
    // Below the smallest posit lies only zero, and nothing is rounded to nearest zero.
    const int32_t tiny = MODE == DV_TOWARD_ZERO       ? 0
                         : MODE == DV_TOWARD_POSITIVE ? p.min & ~negative
                         : MODE == DV_TOWARD_NEGATIVE ? p.min & negative
                                                      : p.min;
    int32_t y = one + t - rest + (up ? step : 0);
    y = u < p.min ? tiny : y;
    y = u == 0 ? 0 : y;
    y = y != 0 ? y | (int32_t)((uint32_t)given & 0x80000000u) : 0;
    y = u > infinite ? given | 0x400000 : y;
    memcpy(&out[i], &y, sizeof y);
  }
}

} // namespace
