// The general multiplier for few rows: a batch of one, or one output per group (depthwise).
//
// One table row serves all lanes of a k. It lies in the first-level cache, or, with byte permutes
// and a table of 16 bits, in registers: 256 low bytes and 256 high bytes, four registers each.
//
// In registers the bytes are summed as 16-bit pairs: `all` adds even + 256 * odd modulo 2^16 and
// `odd` the odd bytes alone. A byte is at most 255, so up to 257 of them sum below 2^16: `odd` is
// exact, and all - 256 * odd = even modulo 2^16 is exact too.
#pragma once
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace {

constexpr int64_t DIRECT_LANES = 256;

void direct_row(const dv::Lookup& s, int64_t row, int64_t lane, int64_t lanes,
                int32_t* __restrict sum) {
  memset(sum, 0, (size_t)lanes * sizeof(int32_t));
  for (int64_t k = 0; k < s.depth; k++) {
    const int32_t* __restrict entry = s.by_row + 256 * s.rows[s.row_offset[k] + row];
    const uint8_t* __restrict code = s.lanes + s.lane_offset[k] + lane;
    for (int64_t l = 0; l < lanes; l++)
      sum[l] = (int32_t)((uint32_t)sum[l] + (uint32_t)entry[code[l]]);
  }
}

#if defined(__AVX512VBMI__)

constexpr int64_t DIRECT_DEPTH = 256; // products between two conversions to 32 bits

inline __m512i permute256(__m512i t0, __m512i t1, __m512i t2, __m512i t3, __m512i code) {
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), _mm512_permutex2var_epi8(t0, code, t1),
                                _mm512_permutex2var_epi8(t2, code, t3));
}

// Four blocks of 128 bits of each, as the columns of out: sum[16 * q + 4 * r ..] = block q of r.
inline void store_columns(__m512i r0, __m512i r1, __m512i r2, __m512i r3, bool more, int32_t* sum) {
  const __m512i a = _mm512_shuffle_i32x4(r0, r1, 0x44), b = _mm512_shuffle_i32x4(r0, r1, 0xee);
  const __m512i c = _mm512_shuffle_i32x4(r2, r3, 0x44), d = _mm512_shuffle_i32x4(r2, r3, 0xee);
  __m512i q[4] = {_mm512_shuffle_i32x4(a, c, 0x88), _mm512_shuffle_i32x4(a, c, 0xdd),
                  _mm512_shuffle_i32x4(b, d, 0x88), _mm512_shuffle_i32x4(b, d, 0xdd)};
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    if (more)
      q[i] = _mm512_add_epi32(q[i], _mm512_loadu_si512(sum + 16 * i));
    _mm512_storeu_si512(sum + 16 * i, q[i]);
  }
}

// Words 2j (or 2j + 1) of both as 32-bit numbers: low + 256 * high + base.
inline __m512i first_words(__m512i low, __m512i high, __m512i base) {
  const __m512i below = _mm512_and_si512(low, _mm512_set1_epi32(0xffff));
  const __m512i above = _mm512_and_si512(_mm512_slli_epi32(high, 8), _mm512_set1_epi32(0xffff00));
  return _mm512_add_epi32(_mm512_add_epi32(below, above), base);
}
inline __m512i second_words(__m512i low, __m512i high, __m512i base) {
  const __m512i above = _mm512_and_si512(_mm512_srli_epi32(high, 8), _mm512_set1_epi32(0xffff00));
  return _mm512_add_epi32(_mm512_add_epi32(_mm512_srli_epi32(low, 16), above), base);
}

