// As many float64 lanes as one register of the level holds. Comparisons give lanes of all bits or
// none, which `?:` chooses by.
#pragma once
#include "kernels/simd.h"

namespace {

#if defined(__AVX512F__)
constexpr int WIDE = 8;
#elif defined(__AVX2__)
constexpr int WIDE = 4;
#else
constexpr int WIDE = 2;
#endif

typedef double Doubles __attribute__((vector_size(8 * WIDE)));
typedef int64_t Longs __attribute__((vector_size(8 * WIDE)));
typedef uint64_t Bits64 __attribute__((vector_size(8 * WIDE)));

constexpr int64_t SIZE64 = INT64_MAX; // all bits but the sign
constexpr double ROUNDER = 0x1.8p52;  // what is added to it is rounded to an integer
constexpr double BEYOND = __builtin_inf();

inline Doubles load(const double* x) {
  Doubles v;
  memcpy(&v, x, sizeof v);
  return v;
}
inline void store(double* out, Doubles v) { memcpy(out, &v, sizeof v); }

inline Doubles all(double x) { return x - Doubles{}; } // keeps -0
inline Longs bits(Doubles v) { return (Longs)v; }
inline Doubles doubles(Longs v) { return (Doubles)v; }

inline Doubles magnitude(Doubles x) { return doubles(bits(x) & SIZE64); }
inline Doubles with_sign(Doubles size, Doubles of) {
  return doubles((bits(size) & SIZE64) | (bits(of) & ~SIZE64));
}

// Held between limits; NaN passes, as the second operand of these instructions does.
#if defined(__AVX512F__)
inline Doubles at_most(Doubles x, Doubles high) {
  return (Doubles)_mm512_min_pd((__m512d)high, (__m512d)x);
}
inline Doubles at_least(Doubles x, Doubles low) {
  return (Doubles)_mm512_max_pd((__m512d)low, (__m512d)x);
}
#elif defined(__AVX2__)
inline Doubles at_most(Doubles x, Doubles high) {
  return (Doubles)_mm256_min_pd((__m256d)high, (__m256d)x);
}
inline Doubles at_least(Doubles x, Doubles low) {
  return (Doubles)_mm256_max_pd((__m256d)low, (__m256d)x);
}
#else
inline Doubles at_most(Doubles x, Doubles high) { return x > high ? high : x; }
inline Doubles at_least(Doubles x, Doubles low) { return x < low ? low : x; }
#endif

// The nearest integer, for |x| < 2^51; ties to even.
inline Doubles nearest(Doubles x) { return (x + ROUNDER) - ROUNDER; }

// The largest integer that is not above x, any x; zeros keep their sign.
inline Doubles floored(Doubles x) {
#if defined(__AVX512F__)
  return (Doubles)_mm512_roundscale_pd((__m512d)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
  return (Doubles)_mm256_floor_pd((__m256d)x);
#endif
  const Doubles size = magnitude(x), near = with_sign((size + 0x1p52) - 0x1p52, x);
  return size >= 0x1p52 ? x : near > x ? near - 1.0 : near;
}

// 2^k of an integer from -1022 to 1023; of anything else something.
inline Doubles power_of_two(Doubles k) {
  return doubles((Longs)((Bits64)bits(k + (ROUNDER + 1023.0)) << 52));
}

// x * 2^k of an integer k, limited to -2040..2040: in two halves, so that neither power overflows
// and only a subnormal result is rounded. NaN where x is NaN.
inline Doubles shifted(Doubles x, Doubles k) {
  k = at_least(at_most(k, all(2040.0)), all(-2040.0));
  const Doubles half = nearest(k * 0.5 - 0.25); // rounded down
  return x * power_of_two(half) * power_of_two(k - half);
}

// Whether any lane is all bits.
inline bool any(Longs mask) {
#if defined(__AVX512F__)
  return _mm512_movepi64_mask((__m512i)mask) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_pd((__m256d)mask) != 0;
#else
  return (mask[0] | mask[1]) != 0;
#endif
}

// x / by, given fl(1 / by). Where there are fused multiply-adds the quotient takes five of them
// instead of a division: with q1 within one last place of it, q1 + fl(x - by * q1) * fl(1 / by) is
// the rounded quotient (Markstein, IBM J. Res. Dev. 34, 1990), as long as nothing over- or
// underflows. q0 is within 1.5 last places, q1 within little more than half a one. With |x| at
// least 2^-900 and |by| within 2^-60..2^60, x - by * q1 is a multiple of 2^-1067; zeros give zero.
// All others are divided.
inline Doubles quotient(Doubles x, double by, double inverse) {
#if defined(__FMA__)
  const Doubles size = magnitude(x);
  const Longs usual = ((size >= 0x1p-900) & (size <= 0x1p900)) | (Longs)(size == 0.0);
  if (by >= 0x1p-60 && by <= 0x1p60 && !any(~usual)) {
#if defined(__AVX512F__)
    const __m512d v = (__m512d)x, d = _mm512_set1_pd(by), r = _mm512_set1_pd(inverse);
    const __m512d q0 = _mm512_mul_pd(v, r), q1 = _mm512_fmadd_pd(_mm512_fnmadd_pd(d, q0, v), r, q0);
    const Doubles q = (Doubles)_mm512_fmadd_pd(_mm512_fnmadd_pd(d, q1, v), r, q1);
#else
    const __m256d v = (__m256d)x, d = _mm256_set1_pd(by), r = _mm256_set1_pd(inverse);
    const __m256d q0 = _mm256_mul_pd(v, r), q1 = _mm256_fmadd_pd(_mm256_fnmadd_pd(d, q0, v), r, q0);
    const Doubles q = (Doubles)_mm256_fmadd_pd(_mm256_fnmadd_pd(d, q1, v), r, q1);
#endif
    return with_sign(q, x);
  }
#endif
  (void)inverse;
  return x / by;
}

// row[place] of a row that can be read up to the next multiple of 16; places are below `count`.
inline Doubles entry(const double* row, Longs place, int32_t count) {
  if (count == 1)
    return all(row[0]);
#if defined(__AVX512F__)
  const __m512i at = (__m512i)place;
  if (count <= 8)
    return (Doubles)_mm512_permutexvar_pd(at, _mm512_loadu_pd(row));
  if (count <= 16)
    return (Doubles)_mm512_permutex2var_pd(_mm512_loadu_pd(row), at, _mm512_loadu_pd(row + 8));
  return (Doubles)_mm512_i64gather_pd(at, row, 8);
#elif defined(__AVX2__)
  return (Doubles)_mm256_i64gather_pd(row, (__m256i)place, 8);
#else
  Doubles v;
  for (int i = 0; i < WIDE; i++)
    v[i] = row[place[i]];
  return v;
#endif
}

// Rounding of intermediate results, one class per kind.
struct Kept {
  explicit Kept(const dv_rounding&) {}
  Doubles operator()(Doubles x) const { return x; }
};

struct Single {
  explicit Single(const dv_rounding&) {}
  Doubles operator()(Doubles x) const {
    typedef float Floats __attribute__((vector_size(4 * WIDE)));
    return __builtin_convertvector(__builtin_convertvector(x, Floats), Doubles);
  }
};

// Adding 2^(52 - mantissa) times a number's power of two, and subtracting it again, leaves the bits
// that the format has: the sum lies between that and twice that, whose last place is the format's.
struct Floating {
  int64_t first, last, up;
  double high, over, infinite;
  bool same;

  explicit Floating(const dv_rounding& r)
      : first(exponent(r.least)), last(exponent(r.high)), up((int64_t)(52 - r.mantissa) << 52),
        high(r.high), over(r.over), infinite(r.infinite), same(r.over == r.infinite) {}

  Doubles operator()(Doubles x) const {
    const Doubles size = magnitude(x);
    Longs e = bits(size) & TOP;
    e = e > first ? e : first - Longs{};
    e = e < last ? e : last - Longs{}; // beyond, any result is beyond
    const Doubles magic = doubles(e + up);
    Doubles y = (size + magic) - magic;
    y = y > high ? all(over) : y; // infinities too
    if (!same)
      y = size == BEYOND ? all(infinite) : y;
    return with_sign(y, x);
  }

private:
  static constexpr int64_t TOP = INT64_C(0x7ff) << 52;
  static int64_t exponent(double x) {
    int64_t u;
    memcpy(&u, &x, sizeof u);
    return u & TOP;
  }
};

struct Stepped {
  double step, magic, low, high;

  explicit Stepped(const dv_rounding& r)
      : step(r.least), magic(ROUNDER * r.least), low(r.low), high(r.high) {}

  Doubles operator()(Doubles x) const {
    // One step beyond a limit is as good as anything there, and has no more than 51 bits.
    const Doubles v = at_least(at_most(x, all(high + step)), all(low - step));
    return at_least(at_most((v + magic) - magic, all(high)), all(low)) + 0.0;
  }
};

} // namespace
