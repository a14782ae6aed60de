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
inline Floats converted(Ints v) { return __builtin_convertvector(v, Floats); }
inline Ints converted(Floats v) { return __builtin_convertvector(v, Ints); } // towards zero
inline Ints every(int32_t x) { return x - Ints{}; }
inline Floats every(float x) { return x - Floats{}; } // keeps -0

// The first `n` lanes of a register from memory, the others `rest`.
inline Floats load_part(const float* x, int64_t n, float rest) {
#if defined(__AVX512F__)
  return (Floats)_mm512_mask_loadu_ps(_mm512_set1_ps(rest), (__mmask16)((1u << n) - 1), x);
#else
  Floats v = every(rest);
  memcpy(&v, x, (size_t)n * sizeof *x);
  return v;
#endif
}
// As many lanes as there are, `n` at most.
inline Floats load_up_to(const float* x, int64_t n, float rest) {
  return n >= LANES ? load(x) : load_part(x, n, rest);
}
inline void store_part(float* out, int64_t n, Floats v) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(out, (__mmask16)((1u << n) - 1), (__m512)v);
#else
  memcpy(out, &v, (size_t)n * sizeof *out);
#endif
}

// Modulo 2^32: lanes whose result is not used may overflow.
inline Ints sum(Ints a, Ints b) { return (Ints)((Words)a + (Words)b); }
inline Ints sum(Ints a, int32_t b) { return sum(a, every(b)); }
// What 2^exponent adds to a number's bits.
inline Ints scaling(Ints exponent) { return (Ints)((Words)exponent << 23); }

#if defined(__AVX512F__)
inline Floats fused(Floats a, Floats b, Floats c) { // a * b + c
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
inline Floats fused_less(Floats c, Floats a, Floats b) { // c - a * b
  return (Floats)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
#elif defined(__FMA__)
inline Floats fused(Floats a, Floats b, Floats c) {
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
inline Floats fused_less(Floats c, Floats a, Floats b) {
  return (Floats)_mm256_fnmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
#endif

inline Ints larger(Ints a, Ints b) { return a > b ? a : b; }
inline Ints smaller(Ints a, Ints b) { return a < b ? a : b; }

// `x` held between two limits; NaN passes: the instructions give their second operand then.
#if defined(__AVX512F__)
inline Floats at_most(Floats x, Floats high) {
  return (Floats)_mm512_min_ps((__m512)high, (__m512)x);
}
inline Floats at_least(Floats x, Floats low) {
  return (Floats)_mm512_max_ps((__m512)low, (__m512)x);
}
#elif defined(__AVX2__)
inline Floats at_most(Floats x, Floats high) {
  return (Floats)_mm256_min_ps((__m256)high, (__m256)x);
}
inline Floats at_least(Floats x, Floats low) {
  return (Floats)_mm256_max_ps((__m256)low, (__m256)x);
}
#elif defined(__SSE2__)
inline Floats at_most(Floats x, Floats high) { return (Floats)_mm_min_ps((__m128)high, (__m128)x); }
inline Floats at_least(Floats x, Floats low) { return (Floats)_mm_max_ps((__m128)low, (__m128)x); }
#else
inline Floats at_most(Floats x, Floats high) { return high < x ? high : x; }
inline Floats at_least(Floats x, Floats low) { return low > x ? low : x; }
#endif

// Whether a > b in any lane.
inline bool any_larger(Ints a, Ints b) {
#if defined(__AVX512F__)
  return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b) != 0;
#else
  const Ints v = a > b;
#if defined(__AVX2__)
  return _mm256_movemask_ps((__m256)v) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)v) != 0;
#else
  return (v[0] | v[1] | v[2] | v[3]) != 0;
#endif
#endif
}

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

// x / by, given fl(1 / by). Where there are fused multiply-adds the quotient takes five of them
// instead of a division three times as long: with q1 within one last place of it, q1 + fl(x - by *
// q1) * fl(1 / by) is the rounded quotient (Markstein, IBM J. Res. Dev. 34, 1990), as long as
// nothing over- or underflows. q0 is within 1.5 last places (two roundings), q1 within little more
// than half a one. With |x| and |q| at least 2^-100 nothing underflows: x - by * q1 is a multiple
// of 2^-47 * 2^exponent(x). Below, q is some number below 2^-30 of x's sign (divisors are
// positive), or a zero of either sign: who gives an inverse sees to it that such numbers are as
// good as each other, that by >= 2^-60, and that no quotient exceeds 2^100.
inline Floats quotient(Floats x, Floats by, Floats inverse) {
#if defined(__FMA__)
  const Floats q0 = x * inverse, q1 = fused(fused_less(x, by, q0), inverse, q0);
  return fused(fused_less(x, by, q1), inverse, q1);
#else
  (void)inverse;
  return x / by;
#endif
}

// out[i] = of(x[i..], i) for all places, LANES at a time.
template <typename Of> inline void lane_by_lane(const float* x, int64_t n, float* out, Of&& of) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    store(out + i, of(load(x + i), i));
  if (i == n)
    return;
  store_part(out + i, n - i, of(load_part(x + i, n - i, 0.0f), i));
}

} // namespace
