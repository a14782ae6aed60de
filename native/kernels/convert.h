// From one float type to another, to nearest, ties to even.
#pragma once
#include "kernels/bits.h"

namespace {

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

inline float clamp_one(float x, float most) {
  const float v = x > most ? most : x;
  return v < -most ? -most : v;
}

void clamp(const float* x, float most, int64_t n, float* out) {
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = clamp_one(x[i], most);
}

} // namespace
