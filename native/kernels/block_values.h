// Tiles of outputs whose elements are double numbers, scales in them: exact sums of any two
// operands whose dots are below 2^53 units, or whose rows are split into two parts of which that
// holds.
//
// All partial sums are multiples of one unit (the products of the last bits of two blocks' values)
// and below 2^53 of them, so neither their order nor a fused multiply-add changes a bit. Units are
// at least 2^-300 and sums at most 2^300: never subnormal, never infinite.
#pragma once
#include "kernels/block_dot.h"

namespace {

#if defined(__AVX512BW__)

struct Doubles {
  static constexpr int64_t WIDTH = 8;
  using Wide = __m512d;
  using Half = __m256;
  static Wide load(const double* p) { return _mm512_loadu_pd(p); }
  static Wide all(double x) { return _mm512_set1_pd(x); }
  static Wide multiply_add(Wide x, Wide y, Wide sum) { return _mm512_fmadd_pd(x, y, sum); }
  static void store(double* p, Wide x) { _mm512_storeu_pd(p, x); }
  static void add_to(float* total, Wide term) {
    _mm256_storeu_ps(total, _mm256_add_ps(_mm256_loadu_ps(total), _mm512_cvtpd_ps(term)));
  }
};
constexpr int VALUE_VECTORS = 4, VALUE_ROWS = 6;

#elif defined(__AVX2__)

struct Doubles {
  static constexpr int64_t WIDTH = 4;
  using Wide = __m256d;
  static Wide load(const double* p) { return _mm256_loadu_pd(p); }
  static Wide all(double x) { return _mm256_set1_pd(x); }
  static Wide multiply_add(Wide x, Wide y, Wide sum) { return _mm256_fmadd_pd(x, y, sum); }
  static void store(double* p, Wide x) { _mm256_storeu_pd(p, x); }
  static void add_to(float* total, Wide term) {
    _mm_storeu_ps(total, _mm_add_ps(_mm_loadu_ps(total), _mm256_cvtpd_ps(term)));
  }
};
constexpr int VALUE_VECTORS = 2, VALUE_ROWS = 6;

#else

struct Doubles {
  static constexpr int64_t WIDTH = 2;
  using Wide = double __attribute__((vector_size(16)));
  static Wide load(const double* p) {
    Wide x;
    memcpy(&x, p, sizeof x);
    return x;
  }
  static Wide all(double x) { return Wide{x, x}; }
  static Wide multiply_add(Wide x, Wide y, Wide sum) { return sum + x * y; }
  static void store(double* p, Wide x) { memcpy(p, &x, sizeof x); }
  static void add_to(float* total, Wide term) {
    total[0] += (float)term[0];
    total[1] += (float)term[1];
  }
};
constexpr int VALUE_VECTORS = 2, VALUE_ROWS = 4;

#endif

// Rows that pass one block of lanes while it is in the cache: a multiple of VALUE_ROWS.
constexpr int64_t VALUES_TOGETHER = 48;
static_assert(VALUES_TOGETHER % VALUE_ROWS == 0, "whole tiles");
constexpr int64_t VALUE_LANES = VALUE_VECTORS * Doubles::WIDTH;

template <int ROWS> using ValueSums = Doubles::Wide[ROWS][VALUE_VECTORS];

template <int ROWS>
inline void dot_of_values(const uint8_t* row, int64_t stride, const double* lanes, int64_t length,
                          ValueSums<ROWS>& sum) {
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < VALUE_VECTORS; j++)
      sum[i][j] = Doubles::all(0.0);
  for (int64_t k = 0; k < length; k++, lanes += BLOCK_LANES, row += sizeof(double)) {
    Doubles::Wide x[VALUE_VECTORS];
#pragma GCC unroll 4
    for (int j = 0; j < VALUE_VECTORS; j++)
      x[j] = Doubles::load(lanes + j * Doubles::WIDTH);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
      double one;
      memcpy(&one, row + i * stride, sizeof one);
      const auto y = Doubles::all(one);
#pragma GCC unroll 4
      for (int j = 0; j < VALUE_VECTORS; j++)
        sum[i][j] = Doubles::multiply_add(x[j], y, sum[i][j]);
    }
  }
}

