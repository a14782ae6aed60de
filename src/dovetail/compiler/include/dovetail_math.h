// What tasklets call. Functions of float are written so that a compiler vectorises them: no
// branch, no library call; NaN stays NaN, infinities and subnormal numbers are right.
#ifndef DOVETAIL_MATH_H
#define DOVETAIL_MATH_H
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#ifdef __CUDACC__
#define DV_FN template <typename T> __host__ __device__ inline
#define DV_INLINE __host__ __device__ inline
#else
#define DV_FN template <typename T> inline
#define DV_INLINE inline
#endif

DV_INLINE double dv_inf() { return std::numeric_limits<double>::infinity(); }
DV_INLINE double dv_nan() { return std::numeric_limits<double>::quiet_NaN(); }

DV_FN bool dv_isnan(T x) { return x != x; }
DV_FN bool dv_isinf(T x) { return x == dv_inf() || x == -dv_inf(); }
DV_FN bool dv_isfinite(T x) { return x - x == 0; }

DV_FN T dv_max(T a, T b) { return a > b || a != a ? a : b; }
DV_FN T dv_min(T a, T b) { return a < b || a != a ? a : b; }
DV_FN T dv_relu(T x) { return x <= 0 ? T(0) : x; }
DV_FN T dv_abs(T x) {
  if constexpr (std::is_floating_point_v<T>)
    return std::fabs(x);
  else
    return x < 0 ? T(-x) : x;
}
DV_FN T dv_sign(T x) { return x != x ? x : T((x > 0) - (x < 0)); }
DV_FN T dv_not(T x) {
  if constexpr (std::is_same_v<T, bool>)
    return !x;
  else
    return T(~x);
}

// Rounding of integers is no rounding.
#define DV_ROUNDING(name, function)                                                                \
  DV_FN T name(T x) {                                                                              \
    if constexpr (std::is_integral_v<T>)                                                           \
      return x;                                                                                    \
    else                                                                                           \
      return function(x);                                                                          \
  }
DV_ROUNDING(dv_floor, std::floor)
DV_ROUNDING(dv_ceil, std::ceil)
DV_ROUNDING(dv_round, std::nearbyint)
DV_ROUNDING(dv_trunc, std::trunc)
#undef DV_ROUNDING

DV_FN T dv_fmod(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return a % b;
  else
    return std::fmod(a, b);
}
// The remainder has the sign of the divisor.
DV_FN T dv_remainder(T a, T b) {
  const T rest = dv_fmod(a, b);
  return rest != 0 && ((rest < 0) != (b < 0)) ? T(rest + b) : rest;
}
DV_FN T dv_floor_div(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    const T quotient = a / b;
    return quotient * b != a && ((a < 0) != (b < 0)) ? quotient - 1 : quotient;
  } else {
    if (b == 0)
      return a / b;
    const T rest = std::fmod(a, b);
    const T quotient = (a - rest) / b - (rest != 0 && (b < 0) != (rest < 0) ? T(1) : T(0));
    if (quotient == 0)
      return std::copysign(T(0), a / b);
    const T floored = std::floor(quotient);
    return quotient - floored > T(0.5) ? floored + 1 : floored;
  }
}
DV_FN T dv_pow(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    T made = 1;
    for (; b > 0; b /= 2, a *= a)
      if (b % 2)
        made *= a;
    return made;
  } else {
    return std::pow(a, b);
  }
}

#define DV_LIBRARY(name)                                                                           \
  DV_FN T dv_##name(T x) { return std::name(x); }
DV_LIBRARY(sqrt)
DV_LIBRARY(exp)
DV_LIBRARY(expm1)
DV_LIBRARY(log)
DV_LIBRARY(log1p)
DV_LIBRARY(log2)
DV_LIBRARY(log10)
DV_LIBRARY(sin)
DV_LIBRARY(cos)
DV_LIBRARY(tan)
DV_LIBRARY(asin)
DV_LIBRARY(acos)
DV_LIBRARY(atan)
DV_LIBRARY(sinh)
DV_LIBRARY(cosh)
DV_LIBRARY(asinh)
DV_LIBRARY(acosh)
DV_LIBRARY(atanh)
DV_LIBRARY(tanh)
DV_LIBRARY(erf)
DV_LIBRARY(erfc)
#undef DV_LIBRARY

