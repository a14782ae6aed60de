// Tiles with any operands: products are exact in double, and rounded to float once.
#pragma once
#include "kernels/float_encode.h"
#include "kernels/float_lanes.h"

namespace {

// A significand's place in the table, and the power of two that it is multiplied with. What has no
// significand is place 0 and itself. A table's numbers are below 2^24 and powers within 2^-172 and
// 2^128, so products are normal doubles.
struct Decoded {
  int64_t place;
  double power;
};

inline Decoded decode(float x, int32_t m) {
  const uint32_t bits = as_bits(x), size = bits & MAGNITUDE;
  if (size == 0 || size >= 0x7f800000)
    return {0, (double)x};
  uint64_t wide; // a double has no subnormal numbers here
  const double exact = (double)x;
  memcpy(&wide, &exact, sizeof wide);
  const int64_t place = 1 + (int64_t)(wide >> (52 - m) & ((1u << m) - 1));
  wide = (wide >> 52 << 52) - ((uint64_t)m << 52);
  double power;
  memcpy(&power, &wide, sizeof power);
  return {place, power};
}

void far(const dv::FloatTileFar& t, int64_t rows, float* out) {
  constexpr int64_t SOME = 16;
  const int32_t m = t.mul->mantissa;
  const int64_t width = 1 + (1 << m);
  memset(out, 0, (size_t)(rows * FLOAT_LANES) * sizeof(float));
  for (int64_t lane = 0; lane < FLOAT_LANES; lane += SOME) {
    const int64_t some = FLOAT_LANES - lane < SOME ? FLOAT_LANES - lane : SOME;
    for (int64_t k = 0; k < t.depth; k++) {
      int64_t place[SOME];
      double power[SOME];
      for (int64_t j = 0; j < some; j++) {
        const Decoded d = decode(t.lanes[t.lane_at[k] + lane + j], m);
        place[j] = d.place;
        power[j] = d.power;
      }
      for (int64_t i = 0; i < rows; i++) {
        const Decoded d = decode(t.rows[i * t.row_stride + k], m);
        const float* table = t.mul->table + d.place * width;
        float* sum = out + i * FLOAT_LANES + lane;
        for (int64_t j = 0; j < some; j++)
          sum[j] += (float)((double)table[place[j]] * (d.power * power[j]));
      }
    }
  }
}

} // namespace
