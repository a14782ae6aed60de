// The loops of the casts. Compiled once per instruction-set level; DV_LEVEL names it (see
// CMakeLists.txt). Plain loops without branches: the compiler vectorises them at every level.
#include "kernels/casts.h"

#include "kernels/philox.h"
#include "kernels/round.h"
#include "kernels/steps.h"

#include <float.h>

#define DV_JOIN2(a, b) a##b
#define DV_JOIN(a, b) DV_JOIN2(a, b)
#define DV_STRING2(a) #a
#define DV_STRING(a) DV_STRING2(a)
// Input and output may be the same memory, element by element, but overlap in no other way.
#define DV_ELEMENTWISE _Pragma("GCC ivdep")

namespace {

const int32_t INFINITE = 0x7f800000; // the bits of a float32 infinity

template <typename Float, typename Int> inline Int bits_of(const Float& x) {
  Int bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

template <typename Float, typename Int> inline Float float_of(const Int& bits) {
  Float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

template <typename Float, typename Int, int MODE, int KIND>
void element(const Float* x, int64_t n, const uint32_t* random, const dv::Grid<Int>& grid,
             Float* out) {
  const dv::Grid<Int> g = grid; // a copy: stores to `out` cannot change it
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++) {
    const uint32_t word = MODE == DV_STOCHASTIC ? random[i] : 0;
    out[i] =
        float_of<Float, Int>(round_element<Float, MODE, KIND>(bits_of<Float, Int>(x[i]), word, g));
  }
}

template <typename Float, typename Int, int MODE, int KIND>
void scaled(const Float* x, const Int* exponent, int64_t n, const uint32_t* random,
            const dv::Grid<Int>& grid, Float* out) {
  const dv::Grid<Int> g = grid;
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++) {
    const uint32_t word = MODE == DV_STOCHASTIC ? random[i] : 0;
    out[i] = float_of<Float, Int>(
        round_scaled<Float, MODE, KIND>(bits_of<Float, Int>(x[i]), exponent[i], word, g));
  }
}

template <typename Float, typename Int> inline Int magnitude(const Float& x) {
  const Int all = (Int)(~(typename Word<Float>::Unsigned)0 >> 1);
  return bits_of<Float, Int>(x) & all;
}

template <typename Float, typename Int>
void largest_of_runs(const Float* x, int64_t runs, int64_t block, Int* out) {
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

// Adding 1.5 * 2^23 rounds to an integer, ties to even; clamping first keeps the sum in range.
inline float affine_one(float x, float scale, float low, float high) {
  const float magic = 12582912.0f;
  float v = x / scale;
  v = v == v ? v : 0.0f;
  v = v > low ? v : low;
  v = v < high ? v : high;
  return ((v + magic) - magic) * scale;
}

void affine(const float* x, int64_t n, float scale, float low, float high, float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = affine_one(x[i], scale, low, high);
}

void affines(const float* x, int64_t n, const float* scale, const float* low, const float* high,
             float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = affine_one(x[i], scale[i], low[i], high[i]);
}

void widen_half(const uint16_t* x, int64_t n, float* __restrict out) {
  for (int64_t i = 0; i < n; i++) {
    const int32_t h = x[i], e = h >> 10 & 31, m = h & 1023;
    const int32_t small = bits_of<float, int32_t>((float)m * 0x1p-24f);
    const int32_t normal = ((e == 31 ? 255 : e + 112) << 23) | (m << 13);
    const uint32_t bits = (uint32_t)(e == 0 ? small : normal) | (uint32_t)(h >> 15) << 31;
    memcpy(&out[i], &bits, sizeof bits);
  }
}

void widen_bfloat(const uint16_t* x, int64_t n, float* __restrict out) {
  for (int64_t i = 0; i < n; i++) {
    const uint32_t bits = (uint32_t)x[i] << 16;
    memcpy(&out[i], &bits, sizeof bits);
  }
}

void narrow_half(const float* x, int64_t n, uint16_t* __restrict out) {
  for (int64_t i = 0; i < n; i++) {
    const int32_t bits = bits_of<float, int32_t>(x[i]), u = bits & 0x7fffffff;
    // Below 2^-14 the sum's last place is the smallest half: adding rounds, ties to even.
    const int32_t small = bits_of<float, int32_t>(float_of<float, int32_t>(u) + 0.5f) - 0x3f000000;
    const int32_t normal = (u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13;
    int32_t y = u < 0x38800000 ? small : normal;
    y = u >= 0x47800000 ? 0x7c00 : y;
    y = u > 0x7f800000 ? 0x7e00 : y;
    out[i] = (uint16_t)(y | (bits >> 16 & 0x8000));
  }
}

void narrow_bfloat(const float* x, int64_t n, uint16_t* __restrict out) {
  for (int64_t i = 0; i < n; i++) {
    const int32_t bits = bits_of<float, int32_t>(x[i]), u = bits & 0x7fffffff;
    const uint32_t rounded = ((uint32_t)u + 0x7fff + ((uint32_t)u >> 16 & 1)) >> 16;
    const uint32_t y = u > 0x7f800000 ? 0x7fc0 : rounded;
    out[i] = (uint16_t)(y | ((uint32_t)bits >> 16 & 0x8000));
  }
}

void widen(const float* x, int64_t n, double* __restrict out) {
  for (int64_t i = 0; i < n; i++)
    out[i] = (double)x[i];
}

void narrow(const double* x, int64_t n, float* __restrict out) {
  for (int64_t i = 0; i < n; i++)
    out[i] = (float)x[i];
}

void divide(const float* x, const float* by, int64_t n, float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = x[i] / by[i];
}

void multiply(const float* x, const float* by, int64_t n, float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = x[i] * by[i];
}

inline float clamp_one(float x, float most) {
  const float v = x > most ? most : x;
  return v < -most ? -most : v;
}

template <int MODE, int KIND>
inline float real_scaled_one(float v, float times, uint32_t word, const dv::Grid<int32_t>& g) {
  const int32_t r = round_element<float, MODE, KIND>(bits_of<float, int32_t>(v), word, g);
  return clamp_one(float_of<float, int32_t>(r) * times, FLT_MAX);
}

void rescale(const float* x, const float* by, float most, int64_t n, float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = clamp_one(x[i] * by[i], most);
}

// Blocks with real scales: the quotient, its rounding and the product, three roundings in all.
template <int MODE, int KIND>
void real_scaled(const float* x, const float* by, const float* times, int64_t n, bool divide,
                 const uint32_t* random, const dv::Grid<int32_t>& grid, float* out) {
  const dv::Grid<int32_t> g = grid;
  if (divide) {
    DV_ELEMENTWISE
    for (int64_t i = 0; i < n; i++)
      out[i] = real_scaled_one<MODE, KIND>(x[i] / by[i], times[i],
                                           MODE == DV_STOCHASTIC ? random[i] : 0, g);
  } else {
    DV_ELEMENTWISE
    for (int64_t i = 0; i < n; i++)
      out[i] = real_scaled_one<MODE, KIND>(x[i] * by[i], times[i],
                                           MODE == DV_STOCHASTIC ? random[i] : 0, g);
  }
}

int32_t largest_finite(const int32_t* largest, int64_t n) {
  int32_t most = 0;
  for (int64_t i = 0; i < n; i++) {
    const int32_t u = largest[i] < INFINITE ? largest[i] : 0;
    most = u > most ? u : most;
  }
  return most;
}

// From the largest magnitudes of blocks to scales relative to their elements and the tensor.
void ratios(const int32_t* largest, int64_t n, float element, bool two_level, float whole,
            float* out) {
  for (int64_t i = 0; i < n; i++) {
    const float ratio = float_of<float, int32_t>(largest[i] < INFINITE ? largest[i] : 0) / element;
    float r = ratio / whole;
    r = r > 0x1p-6f ? r : 0x1p-6f;
    r = r < 448.0f ? r : 448.0f;
    out[i] = two_level ? r : ratio;
  }
}

// What values are divided by (or multiplied with, at two levels), and codes multiplied with. Blocks
// with NaN or an infinity become NaN.
void factors(const int32_t* largest, const float* step, int64_t n, bool two_level, float whole,
             float* by, float* times) {
  const float nan = float_of<float, int32_t>(INFINITE + 1 + (1 << 22)), inverse = 1.0f / whole;
  for (int64_t i = 0; i < n; i++) {
    const float s = step[i], divisor = s != 0 ? s : 1.0f;
    const float quotient = inverse / divisor;
    by[i] = two_level ? quotient : divisor;
    const float factor = two_level ? whole * s : s;
    times[i] = largest[i] < INFINITE ? factor : nan;
  }
}

void clamp(const float* x, float most, int64_t n, float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = clamp_one(x[i], most);
}

} // namespace

namespace dv {

#define DV_KINDS(f, F, I, mode) {f<F, I, mode, PLAIN>, f<F, I, mode, FIXED>, f<F, I, mode, RARE>}
#define DV_EVERY(f, F, I)                                                                          \
  {DV_KINDS(f, F, I, DV_TIES_TO_EVEN),    DV_KINDS(f, F, I, DV_TIES_TO_AWAY),                      \
   DV_KINDS(f, F, I, DV_TOWARD_ZERO),     DV_KINDS(f, F, I, DV_TOWARD_POSITIVE),                   \
   DV_KINDS(f, F, I, DV_TOWARD_NEGATIVE), DV_KINDS(f, F, I, DV_TO_ODD),                            \
   DV_KINDS(f, F, I, DV_STOCHASTIC)}
#define DV_FLOAT(F, I)                                                                             \
  {DV_EVERY(element, F, I), DV_EVERY(scaled, F, I), largest_of_runs<F, I>,                         \
   largest_so_far<F, I>,    exponents<F, I>,        repeat<I>}

#define DV_REAL(mode) {real_scaled<mode, PLAIN>, real_scaled<mode, FIXED>, real_scaled<mode, RARE>}

extern const Casts DV_JOIN(casts_, DV_LEVEL);
const Casts DV_JOIN(casts_, DV_LEVEL) = {
    DV_STRING(DV_LEVEL),
    DV_FLOAT(float, int32_t),
    DV_FLOAT(double, int64_t),
    {DV_REAL(DV_TIES_TO_EVEN), DV_REAL(DV_TIES_TO_AWAY), DV_REAL(DV_TOWARD_ZERO),
     DV_REAL(DV_TOWARD_POSITIVE), DV_REAL(DV_TOWARD_NEGATIVE), DV_REAL(DV_TO_ODD),
     DV_REAL(DV_STOCHASTIC)},
    repeat<float>,
    largest_finite,
    ratios,
    factors,
    steps,
    affine,
    affines,
    philox,
    widen_half,
    widen_bfloat,
    narrow_half,
    narrow_bfloat,
    widen,
    narrow,
    divide,
    multiply,
    rescale,
    clamp,
};

} // namespace dv