// sum[64] = low bytes + 256 * high bytes + base, and, if there are `more`, the sum before.
inline void flush(__m512i low_all, __m512i low_odd, __m512i high_all, __m512i high_odd,
                  __m512i base, bool more, int32_t* sum) {
  const __m512i low = _mm512_sub_epi16(low_all, _mm512_slli_epi16(low_odd, 8));
  const __m512i high = _mm512_sub_epi16(high_all, _mm512_slli_epi16(high_odd, 8));
  // Every fourth lane, from 0, 1, 2 and 3 on.
  const __m512i a = first_words(low, high, base), b = first_words(low_odd, high_odd, base);
  const __m512i c = second_words(low, high, base), d = second_words(low_odd, high_odd, base);
  const __m512i ab0 = _mm512_unpacklo_epi32(a, b), ab1 = _mm512_unpackhi_epi32(a, b);
  const __m512i cd0 = _mm512_unpacklo_epi32(c, d), cd1 = _mm512_unpackhi_epi32(c, d);
  store_columns(_mm512_unpacklo_epi64(ab0, cd0), _mm512_unpackhi_epi64(ab0, cd0),
                _mm512_unpacklo_epi64(ab1, cd1), _mm512_unpackhi_epi64(ab1, cd1), more, sum);
}

// 64 * VECTORS sums: up to four vectors of codes, sixteen of sums, eight of table.
template <int VECTORS>
void direct_registers(const dv::Lookup& s, int64_t row, int64_t lane, int64_t lanes, int32_t* sum) {
  __mmask64 live[VECTORS];
  for (int j = 0; j < VECTORS; j++) {
    const int64_t left = lanes - 64 * j;
    live[j] = left >= 64 ? ~0ull : left > 0 ? (1ull << left) - 1 : 0;
  }
  for (int64_t k0 = 0; k0 < s.depth; k0 += DIRECT_DEPTH) {
    const int64_t k1 = k0 + DIRECT_DEPTH < s.depth ? k0 + DIRECT_DEPTH : s.depth;
    __m512i low_all[4], low_odd[4], high_all[4], high_odd[VECTORS];
#pragma GCC unroll 4
    for (int j = 0; j < VECTORS; j++)
      low_all[j] = low_odd[j] = high_all[j] = high_odd[j] = _mm512_setzero_si512();
    for (int64_t k = k0; k < k1; k++) {
      const uint8_t* t = s.by_row_planes + 512 * s.rows[s.row_offset[k] + row];
      const uint8_t* code = s.lanes + s.lane_offset[k] + lane;
      __m512i plane[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; i++)
        plane[i] = _mm512_loadu_si512(t + 64 * i);
#pragma GCC unroll 4
      for (int j = 0; j < VECTORS; j++) {
        const __m512i x = _mm512_maskz_loadu_epi8(live[j], code + 64 * j);
        const __m512i low = permute256(plane[0], plane[1], plane[2], plane[3], x);
        const __m512i high = permute256(plane[4], plane[5], plane[6], plane[7], x);
        low_all[j] = _mm512_add_epi16(low_all[j], low);
        low_odd[j] = _mm512_add_epi16(low_odd[j], _mm512_srli_epi16(low, 8));
        high_all[j] = _mm512_add_epi16(high_all[j], high);
        high_odd[j] = _mm512_add_epi16(high_odd[j], _mm512_srli_epi16(high, 8));
      }
    }
    const __m512i base = _mm512_set1_epi32((int32_t)((uint32_t)(k1 - k0) * (uint32_t)s.least));
#pragma GCC unroll 4
    for (int j = 0; j < VECTORS; j++)
      flush(low_all[j], low_odd[j], high_all[j], high_odd[j], base, k0 > 0, sum + 64 * j);
  }
}

#endif

// Sums of one row against up to DIRECT_LANES consecutive lanes.
void direct(const dv::Lookup& s, int64_t row, int64_t lane, int64_t lanes, int32_t* sum) {
#if defined(__AVX512VBMI__)
  if (s.by_row_planes)
    return lanes > 128  ? direct_registers<4>(s, row, lane, lanes, sum)
           : lanes > 64 ? direct_registers<2>(s, row, lane, lanes, sum)
                        : direct_registers<1>(s, row, lane, lanes, sum);
#endif
  direct_row(s, row, lane, lanes, sum);
}

} // namespace
