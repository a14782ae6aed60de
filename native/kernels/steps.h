// Step functions: which of a sorted list of keys is the last one not above a number.
#pragma once
#include "kernels/casts.h"
#include "kernels/simd.h"

namespace {

#if defined(__AVX512F__)

// Entry `place` of a table of SIZE 32-bit words, lane by lane.
template <int SIZE> inline __m512i look_up(const __m512i* table, __m512i place) {
  if constexpr (SIZE <= 16) {
    return _mm512_permutexvar_epi32(place, table[0]);
  } else if constexpr (SIZE == 32) {
    return _mm512_permutex2var_epi32(table[0], place, table[1]);
  } else {
    const __mmask16 upper = _mm512_test_epi32_mask(place, _mm512_set1_epi32(SIZE / 2));
    return _mm512_mask_blend_epi32(upper, look_up<SIZE / 2>(table, place),
                                   look_up<SIZE / 2>(table + SIZE / 32, place));
  }
}

template <int LEVEL, int LEVELS>
inline __m512i descend(const __m512i tables[LEVELS][8], __m512i key, __m512i place) {
  const __m512i middle = look_up<(1 << LEVEL)>(tables[LEVEL], place);
  const __mmask16 above = _mm512_cmpge_epi32_mask(key, middle);
  place = _mm512_add_epi32(place, place);
  place = _mm512_mask_add_epi32(place, above, place, _mm512_set1_epi32(1));
  if constexpr (LEVEL + 1 < LEVELS)
    return descend<LEVEL + 1, LEVELS>(tables, key, place);
  else
    return place;
}

// A binary search whose levels, and the values, lie in registers: at most 2^LEVELS values.
template <int LEVELS>
void steps_in_registers(const float* x, int64_t n, const dv::Steps& t, float* out) {
  constexpr int SIZE = 1 << LEVELS;
  int32_t word[LEVELS][128];
  float value[SIZE];
  for (int level = 0; level < LEVELS; level++)
    for (int i = 0; i < (1 << level) || i < 16; i++) {
      const int place = ((2 * i + 1) << (LEVELS - level - 1)) & (SIZE - 1);
      word[level][i] = place < t.count ? t.key[place] : INT32_MAX;
    }
  for (int i = 0; i < SIZE; i++)
    value[i] = t.value[i < t.count ? i : t.count - 1];
  __m512i tables[LEVELS][8], values[SIZE / 16];
  for (int level = 0; level < LEVELS; level++)
    for (int i = 0; i == 0 || i < (1 << level) / 16; i++)
      tables[level][i] = _mm512_loadu_si512(word[level] + 16 * i);
  for (int i = 0; i < SIZE / 16; i++)
    values[i] = _mm512_loadu_si512(value + 16 * i);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff), infinite = _mm512_set1_epi32(0x7f800000);
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 live = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
    const __m512i bits = _mm512_maskz_loadu_epi32(live, x + i);
    const __m512i flip = _mm512_and_si512(_mm512_srai_epi32(bits, 31), magnitude);
    const __m512i place =
        descend<0, LEVELS>(tables, _mm512_xor_si512(bits, flip), _mm512_setzero_si512());
    const __mmask16 nan = _mm512_cmpgt_epi32_mask(_mm512_and_si512(bits, magnitude), infinite);
    const __m512i y = look_up<SIZE>(values, place);
    _mm512_mask_storeu_epi32(out + i, live, _mm512_mask_blend_epi32(nan, y, bits));
  }
}

#endif

void steps(const float* x, int64_t n, const dv::Steps& table, float* out) {
#if defined(__AVX512F__)
  if (table.count <= 16)
    return steps_in_registers<4>(x, n, table, out);
  if (table.count <= 32)
    return steps_in_registers<5>(x, n, table, out);
  if (table.count <= 64)
    return steps_in_registers<6>(x, n, table, out);
  if (table.count <= 128)
    return steps_in_registers<7>(x, n, table, out);
  if (table.count <= 256)
    return steps_in_registers<8>(x, n, table, out);
#endif
  const dv::Steps t = table;
  const int32_t infinite = 0x7f800000, all = 0x7fffffff;
#pragma GCC ivdep
  for (int64_t i = 0; i < n; i++) {
    int32_t bits;
    memcpy(&bits, &x[i], sizeof bits);
    const int32_t key = bits ^ ((bits >> 31) & all);
    int32_t place = t.find[((uint32_t)key ^ 0x80000000u) >> t.shift];
    for (int32_t half = (1 << t.halvings) >> 1; half > 0; half >>= 1)
      place += key >= t.key[place + half] ? half : 0;
    out[i] = (bits & all) > infinite ? x[i] : t.value[place];
  }
}

} // namespace