// The sum of two doubles, rounded to odd, and that to float: one rounding to nearest of the exact
// sum, as 53 bits are more than two beyond a float's 24.
inline float sum_of_parts(double high, double low) {
  const double sum = high + low, part = sum - high;
  const double rest = (high - (sum - part)) + (low - part);
  int64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  const int64_t even = (bits & 1) == 0 && rest != 0;
  bits += (rest > 0) == (sum > 0) ? even : -even;
  double odd;
  memcpy(&odd, &bits, sizeof odd);
  return (float)odd;
}

// Adds the terms of one block to `total` [row][lane].
template <int ROWS>
void add_values(const dv::BlockDot& d, const uint8_t* row, bool split, const double* lanes,
                float* total) {
  const int64_t length = d.units / 2;
  for (int64_t half = 0; half < BLOCK_LANES; half += VALUE_LANES) {
    ValueSums<ROWS> sum;
    dot_of_values<ROWS>(row, d.row_stride, lanes + half, length, sum);
    if (!split) {
#pragma GCC unroll 8
      for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
        for (int j = 0; j < VALUE_VECTORS; j++)
          Doubles::add_to(total + i * BLOCK_LANES + half + j * Doubles::WIDTH, sum[i][j]);
      continue;
    }
    double high[ROWS][VALUE_LANES], low[ROWS][VALUE_LANES];
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < VALUE_VECTORS; j++)
        Doubles::store(high[i] + j * Doubles::WIDTH, sum[i][j]);
    dot_of_values<ROWS>(row + d.low, d.row_stride, lanes + half, length, sum);
    for (int i = 0; i < ROWS; i++)
      for (int j = 0; j < VALUE_VECTORS; j++)
        Doubles::store(low[i] + j * Doubles::WIDTH, sum[i][j]);
    for (int i = 0; i < ROWS; i++)
      for (int64_t j = 0; j < VALUE_LANES; j++)
        total[i * BLOCK_LANES + half + j] += sum_of_parts(high[i][j], low[i][j]);
  }
}

template <int ROWS>
void values_of_rows(const dv::BlockDot& d, int64_t rows, float* out, int64_t stride) {
  alignas(64) float total[VALUES_TOGETHER * BLOCK_LANES];
  memset(total, 0, sizeof total);
  for_blocks(d, [&](const uint8_t* row, const float* row_scale, const uint8_t* lanes, const float*,
                    const int32_t*) {
    for (int64_t i = 0; i < rows; i += ROWS) {
      bool split = false;
      for (int64_t r = i; d.low && r < i + ROWS; r++)
        split |= row_scale[r] == 2.0f;
      add_values<ROWS>(d, row + i * d.row_stride, split, reinterpret_cast<const double*>(lanes),
                       total + i * BLOCK_LANES);
    }
  });
  for (int64_t i = 0; i < rows; i++) {
    finish_row(total + i * BLOCK_LANES, d.factor, d.bias, BLOCK_LANES);
    memcpy(out + i * stride, total + i * BLOCK_LANES, BLOCK_LANES * sizeof(float));
  }
}

void values(const dv::BlockDot& d, int64_t rows, float* out, int64_t stride) {
  if (rows == 1)
    values_of_rows<1>(d, rows, out, stride);
  else
    values_of_rows<VALUE_ROWS>(d, rows, out, stride);
}

constexpr dv::BlockForm VALUES = {8,
                                  0,
                                  dv::Elements::VALUES,
                                  INT32_MAX,
                                  53,
                                  INT64_MAX,
                                  false,
                                  VALUES_TOGETHER,
                                  1,
                                  block_nothing,
                                  block_nothing,
                                  values};

} // namespace
