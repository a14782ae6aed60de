// The largest magnitudes of blocks, and the exponents that follow from them.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"
#include "kernels/lanes.h"
#include "kernels/round.h"

namespace {

template <typename Float, typename Int> inline Int magnitude(const Float& x) {
  const Int all = (Int)(~(typename Word<Float>::Unsigned)0 >> 1);
  return bits_of<Float, Int>(x) & all;
}

// Blocks of whole registers.
inline void largest_of_whole_runs(const float* x, int64_t runs, int64_t block, int32_t* out) {
  for (int64_t r = 0; r < runs; r++) {
    Ints most{};
    for (int64_t i = 0; i < block; i += LANES, x += LANES)
      most = larger(most, bits(load(x)) & MAGNITUDE);
    out[r] = largest_lane(most);
  }
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
