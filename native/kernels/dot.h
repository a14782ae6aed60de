// The factored multiplier: sums of products of bytes, one side unsigned, the other signed.
//
// |u8 * s8| <= 255 * 128 and every form below accumulates in 32 bits without saturation, so each
// is exact modulo 2^32.
#pragma once
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace {

inline const uint8_t* row_at(const dv::Dot& d, int64_t row, const dv::Span& span) {
  return d.rows + row * d.row_stride + span.row;
}

inline const uint8_t* lane_at(const dv::Dot& d, int64_t lane, const dv::Span& span) {
  return d.lanes + span.lane + lane * 4;
}

#if defined(__AVX512BW__)

#if defined(__AMX_INT8__)
constexpr int64_t DOT_ROWS = 32, DOT_LANES = 32; // four matrix tiles of 16 x 16
#else
constexpr int64_t DOT_ROWS = 8, DOT_LANES = 48;
#endif
constexpr int64_t DOT_VECTORS = DOT_LANES / 16;

#if defined(__AVX512VNNI__)
template <bool LANES_UNSIGNED> inline __m512i multiply_add(__m512i sum, __m512i lane, __m512i row) {
  return LANES_UNSIGNED ? _mm512_dpbusd_epi32(sum, lane, row) : _mm512_dpbusd_epi32(sum, row, lane);
}
#else
// Without VNNI: the even and the odd bytes as 16-bit numbers, two multiply-adds.
template <bool UNSIGNED> inline __m512i even_bytes(__m512i x) {
  return UNSIGNED ? _mm512_and_si512(x, _mm512_set1_epi16(255))
                  : _mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8);
}
template <bool UNSIGNED> inline __m512i odd_bytes(__m512i x) {
  return UNSIGNED ? _mm512_srli_epi16(x, 8) : _mm512_srai_epi16(x, 8);
}
template <bool LANES_UNSIGNED> inline __m512i multiply_add(__m512i sum, __m512i lane, __m512i row) {
  const __m512i even =
      _mm512_madd_epi16(even_bytes<LANES_UNSIGNED>(lane), even_bytes<!LANES_UNSIGNED>(row));
  const __m512i odd =
      _mm512_madd_epi16(odd_bytes<LANES_UNSIGNED>(lane), odd_bytes<!LANES_UNSIGNED>(row));
  return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}
#endif

