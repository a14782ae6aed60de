// The general multiplier: sums of table entries.
//
// Row-add. Fix one k and a few lanes, and write the table once more as P[code][lane]: 256 rows of
// one vector. Then every row of the other operand is one vector load and one addition, P[its code].
// Sixteen k share a sweep over the sums: these then stay in registers for sixteen additions, which
// outweighs that the sixteen P together (256 KiB) live in the second-level cache.
//
// The narrow form (32 lanes) keeps P as 16-bit distances from the table's middle value and adds
// even and odd lanes by a multiply-add with (1, 0) and (0, 1). Where the table spans at most 32767
// (`pairs`), distances lie in [-16384, 16383], so two of them sum in 16 bits without overflow.
#pragma once
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace {

constexpr int64_t SWEEP = 16; // k per sweep

inline uint8_t lane_code(const dv::Lookup& s, int64_t k, int64_t lane) {
  return s.lanes[s.lane_offset[k] + (s.lane_place ? s.lane_place[lane] : lane)];
}

#if defined(__AVX512BW__)
constexpr int64_t WIDE_LANES = 16;
typedef __m512i Wide;
inline Wide wide_load(const int32_t* p) { return _mm512_loadu_si512(p); }
inline void wide_store(int32_t* p, Wide x) { _mm512_storeu_si512(p, x); }
inline Wide wide_add(Wide a, Wide b) { return _mm512_add_epi32(a, b); }
inline Wide wide_select(uint32_t lanes, Wide x) {
  return _mm512_maskz_mov_epi32((__mmask16)lanes, x);
}
#elif defined(__AVX2__)
constexpr int64_t WIDE_LANES = 8;
typedef __m256i Wide;
inline Wide wide_load(const int32_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline void wide_store(int32_t* p, Wide x) { _mm256_storeu_si256((__m256i*)p, x); }
inline Wide wide_add(Wide a, Wide b) { return _mm256_add_epi32(a, b); }
inline Wide wide_select(uint32_t lanes, Wide x) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i chosen = _mm256_and_si256(_mm256_set1_epi32((int32_t)lanes), bits);
  return _mm256_and_si256(x, _mm256_cmpeq_epi32(chosen, bits));
}
#else
constexpr int64_t WIDE_LANES = 4;
struct Wide {
  uint32_t x[4];
};
inline Wide wide_load(const int32_t* p) {
  Wide v;
  memcpy(&v, p, sizeof v);
  return v;
}
inline void wide_store(int32_t* p, Wide v) { memcpy(p, &v, sizeof v); }
inline Wide wide_add(Wide a, Wide b) {
  for (int i = 0; i < 4; i++)
    a.x[i] += b.x[i];
  return a;
}
inline Wide wide_select(uint32_t lanes, Wide v) {
  for (int i = 0; i < 4; i++)
    v.x[i] = lanes >> i & 1 ? v.x[i] : 0;
  return v;
}
#endif

// The lanes from `lane` on that tap t serves.
inline uint32_t lanes_served(const dv::Lookup& s, int64_t t, int64_t lane) {
  return s.lane_mask ? s.lane_mask[t * s.mask_words + lane / 32] >> (lane % 32) : ~0u;
}

// P[code][lane] = column[lane][code]: a transposition of WIDE_LANES table columns.
void build_wide(const int32_t* const* column, int32_t* p) {
#if defined(__AVX512BW__)
  for (int c = 0; c < 256; c += 4) {
    // Four columns side by side, each one 128-bit chunk; a 4 x 4 transposition inside the chunks
    // then leaves whole rows.
    __m512i x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      x[i] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)(column[i] + c)));
      x[i] = _mm512_mask_broadcast_i32x4(x[i], 0x00f0,
                                         _mm_loadu_si128((const __m128i*)(column[4 + i] + c)));
      x[i] = _mm512_mask_broadcast_i32x4(x[i], 0x0f00,
                                         _mm_loadu_si128((const __m128i*)(column[8 + i] + c)));
      x[i] = _mm512_mask_broadcast_i32x4(x[i], 0xf000,
                                         _mm_loadu_si128((const __m128i*)(column[12 + i] + c)));
    }
    const __m512i l01 = _mm512_unpacklo_epi32(x[0], x[1]), h01 = _mm512_unpackhi_epi32(x[0], x[1]);
    const __m512i l23 = _mm512_unpacklo_epi32(x[2], x[3]), h23 = _mm512_unpackhi_epi32(x[2], x[3]);
    _mm512_store_si512(p + c * 16, _mm512_unpacklo_epi64(l01, l23));
    _mm512_store_si512(p + c * 16 + 16, _mm512_unpackhi_epi64(l01, l23));
    _mm512_store_si512(p + c * 16 + 32, _mm512_unpacklo_epi64(h01, h23));
    _mm512_store_si512(p + c * 16 + 48, _mm512_unpackhi_epi64(h01, h23));
  }
