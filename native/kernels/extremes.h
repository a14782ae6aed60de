// The smallest and largest values of blocks; what is not finite counts as 0.
#pragma once
#include "kernels/bits.h"
#include "kernels/lanes.h"

namespace {

struct Extremes {
  Floats low, high;

  void take(Floats x) {
    const Floats v = (bits(x) & MAGNITUDE) < INFINITE ? x : Floats{};
    low = v < low ? v : low;
    high = v > high ? v : high;
  }
};

// Of n >= 1 values.
inline Extremes extremes_of(const float* x, int64_t n) {
  const Floats any = every(x[0]), v = (bits(any) & MAGNITUDE) < INFINITE ? any : Floats{};
  Extremes even = {v, v}, odd = {v, v};
  int64_t i = 0;
  for (; i + 2 * LANES <= n; i += 2 * LANES) {
    even.take(load(x + i));
    odd.take(load(x + i + LANES));
  }
  if (i + LANES <= n) {
    even.take(load(x + i));
    i += LANES;
  }
  if (i < n)
    even.take(load_part(x + i, n - i, x[0]));
  even.take(odd.low);
  even.take(odd.high);
  return even;
}

// The ends of a register's lanes; +0 where they are zeros of either sign.
inline void ends_of(const Extremes& e, float* low, float* high) {
#if defined(__AVX512F__)
  *low = _mm512_reduce_min_ps((__m512)e.low) + 0.0f;
  *high = _mm512_reduce_max_ps((__m512)e.high) + 0.0f;
#else
  float l = e.low[0], h = e.high[0];
  for (int i = 1; i < LANES; i++) {
    l = e.low[i] < l ? e.low[i] : l;
    h = e.high[i] > h ? e.high[i] : h;
  }
  *low = l + 0.0f;
  *high = h + 0.0f;
#endif
}

void extremes_of_runs(const float* x, int64_t runs, int64_t block, float* low, float* high) {
  for (int64_t r = 0; r < runs; r++)
    ends_of(extremes_of(x + r * block, block), low + r, high + r);
}

void extremes_so_far(const float* x, int64_t n, float* __restrict low, float* __restrict high) {
  for (int64_t i = 0; i < n; i++) {
    const float v = (bits_of<float, int32_t>(x[i]) & MAGNITUDE) < INFINITE ? x[i] : 0.0f;
    low[i] = v < low[i] ? v : low[i];
    high[i] = v > high[i] ? v : high[i];
  }
}

} // namespace