template <bool LANES_UNSIGNED, int ROWS>
void dot_block(const dv::Dot& d, int64_t row, int64_t lane, int32_t* out) {
  __m512i sum[ROWS][DOT_VECTORS];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
    for (int j = 0; j < DOT_VECTORS; j++)
      sum[i][j] = _mm512_setzero_si512();
  for (int64_t s = 0; s < d.span_count; s++) {
    const uint8_t* l = lane_at(d, lane, d.spans[s]);
    const uint8_t* r = row_at(d, row, d.spans[s]);
    for (int64_t q = 0; q < d.spans[s].quads; q++, l += d.quad_stride, r += 4) {
      __m512i x[DOT_VECTORS];
#pragma GCC unroll 3
      for (int j = 0; j < DOT_VECTORS; j++)
        x[j] = _mm512_loadu_si512(l + 64 * j);
#pragma GCC unroll 8
      for (int i = 0; i < ROWS; i++) {
        int32_t word;
        memcpy(&word, r + i * d.row_stride, 4);
        const __m512i y = _mm512_set1_epi32(word);
#pragma GCC unroll 3
        for (int j = 0; j < DOT_VECTORS; j++)
          sum[i][j] = multiply_add<LANES_UNSIGNED>(sum[i][j], x[j], y);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 3
    for (int j = 0; j < DOT_VECTORS; j++)
      _mm512_storeu_si512(out + i * DOT_LANES + 16 * j, sum[i][j]);
}

#elif defined(__AVX2__)

constexpr int64_t DOT_ROWS = 4, DOT_LANES = 16, DOT_VECTORS = DOT_LANES / 8;

template <bool UNSIGNED> inline __m256i even_bytes(__m256i x) {
  return UNSIGNED ? _mm256_and_si256(x, _mm256_set1_epi16(255))
                  : _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
}
template <bool UNSIGNED> inline __m256i odd_bytes(__m256i x) {
  return UNSIGNED ? _mm256_srli_epi16(x, 8) : _mm256_srai_epi16(x, 8);
}

template <bool LANES_UNSIGNED, int ROWS>
void dot_block(const dv::Dot& d, int64_t row, int64_t lane, int32_t* out) {
  __m256i sum[ROWS][DOT_VECTORS];
#pragma GCC unroll 4
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 2
    for (int j = 0; j < DOT_VECTORS; j++)
      sum[i][j] = _mm256_setzero_si256();
  for (int64_t s = 0; s < d.span_count; s++) {
    const uint8_t* l = lane_at(d, lane, d.spans[s]);
    const uint8_t* r = row_at(d, row, d.spans[s]);
    for (int64_t q = 0; q < d.spans[s].quads; q++, l += d.quad_stride, r += 4) {
      __m256i even[DOT_VECTORS], odd[DOT_VECTORS];
#pragma GCC unroll 2
      for (int j = 0; j < DOT_VECTORS; j++) {
        const __m256i x = _mm256_loadu_si256((const __m256i*)(l + 32 * j));
        even[j] = even_bytes<LANES_UNSIGNED>(x);
        odd[j] = odd_bytes<LANES_UNSIGNED>(x);
      }
#pragma GCC unroll 4
      for (int i = 0; i < ROWS; i++) {
        int32_t word;
        memcpy(&word, r + i * d.row_stride, 4);
        const __m256i y = _mm256_set1_epi32(word);
        const __m256i y_even = even_bytes<!LANES_UNSIGNED>(y);
        const __m256i y_odd = odd_bytes<!LANES_UNSIGNED>(y);
#pragma GCC unroll 2
        for (int j = 0; j < DOT_VECTORS; j++)
          sum[i][j] =
              _mm256_add_epi32(sum[i][j], _mm256_add_epi32(_mm256_madd_epi16(even[j], y_even),
                                                           _mm256_madd_epi16(odd[j], y_odd)));
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 2
    for (int j = 0; j < DOT_VECTORS; j++)
      _mm256_storeu_si256((__m256i*)(out + i * DOT_LANES + 8 * j), sum[i][j]);
}

#else

constexpr int64_t DOT_ROWS = 4, DOT_LANES = 16;

template <bool LANES_UNSIGNED, int ROWS>
void dot_block(const dv::Dot& d, int64_t row, int64_t lane, int32_t* out) {
  for (int64_t i = 0; i < ROWS * DOT_LANES; i++)
    out[i] = 0;
  for (int64_t span = 0; span < d.span_count; span++)
    for (int64_t q = 0; q < d.spans[span].quads; q++) {
      const uint8_t* l = lane_at(d, lane, d.spans[span]) + q * d.quad_stride;
      for (int64_t i = 0; i < ROWS; i++) {
        const uint8_t* r = row_at(d, row + i, d.spans[span]) + q * 4;
        int32_t y[4];
        for (int b = 0; b < 4; b++)
          y[b] = LANES_UNSIGNED ? (int32_t)(int8_t)r[b] : (int32_t)r[b];
        for (int64_t j = 0; j < DOT_LANES; j++) {
          uint32_t s = 0;
          for (int b = 0; b < 4; b++) {
            const uint8_t x = l[4 * j + b];
            s += (uint32_t)((LANES_UNSIGNED ? (int32_t)x : (int32_t)(int8_t)x) * y[b]);
          }
          out[i * DOT_LANES + j] = (int32_t)((uint32_t)out[i * DOT_LANES + j] + s);
        }
      }
    }
}

#endif

#if defined(__AMX_INT8__)

// Four accumulator tiles of 16 x 16, fed by two row tiles and two lane tiles of quad_step quads.

struct alignas(64) TileConfig {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};

void dot_begin(int64_t quads) {
  TileConfig c;
  memset(&c, 0, sizeof c);
  c.palette = 1;
  for (int t = 0; t < 4; t++)
    c.rows[t] = 16, c.bytes[t] = 64;
  for (int t = 4; t < 6; t++)
    c.rows[t] = 16, c.bytes[t] = (uint16_t)(quads * 4);
  for (int t = 6; t < 8; t++)
    c.rows[t] = (uint8_t)quads, c.bytes[t] = 64;
  // The intrinsic claims to read eight bytes only; this keeps the stores to the rest.
  __asm__ volatile("" : : "r"(&c) : "memory");
  _tile_loadconfig(&c);
}

void dot_end() { _tile_release(); }

// Few rows: half of the tiles, so half of the work.
template <bool LANES_UNSIGNED>
void dot_half(const dv::Dot& d, int64_t row, int64_t lane, int32_t* out) {
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t s = 0; s < d.span_count; s++) {
    const uint8_t* l = lane_at(d, lane, d.spans[s]);
    const uint8_t* r = row_at(d, row, d.spans[s]);
    for (int64_t q = 0; q < d.spans[s].quads; q += d.quad_step) {
      const uint8_t* lq = l + q * d.quad_stride;
      _tile_loadd(4, r + q * 4, d.row_stride);
      _tile_loadd(6, lq, d.quad_stride);
      _tile_loadd(7, lq + 64, d.quad_stride);
      if (LANES_UNSIGNED) {
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
      } else {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
      }
    }
  }
  _tile_stored(0, out, DOT_LANES * 4);
  _tile_stored(1, out + 16, DOT_LANES * 4);
}

void dot(const dv::Dot& d, int64_t row, int64_t rows, int64_t lane, int32_t* out) {
  if (rows == 1) // bound by memory, which tiles read less evenly
    return d.lanes_unsigned ? dot_block<true, 1>(d, row, lane, out)
                            : dot_block<false, 1>(d, row, lane, out);
  if (rows <= 16)
    return d.lanes_unsigned ? dot_half<true>(d, row, lane, out)
                            : dot_half<false>(d, row, lane, out);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < d.span_count; s++) {
    const uint8_t* l = lane_at(d, lane, d.spans[s]);
    for (int64_t q = 0; q < d.spans[s].quads; q += d.quad_step) {
      const uint8_t* r = row_at(d, row, d.spans[s]) + q * 4;
      const uint8_t* lq = l + q * d.quad_stride;
      _tile_loadd(4, r, d.row_stride);
      _tile_loadd(6, lq, d.quad_stride);
      _tile_loadd(7, lq + 64, d.quad_stride);
      _tile_loadd(5, r + 16 * d.row_stride, d.row_stride);
      if (d.lanes_unsigned) {
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
      } else {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
      }
    }
  }
  _tile_stored(0, out, DOT_LANES * 4);
  _tile_stored(1, out + 16, DOT_LANES * 4);
  _tile_stored(2, out + 16 * DOT_LANES, DOT_LANES * 4);
  _tile_stored(3, out + 16 * DOT_LANES + 16, DOT_LANES * 4);
}

#else

void dot_begin(int64_t) {}
void dot_end() {}

// A single row (a batch of one) is bound by memory: no work on the rows that are not there.
void dot(const dv::Dot& d, int64_t row, int64_t rows, int64_t lane, int32_t* out) {
  if (d.lanes_unsigned)
    rows > 1 ? dot_block<true, DOT_ROWS>(d, row, lane, out) : dot_block<true, 1>(d, row, lane, out);
  else
    rows > 1 ? dot_block<false, DOT_ROWS>(d, row, lane, out)
             : dot_block<false, 1>(d, row, lane, out);
}

#endif

} // namespace