#elif defined(__AVX2__)
  for (int c = 0; c < 256; c += 4) {
    __m256i x[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
      x[i] = _mm256_inserti128_si256(
          _mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)(column[i] + c))),
          _mm_loadu_si128((const __m128i*)(column[4 + i] + c)), 1);
    const __m256i l01 = _mm256_unpacklo_epi32(x[0], x[1]), h01 = _mm256_unpackhi_epi32(x[0], x[1]);
    const __m256i l23 = _mm256_unpacklo_epi32(x[2], x[3]), h23 = _mm256_unpackhi_epi32(x[2], x[3]);
    __m256i* o = (__m256i*)(p + c * 8);
    _mm256_store_si256(o, _mm256_unpacklo_epi64(l01, l23));
    _mm256_store_si256(o + 1, _mm256_unpackhi_epi64(l01, l23));
    _mm256_store_si256(o + 2, _mm256_unpacklo_epi64(h01, h23));
    _mm256_store_si256(o + 3, _mm256_unpackhi_epi64(h01, h23));
  }
#else
  for (int c = 0; c < 256; c++)
    for (int i = 0; i < WIDE_LANES; i++)
      p[c * WIDE_LANES + i] = column[i][c];
#endif
}

template <int DEPTH>
void sweep_wide(const dv::Lookup& s, const int64_t* row_offset, const int32_t* p, uint32_t lanes,
                const dv::Run* runs, int64_t run_count, int32_t* out) {
  for (int64_t r = 0; r < run_count; r++) {
    const uint8_t* code[DEPTH];
    for (int d = 0; d < DEPTH; d++)
      code[d] = s.rows + row_offset[d] + runs[r].p;
    for (int64_t i = 0; i < runs[r].length; i++, out += s.out_stride) {
      Wide sum = wide_load(p + (size_t)code[0][i] * WIDE_LANES);
#pragma GCC unroll 16
      for (int d = 1; d < DEPTH; d++)
        sum = wide_add(sum, wide_load(p + (d * 256 + (size_t)code[d][i]) * WIDE_LANES));
      wide_store(out, wide_add(wide_load(out), wide_select(lanes, sum)));
    }
  }
}

void add_wide(const dv::Lookup& s, int64_t lane, const dv::Run* runs, int64_t run_count,
              int32_t* out) {
  constexpr int64_t SIZE = 256 * WIDE_LANES;
  alignas(64) int32_t p[SWEEP * SIZE];
  for (int64_t k = 0; k < s.depth; k += SWEEP) {
    const int64_t depth = s.depth - k < SWEEP ? s.depth - k : SWEEP;
    for (int64_t d = 0; d < depth; d++) {
      const int32_t* column[WIDE_LANES];
      for (int64_t i = 0; i < WIDE_LANES; i++)
        column[i] = s.by_lane + 256 * lane_code(s, k + d, lane + i);
      build_wide(column, p + d * SIZE);
    }
    for (int64_t t = 0; t < s.taps; t++) {
      const int64_t* offset = s.row_offset + t * s.depth + k;
      int32_t* target = out + s.out_shift[t];
      const uint32_t lanes = lanes_served(s, t, lane);
      if (depth == SWEEP)
        sweep_wide<SWEEP>(s, offset, p, lanes, runs, run_count, target);
      else
        for (int64_t d = 0; d < depth; d++)
          sweep_wide<1>(s, offset + d, p + d * SIZE, lanes, runs, run_count, target);
    }
  }
}

#if defined(__AVX512VNNI__)

constexpr int64_t ADD_LANES = 32;
constexpr bool ADD_NARROW = true;

// P[code][32 lanes] of 16-bit entries. Lane i + 8 of each 128-bit chunk s is chosen so that even
// entries are lanes 0 to 15 and odd entries lanes 16 to 31.
void build_narrow(const int16_t* const* column, int16_t* p) {
  for (int c = 0; c < 256; c += 8) {
    __m512i x[8], y[8];
#pragma GCC unroll 16
    for (int i = 0; i < 8; i++) {
      const int first = i / 2 + (i & 1) * 16;
      x[i] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)(column[first] + c)));
      x[i] = _mm512_mask_broadcast_i32x4(x[i], 0x00f0,
                                         _mm_loadu_si128((const __m128i*)(column[first + 4] + c)));
      x[i] = _mm512_mask_broadcast_i32x4(x[i], 0x0f00,
                                         _mm_loadu_si128((const __m128i*)(column[first + 8] + c)));
      x[i] = _mm512_mask_broadcast_i32x4(x[i], 0xf000,
                                         _mm_loadu_si128((const __m128i*)(column[first + 12] + c)));
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      y[2 * i] = _mm512_unpacklo_epi16(x[2 * i], x[2 * i + 1]);
      y[2 * i + 1] = _mm512_unpackhi_epi16(x[2 * i], x[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int h = 0; h < 8; h += 4) {
      x[h + 0] = _mm512_unpacklo_epi32(y[h], y[h + 2]);
      x[h + 1] = _mm512_unpackhi_epi32(y[h], y[h + 2]);
      x[h + 2] = _mm512_unpacklo_epi32(y[h + 1], y[h + 3]);
      x[h + 3] = _mm512_unpackhi_epi32(y[h + 1], y[h + 3]);
    }
    __m512i* o = (__m512i*)(p + c * 32);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      _mm512_store_si512(o + 2 * i, _mm512_unpacklo_epi64(x[i], x[i + 4]));
      _mm512_store_si512(o + 2 * i + 1, _mm512_unpackhi_epi64(x[i], x[i + 4]));
    }
  }
}

