// Functions of one variable, some lanes at a time: what dovetail_function.h says of each kind.
#pragma once
#include "kernels/doubles.h"

namespace {

inline Longs place_of(const dv_unit& u, Doubles t) {
  const double *starts = u.rows, *ends = u.rows + u.pitch;
  if (u.steepness > 0) {
    Doubles v = (t - u.first) * u.steepness - 1.0;
    v = v > 0.0 ? v : Doubles{}; // NaN too
    v = at_most(v, all((double)(u.count - 1)));
    const Longs guess = bits(v + ROUNDER) - bits(all(ROUNDER));
    return guess - (t >= entry(ends, guess, u.count)); // a comparison's lanes are -1
  }
  Longs place{};
  int64_t step = 1;
  while (2 * step < u.count)
    step *= 2;
  for (; step; step /= 2) {
    const Longs next = place + step;
    place = t >= entry(starts, next, (int32_t)u.pitch) ? next : place;
  }
  return place;
}

template <typename R> inline Doubles pieces(const dv_unit& u, const R& r, Doubles t) {
  const Longs place = u.count == 1 ? Longs{} : place_of(u, t);
  const double* row = u.rows + (2 + u.degree) * u.pitch; // the highest power's
  Doubles y = entry(row, place, u.count);
  if (u.degree == 0)
    return t != t ? t : y;
  const Doubles d = r(t - entry(u.rows, place, u.count));
  for (int32_t i = 0; i < u.degree; i++) {
    row -= u.pitch;
    y = r(r(d * y) + entry(row, place, u.count));
  }
  return y;
}

// x^(-1 / root) of zeros, infinities, NaN and, for a square root, of what is negative.
inline Doubles limits(Doubles x, int32_t root) {
  const Doubles y = with_sign(x == 0.0 ? all(BEYOND) : Doubles{}, x);
  const Longs defined = root == 1 ? (Longs)(x == x) : (Longs)(x >= 0.0);
  return defined ? y : all(__builtin_nan(""));
}

template <typename R> inline Doubles direct(const dv_unit& u, const R& r, Doubles x) {
  const Doubles y = pieces(u, r, r(at_least(at_most(x, all(u.high)), all(u.low))));
  return x < u.low ? all(u.left) : x > u.high ? (u.order ? r(x) : all(u.right)) : y;
}

template <typename R> inline Doubles gate(const dv_unit& u, const R& r, Doubles x) {
  const Doubles size = x < 0.0 ? -x : x;
  Doubles y = pieces(u, r, r(at_most(size, all(u.high))));
  y = size > u.high ? all(1.0) : y;
  y = x < 0.0 ? (u.order & 1 ? -y : r(1.0 - y)) : y;
  if (!(u.order & 2))
    return y;
  return x < -u.high ? Doubles{} : r(x * y);
}

template <typename R> inline Doubles exponential(const dv_unit& u, const R& r, Doubles x) {
  const Doubles y =
      at_least(at_most(x * 0x1.71547652b82fep+0 /* log2(e) */, all(2100.0)), all(-2100.0));
  const Doubles k = floored(y);
  return r(shifted(pieces(u, r, r(y - k)), k));
}

template <typename R> inline Doubles mantissa(const dv_unit& u, const R& r, Doubles x) {
  const Longs regular =
      (x != 0.0) & (magnitude(x) < BEYOND) & (u.order == 1 ? Longs{} == 0 : (Longs)(x > 0.0));
  const Doubles size = regular ? magnitude(x) : all(1.0);
  const Longs tiny = size < 0x1p-1022;
  const Longs code = (bits(tiny ? size * 0x1p54 : size) >> 52) - (tiny ? Longs{} + 54 : Longs{});
  const Doubles exponent = doubles(code + bits(all(ROUNDER))) - (ROUNDER + 1023.0);
  const Doubles k = floored(exponent / (double)u.order);
  const Doubles y = shifted(pieces(u, r, r(shifted(size, k * (double)-u.order))), -k);
  return regular ? r(x < 0.0 ? -y : y) : limits(x, u.order);
}

template <typename R> inline Doubles turn(const dv_unit& u, const R& r, Doubles x) {
  const Doubles turns = x * 0x1.45f306dc9c883p-1; // 2 / pi
  const Doubles whole = floored(turns), part = turns - whole;
  Doubles quarter = whole - floored(whole * 0.25) * 4.0 + (double)u.order;
  quarter = quarter - floored(quarter * 0.25) * 4.0;
  const Longs falling = (quarter == 1.0) | (quarter == 3.0);
  const Doubles y = pieces(u, r, r(falling ? 1.0 - part : part));
  return quarter >= 2.0 ? -y : y;
}

// Of formats whose patterns are those of IEEE 754: `mantissa` bits above the smallest step.
template <typename R> inline Doubles newton(const dv_unit& u, const R& r, Doubles x) {
  x = r(x);
  const Longs regular =
      (magnitude(x) < BEYOND) & (x != 0.0) & (u.order == 1 ? Longs{} == 0 : (Longs)(x > 0.0));
  const Doubles size = regular ? magnitude(x) : all(1.0);
  const int32_t drop = 52 - u.rounding.mantissa;
  const Longs base = bits(all(u.rounding.least)) - (INT64_C(1) << 52);
  const double step = u.rounding.least / (double)(INT64_C(1) << u.rounding.mantissa);
  const Longs small = bits(size / step + 0x1p52) - bits(all(0x1p52));
  Longs pattern = size < u.rounding.least ? small : (bits(size) - base) >> drop;
  const int64_t constant = (int64_t)u.magic[0];
  pattern = constant - (u.order == 1 ? pattern : pattern >> 1);
  pattern = pattern > 0 ? pattern : Longs{};
  const Doubles below = (doubles(pattern + bits(all(0x1p52))) - 0x1p52) * step;
  Doubles y = (pattern >> u.rounding.mantissa) == 0 ? below : doubles((pattern << drop) + base);
  const Doubles half = r(size * 0.5);
  for (int32_t i = 0; i < u.steps; i++) {
    const Doubles left = u.order == 1 ? 2.0 - r(size * y) : 1.5 - r(r(half * y) * y);
    y = r(y * r(left));
  }
  return regular ? (x < 0.0 ? -y : y) : limits(x, u.order);
}

inline Doubles square_root(Doubles x) {
  for (int i = 0; i < WIDE; i++)
    x[i] = __builtin_sqrt(x[i]);
  return x;
}

template <typename R> inline Doubles integer_root(const dv_unit& u, const R& r, Doubles x) {
  const Doubles whole = at_most(floored(x * u.magic[0] * u.magic[0]), all(0x1p52 - 1)) + 0.0;
  const Doubles y = r(u.magic[0] / floored(square_root(whole)));
  return x == BEYOND ? Doubles{} : y;
}

// The argument in units, as an integer; none is -0.
inline Doubles code_of(const dv_unit& u, Doubles x) {
  return nearest(at_least(at_most(x, all(0x1p20)), all(-0x1p20)) * u.magic[0]) + 0.0;
}

inline Doubles integer_gelu(const dv_unit& u, Doubles x) {
  const Doubles code = code_of(u, x), size = at_most(magnitude(code), all(-u.magic[1]));
  const Doubles erf = (size + u.magic[1]) * (size + u.magic[1]) + u.magic[2];
  const Doubles sign = code > 0.0 ? all(1.0) : code < 0.0 ? all(-1.0) : Doubles{};
  const Doubles y = (0.0 - code * (sign * erf + u.magic[3])) * u.magic[4];
  return x == BEYOND ? x : y;
}

inline Doubles integer_exp(const dv_unit& u, Doubles x) {
  const Doubles code = code_of(u, x), z = floored(-code / u.magic[1]);
  const Doubles root = code + z * u.magic[1] + u.magic[2];
  const Doubles y = shifted(root * root + u.magic[3], -z);
  return x == BEYOND ? x : (z > 0.0 ? floored(y) : y) * u.magic[4];
}

template <int KIND, typename R> inline Doubles value_of(const dv_unit& u, const R& r, Doubles x) {
  if constexpr (KIND == DV_DIRECT)
    return direct(u, r, x);
  else if constexpr (KIND == DV_GATE)
    return gate(u, r, x);
  else if constexpr (KIND == DV_EXPONENTIAL)
    return exponential(u, r, x);
  else if constexpr (KIND == DV_MANTISSA)
    return mantissa(u, r, x);
  else if constexpr (KIND == DV_TURN)
    return turn(u, r, x);
  else if constexpr (KIND == DV_NEWTON)
    return newton(u, r, x);
  else if constexpr (KIND == DV_INTEGER_ROOT)
    return integer_root(u, r, x);
  else if constexpr (KIND == DV_INTEGER_GELU)
    return integer_gelu(u, x);
  else if constexpr (KIND == DV_INTEGER_EXP)
    return integer_exp(u, x);
  else
    return 1.0 / square_root(x);
}

template <int KIND, typename R>
void value(const dv_unit& unit, const double* x, int64_t n, double* out) {
  const dv_unit u = unit; // a copy: stores cannot change it
  const R r(u.rounding);
  for (int64_t i = 0; i < n; i += WIDE)
    store(out + i, value_of<KIND>(u, r, load(x + i)));
}

} // namespace
