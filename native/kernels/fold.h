// Reductions across lanes, of as many registers at once as one of them has lanes: half the shuffles
// of one register after the other.
#pragma once
#include "kernels/lanes.h"

namespace {

#if defined(__AVX512F__)

// The lower or upper halves of neighbouring 32-bit, 64-bit or 128-bit parts of `a` and `b`, in
// turn.
inline Ints low32(Ints a, Ints b) { return (Ints)_mm512_unpacklo_epi32((__m512i)a, (__m512i)b); }
inline Ints high32(Ints a, Ints b) { return (Ints)_mm512_unpackhi_epi32((__m512i)a, (__m512i)b); }
inline Ints low64(Ints a, Ints b) { return (Ints)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b); }
inline Ints high64(Ints a, Ints b) { return (Ints)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b); }
inline Ints even128(Ints a, Ints b) {
  return (Ints)_mm512_shuffle_i32x4((__m512i)a, (__m512i)b, 0x88);
}
inline Ints odd128(Ints a, Ints b) {
  return (Ints)_mm512_shuffle_i32x4((__m512i)a, (__m512i)b, 0xdd);
}

#elif defined(__AVX2__)

inline Ints low32(Ints a, Ints b) { return (Ints)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b); }
inline Ints high32(Ints a, Ints b) { return (Ints)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b); }
inline Ints low64(Ints a, Ints b) { return (Ints)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
inline Ints high64(Ints a, Ints b) { return (Ints)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
inline Ints even128(Ints a, Ints b) {
  return (Ints)_mm256_permute2x128_si256((__m256i)a, (__m256i)b, 0x20);
}
inline Ints odd128(Ints a, Ints b) {
  return (Ints)_mm256_permute2x128_si256((__m256i)a, (__m256i)b, 0x31);
}

#elif defined(__SSE2__)

inline Ints low32(Ints a, Ints b) { return (Ints)_mm_unpacklo_epi32((__m128i)a, (__m128i)b); }
inline Ints high32(Ints a, Ints b) { return (Ints)_mm_unpackhi_epi32((__m128i)a, (__m128i)b); }
inline Ints low64(Ints a, Ints b) { return (Ints)_mm_unpacklo_epi64((__m128i)a, (__m128i)b); }
inline Ints high64(Ints a, Ints b) { return (Ints)_mm_unpackhi_epi64((__m128i)a, (__m128i)b); }

#else

inline Ints low32(Ints a, Ints b) { return Ints{a[0], b[0], a[1], b[1]}; }
inline Ints high32(Ints a, Ints b) { return Ints{a[2], b[2], a[3], b[3]}; }
inline Ints low64(Ints a, Ints b) { return Ints{a[0], a[1], b[0], b[1]}; }
inline Ints high64(Ints a, Ints b) { return Ints{a[2], a[3], b[2], b[3]}; }

#endif

// Four registers: in each 128 bits, the parts of all of them.
template <typename Join> inline Ints fold_four(Ints a, Ints b, Ints c, Ints d, Join&& join) {
  const Ints ab = join(low32(a, b), high32(a, b)), cd = join(low32(c, d), high32(c, d));
  return join(low64(ab, cd), high64(ab, cd));
}

// Lane i of the result: the join of all lanes of of(i). Joins of two registers work lane by lane,
// in any order.
template <typename Of, typename Join> inline Ints fold(Of&& of, Join&& join) {
  const auto four = [&](int i) { return fold_four(of(i), of(i + 1), of(i + 2), of(i + 3), join); };
#if defined(__AVX2__)
  const auto eight = [&](int i) {
    const Ints a = four(i), b = four(i + 4);
    return join(even128(a, b), odd128(a, b));
  };
#if defined(__AVX512F__)
  const Ints a = eight(0), b = eight(8);
  return join(even128(a, b), odd128(a, b));
#else
  return eight(0);
#endif
#else
  return four(0);
#endif
}

} // namespace
