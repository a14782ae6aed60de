// Rounding to integers that share a power of two per block: nearest, ties to even.
#pragma once
#include "kernels/block.h"
#include "kernels/simd.h"

namespace {

inline int32_t bits_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float float_of(int32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// 2^e, for e from the smallest subnormal number's on.
inline float power(int32_t e) {
  return e >= -126 ? float_of((e + 127) << 23) : float_of(1 << (e + 149));
}

inline int32_t largest_of(const float* x, int64_t n) {
  int32_t most = 0;
  int64_t i = 0;
#if defined(__AVX512BW__)
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  __m512i all = _mm512_setzero_si512();
  for (; i + 16 <= n; i += 16)
    all = _mm512_max_epi32(all, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
  most = _mm512_reduce_max_epi32(all);
#endif
  for (; i < n; i++) {
    const int32_t u = bits_of(x[i]) & 0x7fffffff;
    most = u > most ? u : most;
  }
  return most;
}

// In double, where every float is normal.
inline int32_t scale_exponent(float largest, const dv_block_format& f) {
  const double wide = largest, top = f.largest;
  uint64_t u, t;
  memcpy(&u, &wide, sizeof u);
  memcpy(&t, &top, sizeof t);
  const uint64_t fraction = (1ull << 52) - 1;
  if (f.mode == 2)
    u += 1ull << (51 - f.even_bits);
  int32_t e = (int32_t)(u >> 52) - 1023;
  if (f.mode == 1)
    e += (u & fraction) > 0;
  if (f.mode == 3)
    e += (u & fraction) > (t & fraction);
  e -= f.emax;
  e = e > f.low ? e : f.low;
  return e < f.high ? e : f.high;
}

constexpr int32_t INFINITE = 0x7f800000;

// How codes are kept: integers with something added, or numbers that the scale is folded into.
template <typename T> struct Integers {
  using Code = T;
  int32_t offset;

  float scale(int32_t unit) { return power(unit); }
  float missing_scale() const { return float_of(INFINITE | 0x400000); }
  Code missing() const { return (Code)offset; }
  Code zero() const { return (Code)offset; }
  int32_t code(float v) const { return (int32_t)v + offset; }
};

struct Folded {
  using Code = uint16_t; // bfloat16: the upper half of a float
  float by = 1.0f;

  // What is not folded.
  float scale(int32_t unit) {
    const bool fits = unit >= dv::FOLD_LOW && unit <= dv::FOLD_HIGH;
    by = fits ? power(unit) : 1.0f;
    return fits ? 1.0f : power(unit);
  }
  float missing_scale() const { return 1.0f; }
  Code missing() const { return 0x7fc0; }
  Code zero() const { return 0; }
  int32_t code(float v) const { return (int32_t)((uint32_t)bits_of(v * by) >> 16); }
};

// What turns the values of a block whose units are 2^unit into codes. Scaling up is exact; scaling
// down may round values that are far below half a unit. Adding 1.5 * 2^(23 + d) to a number below
// 2^22 rounds it to a multiple of 2^d; d is chosen so that `digits` bits behind the leading one
// stay.
struct Steps {
  float by, rest, least, most;
  int32_t floor, add;

  Steps(int32_t unit, const dv_block_format& f) {
    const int32_t shift = -unit > 127 ? 127 : -unit;
    by = power(shift), rest = power(-unit - shift);
    least = (float)f.least, most = (float)f.most;
    floor = (127 + f.digits) << 23, add = ((23 - f.digits) << 23) | 0x400000;
  }

  float round(float x) const {
    float v = x * by * rest;
    int32_t e = bits_of(v) & 0x7f800000;
    e = e > floor ? e : floor;
    const float magic = float_of(e + add);
    v = (v + magic) - magic;
    v = v > least ? v : least;
    return v < most ? v : most;
  }
};

// Elements that are rounded together: their codes are made in 32 bits and narrowed at once, which
// compilers do not manage by themselves for as few as a block has.
constexpr int64_t TOGETHER = 16;

template <typename Code> void narrow(const int32_t* from, Code* to) {
#if defined(__AVX512BW__)
  const __m512i wide = _mm512_load_si512(from);
  if constexpr (sizeof(Code) == 1)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(wide));
  else
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(wide));
#else
  for (int64_t i = 0; i < TOGETHER; i++)
    to[i] = (Code)from[i];
#endif
}

template <typename Kept>
void round_block(const float* x, int64_t n, int32_t unit, const dv_block_format& f,
                 const Kept& kept, typename Kept::Code* __restrict out) {
  const Steps steps(unit, f);
  int64_t i = 0;
  for (; i + TOGETHER <= n; i += TOGETHER) {
    alignas(64) int32_t code[TOGETHER];
    for (int64_t j = 0; j < TOGETHER; j++)
      code[j] = kept.code(steps.round(x[i + j]));
    narrow(code, out + i);
  }
  for (; i < n; i++)
    out[i] = (typename Kept::Code)kept.code(steps.round(x[i]));
}

// Blocks whose scales are found together, before any of them is rounded: neither waits for the
// other.
constexpr int64_t BLOCKS_TOGETHER = 32;

template <typename Kept>
void round_row(const float* x, int64_t length, const dv_block_format& format, Kept kept,
               int64_t size, typename Kept::Code* out, float* scale, int64_t step) {
  const dv_block_format f = format; // a copy: stores to `out` cannot change it
  float largest[BLOCKS_TOGETHER];
  int32_t unit[BLOCKS_TOGETHER];
  const int64_t blocks = (length + f.block - 1) / f.block;
  for (int64_t first = 0; first < blocks; first += BLOCKS_TOGETHER) {
    const int64_t some = blocks - first < BLOCKS_TOGETHER ? blocks - first : BLOCKS_TOGETHER;
    for (int64_t b = 0; b < some; b++) {
      const int64_t from = (first + b) * f.block;
      largest[b] =
          float_of(largest_of(x + from, length - from < f.block ? length - from : f.block));
    }
    for (int64_t b = 0; b < some; b++)
      unit[b] = scale_exponent(largest[b], f) + f.quantum;
    for (int64_t b = 0; b < some; b++, out += size, scale += step) {
      const int64_t from = (first + b) * f.block;
      const int64_t n = length - from < f.block ? length - from : f.block;
      int64_t done = 0;
      if (largest[b] == 0) {
        *scale = 1.0f;
      } else if (bits_of(largest[b]) >= INFINITE) {
        *scale = kept.missing_scale();
        for (; done < n; done++)
          out[done] = kept.missing();
      } else {
        *scale = kept.scale(unit[b]);
        round_block(x + from, n, unit[b], f, kept, out);
        done = n;
      }
      for (; done < size; done++)
        out[done] = kept.zero();
    }
  }
}

void quantise(const float* x, int64_t length, const dv_block_format& f, const dv::BlockForm& form,
              int64_t units, uint8_t* out, float* scale, int64_t step) {
  uint16_t* words = reinterpret_cast<uint16_t*>(out);
  if (form.folded)
    round_row(x, length, f, Folded(), units * 2, words, scale, step);
  else if (form.width == 1)
    round_row(x, length, f, Integers<uint8_t>{form.offset}, units * 4, out, scale, step);
  else
    round_row(x, length, f, Integers<uint16_t>{form.offset}, units * 2, words, scale, step);
}

void codes(const float* x, int64_t length, const dv_block_format& f, int16_t* out,
           int32_t* exponents) {
  for (int64_t from = 0; from < length; from += f.block) {
    const int64_t n = length - from < f.block ? length - from : f.block;
    const int32_t most = largest_of(x + from, n);
    if (most >= INFINITE) {
      memset(out + from, 0, (size_t)n * sizeof *out);
      *exponents++ = DV_BLOCK_NAN;
      continue;
    }
    const int32_t unit = scale_exponent(float_of(most), f) + f.quantum;
    round_block(x + from, n, unit, f, Integers<int16_t>{0}, out + from);
    *exponents++ = unit;
  }
}

} // namespace
