// As many float32 or int32 lanes as one register of the level holds. Comparisons give lanes of all
// bits or none, which `?:` chooses by.
#pragma once
#include "kernels/simd.h"

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

inline Floats load(const float* x) {
  Floats v;
  memcpy(&v, x, sizeof v);
  return v;
}

inline Ints load(const int32_t* x) {
  Ints v;
  memcpy(&v, x, sizeof v);
  return v;
}

inline void store(float* out, Floats v) { memcpy(out, &v, sizeof v); }

inline Ints bits(Floats v) { return (Ints)v; }
inline Floats floats(Ints v) { return (Floats)v; }
inline Ints every(int32_t x) { return x - Ints{}; }
inline Floats every(float x) { return x - Floats{}; } // keeps -0

// Modulo 2^32: lanes whose result is not used may overflow.
inline Ints sum(Ints a, Ints b) { return (Ints)((Words)a + (Words)b); }
inline Ints sum(Ints a, int32_t b) { return sum(a, every(b)); }
// What 2^exponent adds to a number's bits.
inline Ints scaling(Ints exponent) { return (Ints)((Words)exponent << 23); }

inline Ints larger(Ints a, Ints b) { return a > b ? a : b; }
inline Ints smaller(Ints a, Ints b) { return a < b ? a : b; }

// `x` held between two limits; NaN passes.
inline Floats at_most(Floats x, Floats high) { return high < x ? high : x; }
inline Floats at_least(Floats x, Floats low) { return low > x ? low : x; }

inline int32_t largest_lane(Ints v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_epi32((__m512i)v);
#elif defined(__AVX2__)
  const __m256i w = (__m256i)v;
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
#else
  const int32_t a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
  return a > b ? a : b;
#endif
}

// out[i] = of(x[i..], i) for all places, LANES at a time; the last ones go through a copy.
template <typename Of> inline void lane_by_lane(const float* x, int64_t n, float* out, Of&& of) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    store(out + i, of(load(x + i), i));
  if (i == n)
    return;
  float rest[LANES] = {};
  memcpy(rest, x + i, (size_t)(n - i) * sizeof *x);
  store(rest, of(load(rest), i));
  memcpy(out + i, rest, (size_t)(n - i) * sizeof *x);
}

} // namespace
