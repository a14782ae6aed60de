// What a product lacks to be a table: one byte per product, looked up by the class of one operand.
//
// A quad of k shares 64 entries, 16 for each k, so that one byte permute looks up 64 products, and
// one multiply-add by `step` adds up the four of each lane: u8 * s8 into 32 bits, no saturation.
#pragma once
#include "kernels/dot.h"

namespace {

#if defined(__AVX512VBMI__)

constexpr int64_t LOOK_UP_ROWS = 8; // 24 sums, three lanes' classes, the entries of a row, `step`

template <int ROWS> void look_up_rows(const dv::Classes& c, int64_t lane, int32_t* out) {
  const __m512i step = _mm512_set1_epi8((char)c.step);
  __m512i sum[ROWS][DOT_VECTORS];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
    for (int j = 0; j < DOT_VECTORS; j++)
      sum[i][j] = _mm512_loadu_si512(out + i * DOT_LANES + 16 * j);
  const uint8_t* e = c.entries;
  for (int64_t tap = 0; tap < c.taps; tap++) {
    const uint8_t* l = c.lanes + c.tap_offset[tap] + lane * 4;
    for (int64_t q = 0; q < c.quads; q++, l += c.quad_stride, e += ROWS * 64) {
      __m512i x[DOT_VECTORS];
#pragma GCC unroll 3
      for (int j = 0; j < DOT_VECTORS; j++)
        x[j] = _mm512_loadu_si512(l + 64 * j);
#pragma GCC unroll 8
      for (int i = 0; i < ROWS; i++) {
        const __m512i entries = _mm512_load_si512(e + i * 64);
#pragma GCC unroll 3
        for (int j = 0; j < DOT_VECTORS; j++)
          sum[i][j] = _mm512_dpbusd_epi32(sum[i][j], _mm512_permutexvar_epi8(x[j], entries), step);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
    for (int j = 0; j < DOT_VECTORS; j++)
      _mm512_storeu_si512(out + i * DOT_LANES + 16 * j, sum[i][j]);
}

#else

constexpr int64_t LOOK_UP_ROWS = 4;

template <int ROWS> void look_up_rows(const dv::Classes& c, int64_t lane, int32_t* out) {
  const uint8_t* e = c.entries;
  for (int64_t tap = 0; tap < c.taps; tap++)
    for (int64_t q = 0; q < c.quads; q++)
      for (int64_t i = 0; i < ROWS; i++, e += 64) {
        const uint8_t* l = c.lanes + c.tap_offset[tap] + lane * 4 + q * c.quad_stride;
        for (int64_t j = 0; j < DOT_LANES; j++) {
          int32_t found = 0;
          for (int64_t b = 4 * j; b < 4 * j + 4; b++)
            found += e[l[b] & 63]; // lanes that nobody needs hold any byte
          int32_t& sum = out[i * DOT_LANES + j];
          sum = (int32_t)((uint32_t)sum + (uint32_t)(found * c.step));
        }
      }
}

#endif

void look_up(const dv::Classes& c, int64_t lane, int32_t* out) {
  c.rows == 1 ? look_up_rows<1>(c, lane, out) : look_up_rows<LOOK_UP_ROWS>(c, lane, out);
}

} // namespace
