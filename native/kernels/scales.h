// Rounded scales of blocks: from largest magnitudes to what values are divided by.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"
#include "kernels/lanes.h"

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
                float* by, float* reciprocal, float* times) {
  const Floats one = every(1.0f), nan = floats(every(INFINITE + 1 + (1 << 22)));
  const Floats whole = every(rule.whole), inverse = one / whole;
  const float reach = rule.reach, widest = rule.coarse ? 0x1p100f : 0.0f;
  Ints careful{}, zeros{};
  for (int64_t i = 0; i < n; i += LANES) {
    const Floats s = load_up_to(step + i, n - i, 1.0f);
    const Floats most = load_up_to(reinterpret_cast<const float*>(largest) + i, n - i, 0.0f);
    const Floats divisor = s != 0.0f ? s : one, factor = TWO_LEVEL ? whole * s : s;
    Ints quick = factor * reach <= FLT_MAX;
    if (TWO_LEVEL) {
      store(by + i, inverse / divisor);
    } else {
      store(by + i, divisor);
      store(reciprocal + i, one / divisor);
      quick &= (divisor >= 0x1p-60f) & (divisor <= widest) & (most < 0x1p100f) &
               (most <= divisor * 0x1p20f);
    }
    const Ints finite = bits(most) < INFINITE;
    store(times + i, finite ? factor : nan);
    careful |= finite & ~quick;
    zeros |= s == 0.0f;
  }
  return (any_larger(Ints{}, careful) ? dv::CAREFUL : 0) |
         (any_larger(Ints{}, zeros) ? dv::ZEROS : 0);
}

} // namespace
