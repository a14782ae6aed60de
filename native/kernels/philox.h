// Philox4x32-10 (Salmon et al., SC'11), many counters at a time: the words that Triton's
// `randint4x(seed, counter)` gives.
#pragma once
#include "kernels/simd.h"

namespace {

const uint32_t PHILOX_A = 0xD2511F53, PHILOX_B = 0xCD9E8D57;
const uint32_t PHILOX_KEY_A = 0x9E3779B9, PHILOX_KEY_B = 0xBB67AE85;

inline void philox_one(uint64_t seed, uint64_t counter, uint32_t* out) {
  uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0};
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = (uint64_t)PHILOX_A * c[0], b = (uint64_t)PHILOX_B * c[2];
    c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k0;
    c[1] = (uint32_t)b;
    c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k1;
    c[3] = (uint32_t)a;
    k0 += PHILOX_KEY_A;
    k1 += PHILOX_KEY_B;
  }
  memcpy(out, c, sizeof c);
}

// Vectors of 64-bit lanes, whose low halves hold the words: the widening multiply reads only those,
// so the high halves may hold anything.
#if defined(__AVX512F__)
using PhiloxLanes = __m512i;
inline PhiloxLanes philox_set(uint32_t x) { return _mm512_set1_epi64(x); }
inline PhiloxLanes philox_mul(PhiloxLanes a, PhiloxLanes b) { return _mm512_mul_epu32(a, b); }
// A shuffle, as shifts wait for the port that multiplies.
inline PhiloxLanes philox_high(PhiloxLanes a) { return _mm512_shuffle_epi32(a, _MM_PERM_DDBB); }
inline PhiloxLanes philox_xor(PhiloxLanes a, PhiloxLanes b, PhiloxLanes c) {
  return _mm512_ternarylogic_epi64(a, b, c, 0x96);
}
inline PhiloxLanes philox_load(const uint64_t* p) { return _mm512_loadu_si512(p); }
// words 0 and 1, words 2 and 3 of each counter, in the order of the counters
inline void philox_store(PhiloxLanes w0, PhiloxLanes w1, PhiloxLanes w2, PhiloxLanes w3,
                         uint32_t* out) {
  const __m512i p = _mm512_mask_blend_epi32(0xaaaa, w0, _mm512_slli_epi64(w1, 32));
  const __m512i q = _mm512_mask_blend_epi32(0xaaaa, w2, _mm512_slli_epi64(w3, 32));
  const __m512i low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  _mm512_storeu_si512(out, _mm512_permutex2var_epi64(p, low, q));
  _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi64(p, high, q));
}
#elif defined(__AVX2__)
using PhiloxLanes = __m256i;
inline PhiloxLanes philox_set(uint32_t x) { return _mm256_set1_epi64x(x); }
inline PhiloxLanes philox_mul(PhiloxLanes a, PhiloxLanes b) { return _mm256_mul_epu32(a, b); }
inline PhiloxLanes philox_high(PhiloxLanes a) { return _mm256_srli_epi64(a, 32); }
inline PhiloxLanes philox_xor(PhiloxLanes a, PhiloxLanes b, PhiloxLanes c) {
  return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
inline PhiloxLanes philox_load(const uint64_t* p) {
  return _mm256_loadu_si256((const __m256i*)(const void*)p);
}
inline void philox_store(PhiloxLanes w0, PhiloxLanes w1, PhiloxLanes w2, PhiloxLanes w3,
                         uint32_t* out) {
  const __m256i p = _mm256_blend_epi32(w0, _mm256_slli_epi64(w1, 32), 0xaa);
  const __m256i q = _mm256_blend_epi32(w2, _mm256_slli_epi64(w3, 32), 0xaa);
  const __m256i even = _mm256_unpacklo_epi64(p, q), odd = _mm256_unpackhi_epi64(p, q);
  _mm256_storeu_si256((__m256i*)(void*)out, _mm256_permute2x128_si256(even, odd, 0x20));
  _mm256_storeu_si256((__m256i*)(void*)(out + 8), _mm256_permute2x128_si256(even, odd, 0x31));
}
#endif

void philox(uint64_t seed, uint64_t counter, int64_t counters, uint32_t* out) {
  int64_t i = 0;
#if defined(__AVX2__)
  constexpr int LANES = sizeof(PhiloxLanes) / 8;
  const PhiloxLanes a = philox_set(PHILOX_A), b = philox_set(PHILOX_B);
  PhiloxLanes key0[10], key1[10];
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; round++) {
    key0[round] = philox_set(k0);
    key1[round] = philox_set(k1);
    k0 += PHILOX_KEY_A;
    k1 += PHILOX_KEY_B;
  }
  for (; i + 2 * LANES <= counters; i += 2 * LANES) {
    // Two vectors at a time hide the multiplier's latency.
    PhiloxLanes c0[2], c1[2], c2[2], c3[2];
    for (int v = 0; v < 2; v++) {
      uint64_t place[LANES];
      for (int j = 0; j < LANES; j++)
        place[j] = counter + (uint64_t)(i + v * LANES + j);
      // The first round, of counters whose upper words are zero.
      const PhiloxLanes given = philox_load(place), x = philox_mul(a, given), zero = philox_set(0);
      c0[v] = philox_xor(philox_high(given), key0[0], zero);
      c1[v] = zero;
      c2[v] = philox_xor(philox_high(x), key1[0], zero);
      c3[v] = x;
    }
#pragma GCC unroll 9
    for (int round = 1; round < 10; round++)
      for (int v = 0; v < 2; v++) {
        const PhiloxLanes x = philox_mul(a, c0[v]), y = philox_mul(b, c2[v]);
        c0[v] = philox_xor(philox_high(y), c1[v], key0[round]);
        c1[v] = y;
        c2[v] = philox_xor(philox_high(x), c3[v], key1[round]);
        c3[v] = x;
      }
    for (int v = 0; v < 2; v++)
      philox_store(c0[v], c1[v], c2[v], c3[v], out + 4 * (i + v * LANES));
  }
#endif
  for (; i < counters; i++)
    philox_one(seed, counter + (uint64_t)i, out + 4 * i);
}

} // namespace
