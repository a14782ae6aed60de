// Operands as the words that tiles read.
//
//   values       the float rows[x] * 2^(e - m), or lanes[y] * 2^(e - m)
//   logarithms   rows: the bit pattern, of 1 for zero. Lanes: the pattern less that of 1, plus the
//                offset, so that the sum of both is the product's pattern; 1 for zero, which no
//                other lane is: patterns end in 13 zeros at least.
//   table        the bits of +-2^(e - m), and in their place below them x; 0 for zero
//
// Words are right while all exponents are normal and none lies beyond what core/float_mul.cpp
// allows.
#pragma once
#include "kernels/float_mul.h"
#include "kernels/simd.h"

namespace {

constexpr uint32_t ONE = 0x3f800000, SIGN_EXPONENT = 0xff800000, MAGNITUDE = 0x7fffffff;

inline float as_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

inline uint32_t as_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

void encode(const dv_float_mul& mul, bool rows, const float* x, int64_t n, uint32_t* words,
            float* keep, dv::ExponentSpan* found) {
  const int32_t m = mul.mantissa, below = 23 - m;
  const uint32_t mask = (1u << m) - 1, down = (uint32_t)m << 23;
  const uint32_t lane_offset = ((uint32_t)mul.offset << below) - ONE;
  const float* values = rows ? mul.rows : mul.lanes;
  const int32_t zero_least = mul.form == 1 && rows ? 0 : dv::ExponentSpan::NONE;
  const int32_t zero_most = mul.form == 1 && rows ? 0 : -dv::ExponentSpan::NONE;
  int32_t least = found->least, most = found->most;
  for (int64_t i = 0; i < n; i++) {
    const uint32_t size = as_bits(x[i]) & MAGNITUDE;
    const int32_t exponent = (int32_t)(size >> 23) - 127;
    const bool zero = size == 0, normal = size >= 0x00800000 && size < 0x7f800000;
    const int32_t low = zero ? zero_least : normal ? exponent : -dv::ExponentSpan::BEYOND;
    const int32_t high = zero ? zero_most : normal ? exponent : dv::ExponentSpan::BEYOND;
    least = low < least ? low : least;
    most = high > most ? high : most;
  }
  *found = {least, most};
  if (mul.form == 0) {
    for (int64_t i = 0; i < n; i++) {
      const uint32_t bits = as_bits(x[i]);
      const float power = as_float((bits & SIGN_EXPONENT) - down);
      const float value = values[bits >> below & mask] * power;
      words[i] = (bits & MAGNITUDE) == 0 ? bits : as_bits(value);
    }
  } else if (mul.form == 1 && rows) {
    for (int64_t i = 0; i < n; i++) {
      const uint32_t bits = as_bits(x[i]) & ~((1u << below) - 1);
      const bool zero = (bits & MAGNITUDE) == 0;
      words[i] = zero ? ONE : bits;
      keep[i] = zero ? 0.0f : 1.0f;
    }
  } else if (mul.form == 1) {
    for (int64_t i = 0; i < n; i++) {
      const uint32_t bits = as_bits(x[i]) & ~((1u << below) - 1);
      words[i] = (bits & MAGNITUDE) == 0 ? 1 : bits + lane_offset;
    }
  } else {
    for (int64_t i = 0; i < n; i++) {
      const uint32_t bits = as_bits(x[i]);
      const uint32_t word = ((bits & SIGN_EXPONENT) - down) | (bits >> below & mask);
      words[i] = (bits & MAGNITUDE) == 0 ? 0 : word;
    }
  }
}

} // namespace
