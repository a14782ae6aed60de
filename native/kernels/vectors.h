// Vectors of the level's width, in the compilers' own notation.
#pragma once
#include "kernels/simd.h"

namespace {

#if defined(__AVX512F__)
constexpr int VECTOR = 64, SUM_VECTORS = 16; // bytes, and how many of them hold a tile's sums
#elif defined(__AVX2__)
constexpr int VECTOR = 32, SUM_VECTORS = 8;
#else
constexpr int VECTOR = 16, SUM_VECTORS = 8;
#endif

template <typename T, int N = VECTOR / (int)sizeof(T)> struct Packed {
  typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <typename T, int N = VECTOR / (int)sizeof(T)> using Vec = typename Packed<T, N>::type;

template <typename T> constexpr int WIDTH = VECTOR / (int)sizeof(T);
// A tile has as many lanes as a vector has bytes, whatever their type.
constexpr int LANES = VECTOR;
template <typename T> constexpr int LANE_VECTORS = LANES / WIDTH<T>;
template <typename T> constexpr int TILE_ROWS = SUM_VECTORS / LANE_VECTORS<T>;

template <typename V> inline V load(const void* from) {
  V v;
  memcpy(&v, from, sizeof v);
  return v;
}

template <typename V> inline void store(void* to, const V& v) { memcpy(to, &v, sizeof v); }

template <typename To, typename From> inline To as(const From& v) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  return load<To>(&v);
}

// The widest intrinsics of the level behind one name each.
#if defined(__AVX512F__)
#define DV_NATIVE(name, suffix) _mm512_##name##_##suffix
typedef __m512i NativeInt;
typedef __m512 NativeFloat;
#elif defined(__AVX2__)
#define DV_NATIVE(name, suffix) _mm256_##name##_##suffix
typedef __m256i NativeInt;
typedef __m256 NativeFloat;
#elif defined(__SSE2__)
#define DV_NATIVE(name, suffix) _mm_##name##_##suffix
typedef __m128i NativeInt;
typedef __m128 NativeFloat;
#endif

} // namespace
