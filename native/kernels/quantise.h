// Floats to codes, codes through byte tables, and the two byte shuffles the layouts need.
// Mostly plain loops: the compiler vectorises them at every level.
#pragma once
#include "kernels/simd.h"

namespace {

// clamp(rint(x / scale) + zero_point), as integer arithmetic. Clamping x / scale to one beyond the
// code range first changes nothing (both steps are monotonic) and bounds it by 2^20, where adding
// 1.5 * 2^23 rounds to an integer, ties to even, and leaves that integer in the low mantissa bits.
inline int32_t quantise_one(float x, float scale, int32_t zero_point, float low, float high,
                            int32_t qmin, int32_t qmax) {
  const float magic = 12582912.0f;
  float v = x / scale;
  v = v == v ? v : 0.0f;
  v = v > low ? v : low;
  v = v < high ? v : high;
  const float shifted = v + magic;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  int32_t code = bits - 0x4b400000 + zero_point;
  code = code < qmin ? qmin : code;
  return code > qmax ? qmax : code;
}

template <typename Code>
void quantise_row(const float* __restrict x, int64_t n, float scale, int32_t zero_point,
                  int32_t qmin, int32_t qmax, Code* __restrict out) {
  const float low = (float)(qmin - zero_point - 1), high = (float)(qmax - zero_point + 1);
  for (int64_t i = 0; i < n; i++)
    out[i] = (Code)quantise_one(x[i], scale, zero_point, low, high, qmin, qmax);
}

#if defined(__AVX512BW__)

// Sixty-four bytes at a time, multiplying by 1 / scale: a division takes longer than all the rest.
// With q = x / scale and t the rounded product, |t - q| <= |q| * 2^-22.9 (two roundings; 1 / scale
// is a normal number) and |fl(q) - q| <= |q| * 2^-24. Clamped to at most 2^9 in magnitude they
// differ by less than 2^-13; beyond, both clamp to the same bound. So where t is no nearer than
// 2^-12 to any n + 1/2, it rounds to the same integer as fl(q) does. Other blocks, and those with a
// NaN, are left to the division.
constexpr float FAR_FROM_TIES = 0.5f - 1.0f / 4096;

bool quantise64(const float* x, __m512 inverse, __m512i zero, __m512 low, __m512 high,
                __m512i least, __m512i most, bool is_signed, uint8_t* out) {
  __m512 v[4], away = _mm512_setzero_ps();
  __m512i code[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    // A NaN passes minimum and maximum as the second operand.
    v[i] = _mm512_mul_ps(_mm512_loadu_ps(x + 16 * i), inverse);
    v[i] = _mm512_min_ps(high, _mm512_max_ps(low, v[i]));
    code[i] = _mm512_cvt_roundps_epi32(v[i], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    code[i] = _mm512_add_epi32(code[i], zero);
    away = _mm512_range_ps(away, _mm512_reduce_ps(v[i], 8), 11); // the larger magnitude
  }
  const __mmask16 near = _mm512_cmp_ps_mask(away, _mm512_set1_ps(FAR_FROM_TIES), _CMP_GT_OQ);
  const __mmask16 nan =
      _mm512_cmp_ps_mask(v[0], v[1], _CMP_UNORD_Q) | _mm512_cmp_ps_mask(v[2], v[3], _CMP_UNORD_Q);
  if (near | nan)
    return false;
  const __m512i a = _mm512_packs_epi32(code[0], code[1]);
  const __m512i b = _mm512_packs_epi32(code[2], code[3]);
  __m512i bytes = is_signed ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b);
  bytes = is_signed ? _mm512_min_epi8(_mm512_max_epi8(bytes, least), most)
                    : _mm512_min_epu8(_mm512_max_epu8(bytes, least), most);
  // Packing interleaves by 128 bits.
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  _mm512_storeu_si512(out, _mm512_permutexvar_epi32(order, bytes));
  return true;
}

// Bytes as far as whole blocks reach; how many.
int64_t quantise_blocks(const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin,
                        int32_t qmax, uint8_t* out) {
  const float low = (float)(qmin - zero_point - 1), high = (float)(qmax - zero_point + 1);
  if (low < -512 || high > 512 || scale < 1.2e-38f || scale > 8e37f)
    return 0;
  const __m512i zero = _mm512_set1_epi32(zero_point);
  const __m512i least = _mm512_set1_epi8((char)qmin), most = _mm512_set1_epi8((char)qmax);
  const __m512 inverse = _mm512_set1_ps(1.0f / scale), lows = _mm512_set1_ps(low);
  const __m512 highs = _mm512_set1_ps(high);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64)
    if (!quantise64(x + i, inverse, zero, lows, highs, least, most, qmin < 0, out + i))
      quantise_row(x + i, 64, scale, zero_point, qmin, qmax, out + i);
  return i;
}

