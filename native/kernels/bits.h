// Floats and their bits, and the pragma that loops over both need.
#pragma once
#include "kernels/simd.h"

// Input and output may be the same memory, element by element, but overlap in no other way.
#if defined(__clang__)
#define DV_ELEMENTWISE _Pragma("clang loop vectorize(assume_safety)")
#else
#define DV_ELEMENTWISE _Pragma("GCC ivdep")
#endif

namespace {

constexpr int32_t ONE = 0x3f800000, INFINITE = 0x7f800000, MAGNITUDE = 0x7fffffff; // of float32

template <typename Float, typename Int> inline Int bits_of(const Float& x) {
  Int bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

template <typename Float, typename Int> inline Float float_of(const Int& bits) {
  Float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

} // namespace