DV_FN T dv_rsqrt(T x) { return T(1) / std::sqrt(x); }

DV_INLINE float dv_of_bits(int32_t bits) {
  float made;
  std::memcpy(&made, &bits, sizeof made);
  return made;
}
DV_INLINE int32_t dv_bits(float x) {
  int32_t made;
  std::memcpy(&made, &x, sizeof made);
  return made;
}

// 16-bit floats are their bits. A half below 2^-14 is a multiple of 2^-24, which float32 holds.
DV_INLINE float dv_from_half(uint16_t half) {
  const uint32_t body = half & 0x7fffu;
  const uint32_t tiny = uint32_t(dv_bits(float(int32_t(body)) * 0x1p-24f));
  const uint32_t usual = (body << 13) + (112u << 23);
  const uint32_t wide = body >= 0x7c00u ? (body << 13) | 0x7f800000u : usual;
  const uint32_t sign = uint32_t(half & 0x8000u) << 16;
  return dv_of_bits(int32_t(sign | (body < 0x400u ? tiny : wide)));
}
// To nearest, ties to even: 0.5 has steps of 2^-24, so that adding it rounds what is below 2^-14;
// 65520 is where infinity begins.
DV_INLINE uint16_t dv_to_half(float x) {
  const uint32_t bits = uint32_t(dv_bits(x)), body = bits & 0x7fffffffu;
  const float below = dv_of_bits(int32_t(body < (113u << 23) ? body : 0));
  const uint32_t tiny = uint32_t(dv_bits(below + 0.5f)) - (126u << 23);
  const uint32_t usual = ((body + 0xfffu + ((body >> 13) & 1u)) >> 13) - (112u << 10);
  const uint32_t large = body > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t made = body < (113u << 23) ? tiny : body < 0x477ff000u ? usual : large;
  return uint16_t(made | ((bits >> 16) & 0x8000u));
}
DV_INLINE float dv_from_bfloat(uint16_t bits) { return dv_of_bits(int32_t(uint32_t(bits) << 16)); }
DV_INLINE uint16_t dv_to_bfloat(float x) {
  const uint32_t bits = uint32_t(dv_bits(x));
  return x != x ? uint16_t(0x7fc0u) : uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
DV_INLINE double dv_of_long_bits(int64_t bits) {
  double made;
  std::memcpy(&made, &bits, sizeof made);
  return made;
}
DV_INLINE int64_t dv_long_bits(double x) {
  int64_t made;
  std::memcpy(&made, &x, sizeof made);
  return made;
}
#ifdef __CUDACC__
DV_INLINE float dv_fma(float a, float b, float c) { return fmaf(a, b, c); }
#else
DV_INLINE float dv_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
#endif

// x = n ln 2 + r with |r| <= ln 2 / 2, the series of exp(r), and 2^n in two factors, since n may
// be beyond the exponents of normal numbers. Outside [-104, 89] the result is 0 or infinity.
template <> DV_INLINE float dv_exp<float>(float x) {
  const float magic = 12582912.0f; // 1.5 * 2^23: its addition rounds to an integer
  float held = x > 89.0f ? 89.0f : x;
  held = held < -104.0f ? -104.0f : held;
  const float shifted = dv_fma(held, 1.44269504f, magic);
  const float n = shifted - magic;
  float r = dv_fma(n, -0.693359375f, held);
  r = dv_fma(n, 2.12194440e-4f, r);
  float p = 1.0f / 5040;
  p = dv_fma(p, r, 1.0f / 720);
  p = dv_fma(p, r, 1.0f / 120);
  p = dv_fma(p, r, 1.0f / 24);
  p = dv_fma(p, r, 1.0f / 6);
  p = dv_fma(p, r, 0.5f);
  p = dv_fma(p * r, r, r);
  const int32_t whole = dv_bits(shifted) - dv_bits(magic);
  const int32_t half = whole >> 1;
  const float first = dv_of_bits((half + 127) << 23);
  const float second = dv_of_bits((whole - half + 127) << 23);
  return dv_fma(p, first, first) * second;
}

// x = 2^n m with m in [sqrt(1/2), sqrt(2)); subnormal numbers are scaled up first.
template <> DV_INLINE float dv_log<float>(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const float scaled = tiny ? x * 8388608.0f : x;
  const int32_t bits = dv_bits(scaled);
  const int32_t n = (bits - 0x3f3504f3) >> 23;
  const float m = dv_of_bits(bits - (n << 23));
  const float r = m - 1.0f;
  const float e = float(n) - (tiny ? 23.0f : 0.0f);
  float p = 0.0674455017f;
  p = dv_fma(p, r, -0.116748087f);
  p = dv_fma(p, r, 0.118886009f);
  p = dv_fma(p, r, -0.124057554f);
  p = dv_fma(p, r, 0.142195195f);
  p = dv_fma(p, r, -0.166679859f);
  p = dv_fma(p, r, 0.200021192f);
  p = dv_fma(p, r, -0.250000089f);
  p = dv_fma(p, r, 0.333333135f);
  const float square = r * r;
  float made = dv_fma(p * r, square, -0.5f * square);
  made = dv_fma(e, -2.12194440e-4f, made);
  made = dv_fma(e, 0.693359375f, made + r);
  made = x == float(dv_inf()) ? x : made;
  made = x == 0.0f ? -float(dv_inf()) : made;
  return x < 0.0f || x != x ? float(dv_nan()) : made;
}

// An odd polynomial near zero, where the quotient would cancel.
template <> DV_INLINE float dv_tanh<float>(float x) {
  const float a = std::fabs(x);
  const float s = x * x;
  float p = 0.00212274259f;
  p = dv_fma(p, s, -0.00815627631f);
  p = dv_fma(p, s, 0.0216926057f);
  p = dv_fma(p, s, -0.0539453775f);
  p = dv_fma(p, s, 0.133331954f);
  p = dv_fma(p, s, -0.333333313f);
  const float near = dv_fma(p * s, x, x);
  const float far = 1.0f - 2.0f / (dv_exp(2.0f * a) + 1.0f);
  return a * a < 0.4f ? near : std::copysign(far, x);
}

// An odd polynomial near zero; further out 1 - exp(log erfc), by a polynomial for the logarithm.
template <> DV_INLINE float dv_erf<float>(float x) {
  const float s = x * x;
  float p = 8.19377674e-05f;
  p = dv_fma(p, s, -0.000809987658f);
  p = dv_fma(p, s, 0.00519715482f);
  p = dv_fma(p, s, -0.0268577915f);
  p = dv_fma(p, s, 0.112836659f);
  p = dv_fma(p, s, -0.376126319f);
  p = dv_fma(p, s, 1.12837923f);
  const float a = std::fabs(x);
  const float t = a > 4.0f ? 4.0f : a;
  float q = -7.3745764e-07f;
  q = dv_fma(q, t, -1.13113329e-05f);
  q = dv_fma(q, t, 0.000378849567f);
  q = dv_fma(q, t, -0.00399410073f);
  q = dv_fma(q, t, 0.0247745123f);
  q = dv_fma(q, t, -0.107858211f);
  q = dv_fma(q, t, -0.633663297f);
  q = dv_fma(q, t, -1.12938178f);
  q = dv_fma(q, t, 0.000150613661f);
  const float far = 1.0f - dv_exp(q);
  return s < 0.9f ? p * x : std::copysign(far, x);
}

DV_FN T dv_sigmoid(T x) { return T(1) / (T(1) + dv_exp(T(-x))); }

#endif