// One sweep over DEPTH (even) tables P.
template <int DEPTH, bool PAIRS>
void sweep_narrow(const dv::Lookup& s, const int64_t* row_offset, const int16_t* p, uint32_t lanes,
                  const dv::Run* runs, int64_t run_count, int32_t* out) {
  const __m512i even = _mm512_set1_epi32(1), odd = _mm512_set1_epi32(1 << 16);
  for (int64_t r = 0; r < run_count; r++) {
    const uint8_t* code[DEPTH];
    for (int d = 0; d < DEPTH; d++)
      code[d] = s.rows + row_offset[d] + runs[r].p;
    for (int64_t i = 0; i < runs[r].length; i++, out += s.out_stride) {
      __m512i low = _mm512_setzero_si512(), high = low;
#pragma GCC unroll 16
      for (int d = 0; d < DEPTH; d += 2) {
        const int16_t* at = p + d * 256 * ADD_LANES;
        const __m512i x = _mm512_load_si512(at + ADD_LANES * (size_t)code[d][i]);
        const __m512i y =
            _mm512_load_si512(at + 256 * ADD_LANES + ADD_LANES * (size_t)code[d + 1][i]);
        if (PAIRS) {
          const __m512i z = _mm512_add_epi16(x, y);
          low = _mm512_dpwssd_epi32(low, z, even);
          high = _mm512_dpwssd_epi32(high, z, odd);
        } else {
          low = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(low, x, even), y, even);
          high = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(high, x, odd), y, odd);
        }
      }
      const __m512i a = _mm512_loadu_si512(out), b = _mm512_loadu_si512(out + 16);
      _mm512_storeu_si512(out, _mm512_mask_add_epi32(a, (__mmask16)lanes, a, low));
      _mm512_storeu_si512(out + 16, _mm512_mask_add_epi32(b, (__mmask16)(lanes >> 16), b, high));
    }
  }
}

template <bool PAIRS>
void add_narrow(const dv::Lookup& s, int64_t lane, const dv::Run* runs, int64_t run_count,
                int32_t* out) {
  constexpr int64_t SIZE = 256 * ADD_LANES;
  alignas(64) int16_t p[SWEEP * SIZE];
  for (int64_t k = 0; k < s.depth; k += SWEEP) {
    const int64_t depth = s.depth - k < SWEEP ? s.depth - k : SWEEP;
    for (int64_t d = 0; d < depth; d++) {
      const int16_t* column[ADD_LANES];
      for (int64_t i = 0; i < ADD_LANES; i++)
        column[i] = s.by_lane16 + 256 * lane_code(s, k + d, lane + i);
      build_narrow(column, p + d * SIZE);
    }
    if (depth % 2) // what an odd tail lacks adds zeros
      memset(p + depth * SIZE, 0, SIZE * sizeof(int16_t));
    for (int64_t t = 0; t < s.taps; t++) {
      const int64_t* offset = s.row_offset + t * s.depth + k;
      int32_t* target = out + s.out_shift[t];
      const uint32_t lanes = lanes_served(s, t, lane);
      if (depth == SWEEP) {
        sweep_narrow<SWEEP, PAIRS>(s, offset, p, lanes, runs, run_count, target);
        continue;
      }
      for (int64_t d = 0; d < depth; d += 2) {
        const int64_t two[2] = {offset[d], offset[d + 1 < depth ? d + 1 : d]};
        sweep_narrow<2, PAIRS>(s, two, p + d * SIZE, lanes, runs, run_count, target);
      }
    }
  }
}

#else
constexpr int64_t ADD_LANES = WIDE_LANES;
constexpr bool ADD_NARROW = false;
#endif

void add(const dv::Lookup& s, int64_t lane, const dv::Run* runs, int64_t run_count, int32_t* out) {
#if defined(__AVX512VNNI__)
  if (s.by_lane16)
    return s.pairs ? add_narrow<true>(s, lane, runs, run_count, out)
                   : add_narrow<false>(s, lane, runs, run_count, out);
#endif
  for (int64_t part = 0; part < ADD_LANES; part += WIDE_LANES)
    add_wide(s, lane + part, runs, run_count, out + part);
}

} // namespace
