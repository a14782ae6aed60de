// Rounding to nearest, ties to even, by adding and taking away a number whose last place is the
// step: a dozen instructions less than kernels/round.h, for the formats that are used most.
//
// With a value v in [2^e, 2^(e+1)) and `mantissa` <= 22 bits, C = 2^(e + 23 - mantissa) has the
// step 2^(e - mantissa) as its last place, and C <= v + C <= 2C: the sum rounds v to a multiple of
// the step, and taking C away is exact. C is an even multiple of the step, so that the sum's even
// last bit is v's. Below the smallest normal value C stays, and with it the step. The core sees to
// it that subnormal numbers count (ExactFloats) and that C is a finite number.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"
#include "kernels/lanes.h"

namespace {

// v + C - C for C = power * 2^(add / 2^23): where there are fused multiply-adds the product needs
// no instruction of its own, and it is exact.
inline Floats to_last_place(Floats v, Ints power, int32_t add) {
#if defined(__FMA__)
  const Floats one = floats(power), factor = floats(every(add + ONE));
  return fused_less(fused(one, factor, v), one, factor);
#else
  const Floats magic = floats(sum(power, add));
  return (v + magic) - magic;
#endif
}

// `x` rounded; `signs` has its sign where that of a zero was lost.
template <dv::Nearest::Form FORM>
inline Floats nearest_one(Floats x, Floats signs, Ints up, const dv::Nearest& c) {
  const Ints given = bits(x), u = given & MAGNITUDE, sign = bits(signs) & ~MAGNITUDE;
  if (FORM == dv::Nearest::FIXED) {
    const Floats magic = floats(sum(up, c.magic));
    const Floats v = at_least(at_most(x, floats(sum(up, c.max))), floats(sum(up, c.low)));
    return (v + magic) - magic; // never -0: the magic number is positive
  }
  if (FORM == dv::Nearest::CLAMPED) {
    const Floats v = at_most(floats(u), floats(sum(up, c.max)));
    const Ints power = larger(bits(v) & INFINITE, sum(up, c.first));
    return floats(bits(to_last_place(v, power, c.add)) | sign);
  }
  Ints y;
  if (FORM == dv::Nearest::OPEN) {
    const Ints e = smaller(larger(u & INFINITE, every(c.first)), every(c.top));
    y = bits(to_last_place(floats(u), e, c.add));
  } else { // the step is the same place of the significand everywhere, in subnormal numbers too
    const Ints half = every((1 << (c.cut - 1)) - 1) + ((u >> c.cut) & 1);
    y = sum(u, half) & -(1 << c.cut);
  }
  y = y > c.max ? every(c.over) : y;
  y = u == INFINITE ? every(c.infinite) : y;
  const Ints kept = y == 0 ? sign & c.negative_zero : sign;
  return floats(u > INFINITE ? given | 0x400000 : y | kept);
}

template <dv::Nearest::Form FORM>
void nearest(const float* x, int64_t n, const dv::Nearest& format, float* out) {
  const dv::Nearest c = format; // a copy: stores to `out` cannot change it
  lane_by_lane(x, n, out, [&](Floats v, int64_t) { return nearest_one<FORM>(v, v, Ints{}, c); });
}

// Each value with the exponent of its block.
template <dv::Nearest::Form FORM>
void nearest_scaled(const float* x, const int32_t* exponent, int64_t n, const dv::Nearest& format,
                    float* out) {
  const dv::Nearest c = format;
  lane_by_lane(x, n, out, [&](Floats v, int64_t i) {
    return nearest_one<FORM>(v, v, scaling(load(exponent + i)), c);
  });
}

// The same, one exponent per run of `block` values, a multiple of LANES.
template <dv::Nearest::Form FORM>
void nearest_runs(const float* x, const int32_t* exponent, int64_t runs, int64_t block,
                  const dv::Nearest& format, float* out) {
  const dv::Nearest c = format;
  for (int64_t r = 0; r < runs; r++) {
    const Ints up = every(exponent[r] * (1 << 23));
    for (int64_t i = 0; i < block; i += LANES, x += LANES, out += LANES) {
      const Floats v = load(x);
      store(out, nearest_one<FORM>(v, v, up, c));
    }
  }
}

inline Floats clamped(Floats v, float most) {
  return at_least(at_most(v, every(most)), every(-most));
}

// To the range of elements.
template <dv::Scaling BY> inline Floats scaled_down(Floats x, Floats by, Floats inverse) {
  return BY == dv::DIVIDED ? quotient(x, by, inverse) : BY == dv::DIVIDED_HELD ? x / by : x * by;
}
// And back.
template <dv::Scaling BY> inline Floats scaled_up(Floats y, Floats times) {
  return BY == dv::MULTIPLIED || BY == dv::DIVIDED ? y * times : clamped(y * times, FLT_MAX);
}

template <dv::Nearest::Form FORM, dv::Scaling BY>
inline Floats nearest_real_one(Floats x, Floats by, Floats inverse, Floats times,
                               const dv::Nearest& c) {
  const Floats v = scaled_down<BY>(x, by, inverse);
  return scaled_up<BY>(nearest_one<FORM>(v, x, Ints{}, c), times);
}

// Values with real scales.
template <dv::Nearest::Form FORM, dv::Scaling BY>
void nearest_real(const float* x, const dv::Factors& f, int64_t n, const dv::Nearest& format,
                  float* out) {
  const dv::Factors p = f;
  const dv::Nearest c = format;
  lane_by_lane(x, n, out, [&](Floats v, int64_t i) {
    return nearest_real_one<FORM, BY>(v, load(p.by + i), load(p.inverse + i), load(p.times + i), c);
  });
}

template <dv::Nearest::Form FORM, dv::Scaling BY>
void nearest_real_runs(const float* x, const dv::Factors& f, int64_t runs, int64_t block,
                       const dv::Nearest& format, float* out) {
  const dv::Factors p = f;
  const dv::Nearest c = format;
  for (int64_t r = 0; r < runs; r++) {
    const Floats by = every(p.by[r]), inverse = every(p.inverse[r]), times = every(p.times[r]);
    for (int64_t i = 0; i < block; i += LANES, x += LANES, out += LANES)
      store(out, nearest_real_one<FORM, BY>(load(x), by, inverse, times, c));
  }
}

} // namespace
