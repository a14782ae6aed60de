// The smallest and largest values of blocks; what is not finite counts as 0.
#pragma once
#include "kernels/bits.h"
#include "kernels/fold.h"

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

// The span of values and 0; NaN does not count, but infinities do.
struct Span {
  Floats low{}, high{};

  void take(Floats v) { // NaN as the first operand gives the second
    low = at_most(low, v);
    high = at_least(high, v);
  }
  bool infinite() const { return any_larger(bits(high - low), every(INFINITE - 1)); }
};

template <int N> inline Span span_of(const float* x, int64_t n) {
  Span s;
  for (int64_t i = 0; i < (N ? N : n); i++)
    s.take(load(x + i * LANES));
  return s;
}

// Of LANES blocks of N registers each; 0: of `n`.
template <int N> inline Span spans_of_blocks(const float* x, int64_t n) {
  Ints low[LANES], high[LANES];
  for (int i = 0; i < LANES; i++) {
    const Span s = span_of<N>(x + i * (N ? N : n) * LANES, n);
    low[i] = bits(s.low);
    high[i] = bits(s.high);
  }
  Span all;
  all.low = floats(fold([&](int i) { return low[i]; },
                        [](Ints a, Ints b) { return bits(at_most(floats(a), floats(b))); }));
  all.high = floats(fold([&](int i) { return high[i]; },
                         [](Ints a, Ints b) { return bits(at_least(floats(a), floats(b))); }));
  return all;
}

// The spans of blocks, if these are whole registers and have no infinities.
bool spans_of_runs(const float* x, int64_t runs, int64_t block, float* low, float* high) {
  const int64_t n = block / LANES;
  if (block % LANES != 0)
    return false;
  int64_t r = 0;
  for (; r + LANES <= runs; r += LANES, x += LANES * block) {
    const Span s = n == 1   ? spans_of_blocks<1>(x, n)
                   : n == 2 ? spans_of_blocks<2>(x, n)
                   : n == 4 ? spans_of_blocks<4>(x, n)
                            : spans_of_blocks<0>(x, n);
    if (s.infinite())
      return false;
    store(low + r, s.low);
    store(high + r, s.high);
  }
  for (; r < runs; r++, x += block) {
    const Span s = span_of<0>(x, n);
    if (s.infinite())
      return false;
    ends_of({s.low, s.high}, low + r, high + r);
  }
  return true;
}

// Of columns, `rows` of them `stride` apart, and what was found before.
void extremes_so_far(const float* x, int64_t rows, int64_t stride, int64_t n, float* low,
                     float* high) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    Extremes e = {load(low + i), load(high + i)};
    for (int64_t r = 0; r < rows; r++) {
      e.take(load(x + r * stride + i));
      __builtin_prefetch(x + (r + rows) * stride + i);
    }
    store(low + i, e.low);
    store(high + i, e.high);
  }
  if (i == n)
    return;
  Extremes e = {load_part(low + i, n - i, 0), load_part(high + i, n - i, 0)};
  for (int64_t r = 0; r < rows; r++)
    e.take(load_part(x + r * stride + i, n - i, 0));
  store_part(low + i, n - i, e.low);
  store_part(high + i, n - i, e.high);
}

} // namespace
