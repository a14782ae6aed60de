// Vectors of lanes, one set per level: a multiply-add of units (two 16-bit integers or four bytes
// per lane, summed into 32 bits without saturation), and a term's way into the total.
//
// A term is float(dot) * 2^e, with 2^e in two factors, the row's and the lane's. Both products are
// exact (see `far` in core/block.cpp), so that a fused multiply-add rounds once, as the sum does.
#pragma once
#include "kernels/block.h"
#include "kernels/simd.h"

namespace {

#if defined(__AVX512BW__)

constexpr int64_t BLOCK_LANES = 32, BLOCK_ROWS = 6;
constexpr bool CAN_BIAS = true;

struct Vector {
  static constexpr int64_t WIDTH = 16;
  using Int = __m512i;
  using Float = __m512;
  static Int load(const void* p) { return _mm512_loadu_si512(p); }
  static Int all(int32_t x) { return _mm512_set1_epi32(x); }
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static Float all(float x) { return _mm512_set1_ps(x); }
  static void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static void store(int32_t* p, Int x) { _mm512_storeu_si512(p, x); }
  static Float add(Float x, Float y) { return _mm512_add_ps(x, y); }
  static Float multiply(Float x, Float y) { return _mm512_mul_ps(x, y); }
  static Float add_term(Float sum, Int dot, Float row, Float lane) {
    return _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dot), lane), row, sum);
  }
  // `less` is the lane's scale times -1.5 * 2^23.
  static Float add_biased(Float sum, Int dot, Float row, Float lane, Float less) {
    return _mm512_fmadd_ps(_mm512_fmadd_ps(_mm512_castsi512_ps(dot), lane, less), row, sum);
  }
  static Float one_nan(Float x) {
    return _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), all(__builtin_nanf("")));
  }
};

struct WordUnits : Vector {
  static Int multiply_add(Int sum, Int lane, Int row) {
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(sum, lane, row);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(lane, row));
#endif
  }
};

#if defined(__AVX512VNNI__)
struct ByteUnits : Vector { // rows are unsigned: 128 too much
  static Int multiply_add(Int sum, Int lane, Int row) {
    return _mm512_dpbusd_epi32(sum, row, lane);
  }
};
#endif

#elif defined(__AVX2__)

constexpr int64_t BLOCK_LANES = 16, BLOCK_ROWS = 3;
constexpr bool CAN_BIAS = true;

struct WordUnits {
  static constexpr int64_t WIDTH = 8;
  using Int = __m256i;
  using Float = __m256;
  static Int load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Int all(int32_t x) { return _mm256_set1_epi32(x); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static Float all(float x) { return _mm256_set1_ps(x); }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  static void store(int32_t* p, Int x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
  static Float add(Float x, Float y) { return _mm256_add_ps(x, y); }
  static Float multiply(Float x, Float y) { return _mm256_mul_ps(x, y); }
  static Float add_term(Float sum, Int dot, Float row, Float lane) {
    return _mm256_fmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dot), lane), row, sum);
  }
  static Float add_biased(Float sum, Int dot, Float row, Float lane, Float less) {
    return _mm256_fmadd_ps(_mm256_fmadd_ps(_mm256_castsi256_ps(dot), lane, less), row, sum);
  }
  static Float one_nan(Float x) {
    return _mm256_blendv_ps(x, all(__builtin_nanf("")), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  }
  static Int multiply_add(Int sum, Int lane, Int row) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(lane, row));
  }
};

#else

constexpr int64_t BLOCK_LANES = 8, BLOCK_ROWS = 3;
constexpr bool CAN_BIAS = false; // it would save nothing without a fused multiply-add

struct WordUnits {
  static constexpr int64_t WIDTH = 4;
  using Int = int32_t __attribute__((vector_size(16)));
  using Float = float __attribute__((vector_size(16)));
  template <typename T> static T read(const void* p) {
    T x;
    memcpy(&x, p, sizeof x);
    return x;
  }
  static Int load(const void* p) { return read<Int>(p); }
  static Int all(int32_t x) { return Int{x, x, x, x}; }
  static Float load(const float* p) { return read<Float>(p); }
  static Float all(float x) { return Float{x, x, x, x}; }
  static void store(float* p, Float x) { memcpy(p, &x, sizeof x); }
  static void store(int32_t* p, Int x) { memcpy(p, &x, sizeof x); }
  static Float add(Float x, Float y) { return x + y; }
  static Float multiply(Float x, Float y) { return x * y; }
  static Float add_term(Float sum, Int dot, Float row, Float lane) {
    return sum + __builtin_convertvector(dot, Float) * (row * lane);
  }
  static Float one_nan(Float x) { return x == x ? x : all(__builtin_nanf("")); }
  static Int multiply_add(Int sum, Int lane, Int row) {
#if defined(__SSE2__)
    return sum + (Int)_mm_madd_epi16((__m128i)lane, (__m128i)row);
#else
    // Both halves of each lane, the lower one sign-extended by shifting it up and down.
    const Int low = ((lane << 16) >> 16) * ((row << 16) >> 16);
    return sum + low + (lane >> 16) * (row >> 16);
#endif
  }
};

#endif

} // namespace
