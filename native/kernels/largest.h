// The largest magnitudes of blocks, and the exponents that follow from them.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"
#include "kernels/fold.h"
#include "kernels/round.h"

namespace {

template <typename Float, typename Int> inline Int magnitude(const Float& x) {
  const Int all = (Int)(~(typename Word<Float>::Unsigned)0 >> 1);
  return bits_of<Float, Int>(x) & all;
}

// The lanes' largest magnitudes of a block of `n` registers.
inline Ints largest_by_lane(const float* x, int64_t n) {
  Ints most = bits(load(x)) & MAGNITUDE;
  for (int64_t i = 1; i < n; i++)
    most = larger(most, bits(load(x + i * LANES)) & MAGNITUDE);
  return most;
}

// Of LANES blocks of N registers each; 0: of `n`.
template <int N> inline Ints largest_of_blocks(const float* x, int64_t n) {
  const int64_t each = N ? N : n;
  Ints most[LANES];
  for (int i = 0; !N && i < LANES; i++)
    most[i] = largest_by_lane(x + i * each * LANES, each);
  return fold([&](int i) { return N ? largest_by_lane(x + i * N * LANES, N) : most[i]; },
              [](Ints a, Ints b) { return larger(a, b); });
}

// Blocks of whole registers.
inline void largest_of_whole_runs(const float* x, int64_t runs, int64_t block, int32_t* out) {
  const int64_t n = block / LANES;
  int64_t r = 0;
  for (; r + LANES <= runs; r += LANES, x += LANES * block) {
    const Ints most = n == 1   ? largest_of_blocks<1>(x, n)
                      : n == 2 ? largest_of_blocks<2>(x, n)
                      : n == 4 ? largest_of_blocks<4>(x, n)
                               : largest_of_blocks<0>(x, n);
    memcpy(out + r, &most, sizeof most);
  }
  for (; r < runs; r++, x += block)
    out[r] = largest_lane(largest_by_lane(x, n));
}

template <typename Float, typename Int>
void largest_of_runs(const Float* x, int64_t runs, int64_t block, Int* out) {
  if constexpr (sizeof(Float) == 4)
    if (block % LANES == 0)
      return largest_of_whole_runs(x, runs, block, out);
  for (int64_t r = 0; r < runs; r++, x += block) {
    Int most = 0;
    for (int64_t i = 0; i < block; i++) {
      const Int u = magnitude<Float, Int>(x[i]);
      most = u > most ? u : most;
    }
    out[r] = most;
  }
}

template <typename Float, typename Int>
void largest_so_far(const Float* x, int64_t n, Int* __restrict out) {
  for (int64_t i = 0; i < n; i++) {
    const Int u = magnitude<Float, Int>(x[i]);
    out[i] = u > out[i] ? u : out[i];
  }
}

template <typename Float, typename Int>
int64_t exponents(const Int* largest, int64_t n, const dv::Exponents<Int>& rule,
                  Int* __restrict out) {
  const dv::Exponents<Int> e = rule;
  const Int infinite = Word<Float>::TOP << Word<Float>::FRACTION;
  Int hard = 0;
  for (int64_t i = 0; i < n; i++) {
    const Int u = largest[i] < infinite ? largest[i] : infinite;
    const Int s = dv::exponent_of<Float, Int>(u, e);
    const bool easy = (s >= e.easy_low) & (s <= e.easy_high) & (u < infinite);
    hard += !(easy | (u == 0));
    out[i] = easy ? s : 0;
  }
  return hard;
}

template <typename Int> void repeat(const Int* values, int64_t runs, int64_t block, Int* out) {
  for (int64_t r = 0; r < runs; r++) {
    const Int value = values[r];
    for (int64_t i = 0; i < block; i++)
      *out++ = value;
  }
}

} // namespace