#endif

void quantise(const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin,
              int32_t qmax, int32_t bytes, void* out) {
  if (bytes == 1) {
    uint8_t* codes = (uint8_t*)out;
#if defined(__AVX512BW__)
    const int64_t done = quantise_blocks(x, n, scale, zero_point, qmin, qmax, codes);
    x += done, n -= done, codes += done;
#endif
    quantise_row(x, n, scale, zero_point, qmin, qmax, codes);
  } else if (bytes == 2)
    quantise_row(x, n, scale, zero_point, qmin, qmax, (uint16_t*)out);
  else
    quantise_row(x, n, scale, zero_point, qmin, qmax, (uint32_t*)out);
}

void recode(const uint8_t* codes, int64_t n, const uint8_t* table, uint8_t* out) {
  int64_t i = 0;
#ifdef __AVX512VBMI__
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
  const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
  for (; i < n; i += 64) {
    const __mmask64 live = n - i >= 64 ? ~0ull : (1ull << (n - i)) - 1;
    const __m512i x = _mm512_maskz_loadu_epi8(live, codes + i);
    const __m512i low = _mm512_permutex2var_epi8(t0, x, t1);
    const __m512i high = _mm512_permutex2var_epi8(t2, x, t3);
    _mm512_mask_storeu_epi8(out + i, live,
                            _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
  }
#else
  for (; i < n; i++)
    out[i] = table[codes[i]];
#endif
}

uint32_t sum_codes(const uint8_t* codes, int64_t n, bool is_signed) {
  uint32_t sum = 0;
  if (is_signed)
    for (int64_t i = 0; i < n; i++)
      sum += (uint32_t)(int8_t)codes[i];
  else
    for (int64_t i = 0; i < n; i++)
      sum += codes[i];
  return sum;
}

bool any(const uint8_t* bytes, int64_t n) {
  uint8_t all = 0;
  for (int64_t i = 0; i < n; i++)
    all |= bytes[i];
  return all != 0;
}

// Short rows are common: no call per row.
void copy_rows(const uint8_t* in, int64_t rows, int64_t width, uint8_t* out, int64_t pitch) {
  for (int64_t r = 0; r < rows; r++, in += width, out += pitch) {
#if defined(__AVX512BW__)
    for (int64_t i = 0; i < width; i += 64) {
      const __mmask64 live = width - i >= 64 ? ~0ull : (1ull << (width - i)) - 1;
      _mm512_mask_storeu_epi8(out + i, live, _mm512_maskz_loadu_epi8(live, in + i));
    }
#else
    memcpy(out, in, (size_t)width);
#endif
  }
}

void interleave(const uint8_t* const rows[4], int64_t n, uint8_t* __restrict out) {
  const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
  int64_t i = 0;
#ifdef __SSE2__
  for (; i + 16 <= n; i += 16) {
    const __m128i x0 = _mm_loadu_si128((const __m128i*)(a + i));
    const __m128i x1 = _mm_loadu_si128((const __m128i*)(b + i));
    const __m128i x2 = _mm_loadu_si128((const __m128i*)(c + i));
    const __m128i x3 = _mm_loadu_si128((const __m128i*)(d + i));
    const __m128i l01 = _mm_unpacklo_epi8(x0, x1), h01 = _mm_unpackhi_epi8(x0, x1);
    const __m128i l23 = _mm_unpacklo_epi8(x2, x3), h23 = _mm_unpackhi_epi8(x2, x3);
    __m128i* o = (__m128i*)(out + 4 * i);
    _mm_storeu_si128(o + 0, _mm_unpacklo_epi16(l01, l23));
    _mm_storeu_si128(o + 1, _mm_unpackhi_epi16(l01, l23));
    _mm_storeu_si128(o + 2, _mm_unpacklo_epi16(h01, h23));
    _mm_storeu_si128(o + 3, _mm_unpackhi_epi16(h01, h23));
  }
#endif
  for (; i < n; i++) {
    out[4 * i] = a[i];
    out[4 * i + 1] = b[i];
    out[4 * i + 2] = c[i];
    out[4 * i + 3] = d[i];
  }
}

#ifdef __SSE2__
void transpose16(const uint8_t* in, int64_t in_stride, uint8_t* out, int64_t out_stride) {
  __m128i x[16], y[16];
  for (int i = 0; i < 16; i++)
    x[i] = _mm_loadu_si128((const __m128i*)(in + i * in_stride));
  // Four rounds of a perfect shuffle: after each, the byte's row bits move into its column bits.
  for (int round = 0; round < 2; round++) {
    for (int i = 0; i < 8; i++) {
      y[2 * i] = _mm_unpacklo_epi8(x[i], x[i + 8]);
      y[2 * i + 1] = _mm_unpackhi_epi8(x[i], x[i + 8]);
    }
    for (int i = 0; i < 8; i++) {
      x[2 * i] = _mm_unpacklo_epi8(y[i], y[i + 8]);
      x[2 * i + 1] = _mm_unpackhi_epi8(y[i], y[i + 8]);
    }
  }
  for (int i = 0; i < 16; i++)
    _mm_storeu_si128((__m128i*)(out + i * out_stride), x[i]);
}
#endif

void transpose(const uint8_t* in, int64_t in_stride, int64_t rows, int64_t cols, uint8_t* out,
               int64_t out_stride) {
  for (int64_t r = 0; r < rows; r += 16)
    for (int64_t c = 0; c < cols; c += 16) {
#ifdef __SSE2__
      if (r + 16 <= rows && c + 16 <= cols) {
        transpose16(in + r * in_stride + c, in_stride, out + c * out_stride + r, out_stride);
        continue;
      }
#endif
      for (int64_t i = r; i < rows && i < r + 16; i++)
        for (int64_t j = c; j < cols && j < c + 16; j++)
          out[j * out_stride + i] = in[i * in_stride + j];
    }
}

// The three float steps round separately (-ffp-contract=off); the correction is exact modulo 2^32.
inline float finish_one(int32_t sum, int32_t correction, float scale) {
  return (float)(int32_t)((uint32_t)sum - (uint32_t)correction) * scale;
}

void finish_channel(const int32_t* __restrict sum, int64_t n, int32_t correction, float scale,
                    const float* bias, float* __restrict out) {
  if (bias) {
    const float b = *bias;
    for (int64_t i = 0; i < n; i++)
      out[i] = finish_one(sum[i], correction, scale) + b;
  } else {
    for (int64_t i = 0; i < n; i++)
      out[i] = finish_one(sum[i], correction, scale);
  }
}

void finish_rows(const int32_t* sum, int64_t rows, int64_t width, int64_t pitch, int32_t correction,
                 float scale, const float* bias, float* out) {
#if defined(__AVX512BW__)
  const __m512i offset = _mm512_set1_epi32(correction);
  const __m512 factor = _mm512_set1_ps(scale), constant = _mm512_set1_ps(bias ? *bias : 0.0f);
  for (int64_t r = 0; r < rows; r++, sum += pitch, out += width)
    for (int64_t i = 0; i < width; i += 16) {
      const __mmask16 live = (__mmask16)(width - i >= 16 ? 0xffff : (1 << (width - i)) - 1);
      const __m512i x = _mm512_sub_epi32(_mm512_maskz_loadu_epi32(live, sum + i), offset);
      __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(x), factor);
      if (bias) // adding a zero would turn -0 into 0
        y = _mm512_add_ps(y, constant);
      _mm512_mask_storeu_ps(out + i, live, y);
    }
#else
  for (int64_t r = 0; r < rows; r++)
    finish_channel(sum + r * pitch, width, correction, scale, bias, out + r * width);
#endif
}

void finish_channels(const int32_t* __restrict sum, int64_t n, const int32_t* __restrict correction,
                     const float* __restrict scale, const float* __restrict bias,
                     float* __restrict out) {
  if (bias) {
    for (int64_t i = 0; i < n; i++)
      out[i] = finish_one(sum[i], correction[i], scale[i]) + bias[i];
  } else {
    for (int64_t i = 0; i < n; i++)
      out[i] = finish_one(sum[i], correction[i], scale[i]);
  }
}

} // namespace
