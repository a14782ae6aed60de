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

// The lanes' largest magnitudes of a block of whole registers.
inline Ints largest_by_lane(const float* x, int64_t block) {
  Ints most{};
  for (int64_t i = 0; i < block; i += LANES)
    most = larger(most, bits(load(x + i)) & MAGNITUDE);
  return most;
}

#if defined(__AVX512F__)

// Of two registers each: the larger of neighbouring 32-bit, 64-bit or 128-bit parts, those of `a`
// and `b` in turn.
inline __m512i larger32(__m512i a, __m512i b) {
  return _mm512_max_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}
inline __m512i larger64(__m512i a, __m512i b) {
  return _mm512_max_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
inline __m512i larger128(__m512i a, __m512i b) {
  return _mm512_max_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

// Of sixteen blocks: half the shuffles of one block after the other.
inline void largest_of_sixteen(const float* x, int64_t block, int32_t* out) {
  __m512i four[4];
  for (int i = 0; i < 4; i++) {
    __m512i one[4];
    for (int j = 0; j < 4; j++)
      one[j] = (__m512i)largest_by_lane(x + (4 * i + j) * block, block);
    // lanes 4k + j: block j's largest of lanes 4k..4k+3
    four[i] = larger64(larger32(one[0], one[1]), larger32(one[2], one[3]));
  }
  _mm512_storeu_si512(out, larger128(larger128(four[0], four[1]), larger128(four[2], four[3])));
}

#endif

// Blocks of whole registers.
inline void largest_of_whole_runs(const float* x, int64_t runs, int64_t block, int32_t* out) {
  int64_t r = 0;
#if defined(__AVX512F__)
  for (; r + 16 <= runs; r += 16)
    largest_of_sixteen(x + r * block, block, out + r);
#endif
  for (; r < runs; r++)
    out[r] = largest_lane(largest_by_lane(x + r * block, block));
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
