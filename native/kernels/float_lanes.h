// Vectors of lanes: the operations that tiles of floats need, at each instruction-set level.
#pragma once
#include "kernels/simd.h"

namespace {

#if defined(__AVX512F__)

constexpr int64_t FLOAT_LANES = 64, FLOAT_ROWS = 6, TABLE_ROWS = 4, WIDTH = 16;
constexpr int32_t SMALL_MANTISSA = 4;

using Words = __m512i;
using Floats = __m512;
using Mask = __mmask16;
using TableRow = __m512;

inline Words load(const uint32_t* p) { return _mm512_loadu_si512(p); }
inline Words all(uint32_t x) { return _mm512_set1_epi32((int32_t)x); }
inline Floats all(float x) { return _mm512_set1_ps(x); }
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
inline Floats floats(Words x) { return _mm512_castsi512_ps(x); }
inline Words plus(Words x, Words y) { return _mm512_add_epi32(x, y); }
inline Words both(Words x, Words y) { return _mm512_and_si512(x, y); }
inline Mask even(Words x) { return _mm512_testn_epi32_mask(x, _mm512_set1_epi32(1)); }
inline Floats times(Floats x, Floats y) { return _mm512_mul_ps(x, y); }
inline Floats multiply_add(Floats x, Floats y, Floats sum) { return _mm512_fmadd_ps(x, y, sum); }
inline Floats multiply_add_where(Mask some, Floats x, Floats y, Floats sum) {
  return _mm512_mask3_fmadd_ps(x, y, sum, some);
}
inline TableRow scaled_row(const float* p, float power) {
  return _mm512_mul_ps(_mm512_loadu_ps(p), _mm512_set1_ps(power));
}
inline Floats look_up(TableRow row, Words place) { return _mm512_permutexvar_ps(place, row); }
inline Floats gather(const float* p, Words place) { return _mm512_i32gather_ps(place, p, 4); }

#elif defined(__AVX2__)

constexpr int64_t FLOAT_LANES = 16, FLOAT_ROWS = 4, TABLE_ROWS = 4, WIDTH = 8;
constexpr int32_t SMALL_MANTISSA = 3;

using Words = __m256i;
using Floats = __m256;
using Mask = __m256;
using TableRow = __m256;

inline Words load(const uint32_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline Words all(uint32_t x) { return _mm256_set1_epi32((int32_t)x); }
inline Floats all(float x) { return _mm256_set1_ps(x); }
inline void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
inline Floats floats(Words x) { return _mm256_castsi256_ps(x); }
inline Words plus(Words x, Words y) { return _mm256_add_epi32(x, y); }
inline Words both(Words x, Words y) { return _mm256_and_si256(x, y); }
inline Mask even(Words x) {
  const Words odd = _mm256_and_si256(x, _mm256_set1_epi32(1));
  return floats(_mm256_cmpeq_epi32(odd, _mm256_setzero_si256()));
}
inline Floats times(Floats x, Floats y) { return _mm256_mul_ps(x, y); }
inline Floats multiply_add(Floats x, Floats y, Floats sum) { return _mm256_fmadd_ps(x, y, sum); }
inline Floats multiply_add_where(Mask some, Floats x, Floats y, Floats sum) {
  return _mm256_fmadd_ps(_mm256_and_ps(x, some), y, sum);
}
inline TableRow scaled_row(const float* p, float power) {
  return _mm256_mul_ps(_mm256_loadu_ps(p), _mm256_set1_ps(power));
}
inline Floats look_up(TableRow row, Words place) { return _mm256_permutevar8x32_ps(row, place); }
inline Floats gather(const float* p, Words place) { return _mm256_i32gather_ps(p, place, 4); }

#else

constexpr int64_t FLOAT_LANES = 8, FLOAT_ROWS = 2, TABLE_ROWS = 2, WIDTH = 4;
constexpr int32_t SMALL_MANTISSA = 10;

struct Words {
  uint32_t at[WIDTH];
};
struct Floats {
  float at[WIDTH];
};
using Mask = Words;
struct TableRow {
  const float* table;
  float power;
};

inline Words load(const uint32_t* p) {
  Words x;
  memcpy(&x, p, sizeof x);
  return x;
}
inline Words all(uint32_t x) { return {{x, x, x, x}}; }
inline Floats all(float x) { return {{x, x, x, x}}; }
inline void store(float* p, Floats x) { memcpy(p, &x, sizeof x); }
inline Floats floats(Words x) {
  Floats y;
  memcpy(&y, &x, sizeof y);
  return y;
}
template <typename F> inline Words each_word(F f) { return {{f(0), f(1), f(2), f(3)}}; }
template <typename F> inline Floats each(F f) { return {{f(0), f(1), f(2), f(3)}}; }
inline Words plus(Words x, Words y) {
  return each_word([&](int i) { return x.at[i] + y.at[i]; });
}
inline Words both(Words x, Words y) {
  return each_word([&](int i) { return x.at[i] & y.at[i]; });
}
inline Mask even(Words x) {
  return each_word([&](int i) { return (x.at[i] & 1) - 1; });
}
inline Floats times(Floats x, Floats y) {
  return each([&](int i) { return x.at[i] * y.at[i]; });
}
inline Floats multiply_add(Floats x, Floats y, Floats sum) {
  return each([&](int i) { return sum.at[i] + x.at[i] * y.at[i]; });
}
inline Floats multiply_add_where(Mask some, Floats x, Floats y, Floats sum) {
  Words word;
  memcpy(&word, &x, sizeof word);
  return multiply_add(floats(both(word, some)), y, sum);
}
inline TableRow scaled_row(const float* p, float power) { return {p, power}; }
inline Floats look_up(TableRow row, Words word) {
  return each([&](int i) { return row.table[word.at[i] & 0x3ff] * row.power; });
}
inline Floats gather(const float* p, Words place) {
  return each([&](int i) { return p[place.at[i]]; });
}

#endif

} // namespace
