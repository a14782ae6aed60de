// Rounding to codes that share a scale per block: nearest, ties to even.
#pragma once
#include "kernels/block_scale.h"
#include "kernels/simd.h"

namespace {

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

// What turns the values of a block into codes. Adding 1.5 * 2^(23 + d) to a number below 2^(22 + d)
// rounds it to a multiple of 2^d; d is chosen so that `digits` bits behind the leading one stay.
template <int SCALE> struct Steps {
  float by, rest, least, most, bound;
  int32_t floor, add;

  Steps(const BlockScale& s, const dv_block_format& f)
      : by(s.by), rest(s.rest), least((float)f.least), most((float)f.most),
        bound(2 * (most > -least ? most : -least)), floor((127 + f.digits) << 23),
        add(((23 - f.digits) << 23) | 0x400000) {}

  float round(float x) const {
    if constexpr (SCALE == DV_SCALE_NONE)
      return x;
    float v = (SCALE == DV_SCALE_QUOTIENT ? x / by : x * by) * rest;
    if constexpr (SCALE != DV_SCALE_POWER) { // what a power of two leaves is small anyway
      v = v > -bound ? v : -bound;
      v = v < bound ? v : bound;
    }
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

template <int SCALE, typename Kept>
void round_narrow(const float* x, int64_t n, const Steps<SCALE>& steps, const Kept& kept,
                  typename Kept::Code* __restrict out) {
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

constexpr float NO_VALUE = __builtin_nanf("");

// How the elements of a block are kept, and what scale beside them: integers with something added,
template <typename T> struct Integers {
  using Code = T;
  int32_t offset;

  int32_t code(float v) const { return (int32_t)v + offset; }
  template <int SCALE>
  float put(const float* x, int64_t n, const Steps<SCALE>& steps, float scale, Code* out) const {
    round_narrow(x, n, steps, *this, out);
    return scale;
  }
  float missing(Code* out, int64_t n) const {
    zeros(out, 0, n);
    return NO_VALUE;
  }
  void zeros(Code* out, int64_t from, int64_t to) const {
    for (int64_t i = from; i < to; i++)
      out[i] = (Code)offset;
  }
};

// numbers that the scale is folded into,
struct Folded {
  using Code = uint16_t; // bfloat16: the upper half of a float
  float by = 1.0f;

  int32_t code(float v) const { return (int32_t)((uint32_t)bits_of(v * by) >> 16); }
  template <int SCALE>
  float put(const float* x, int64_t n, const Steps<SCALE>& steps, float scale, Code* out) {
    const bool fits = scale >= dv::FOLD_LOW && scale <= dv::FOLD_HIGH;
    by = fits ? scale : 1.0f;
    round_narrow(x, n, steps, *this, out);
    return fits ? 1.0f : scale; // what is not folded
  }
  float missing(Code* out, int64_t n) const {
    for (int64_t i = 0; i < n; i++)
      out[i] = 0x7fc0;
    return 1.0f;
  }
  void zeros(Code* out, int64_t from, int64_t to) const {
    for (int64_t i = from; i < to; i++)
      out[i] = 0;
  }
};

// values, whose low bits may be kept apart,
struct Values {
  using Code = double;
  int64_t low; // from the high parts to the low ones; 0: none
  float parts, inverse;

  Values(const dv_block_format& f, const dv::BlockRow& row)
      : low(row.low / (int64_t)sizeof(Code)), parts((float)wide_power(-f.split)),
        inverse((float)wide_power(f.split)) {}

  template <int SCALE>
  float put(const float* x, int64_t n, const Steps<SCALE>& steps, float scale,
            Code* __restrict out) const {
    const double by = scale;
    if (!low) {
      for (int64_t i = 0; i < n; i++)
        out[i] = (double)steps.round(x[i]) * by;
      return 1.0f;
    }
    bool any = false;
    for (int64_t i = 0; i < n; i++) { // both parts are exact: codes have no more than 24 bits
      const float code = steps.round(x[i]), high = __builtin_truncf(code * parts) * inverse;
      out[i] = (double)high * by;
      out[low + i] = (double)(code - high) * by;
      any |= code != high;
    }
    return any ? 2.0f : 1.0f;
  }
  float missing(Code* out, int64_t n) const {
    zeros(out, 0, n);
    for (int64_t i = 0; i < n; i++)
      out[i] = (double)NO_VALUE;
    return 1.0f;
  }
  void zeros(Code* out, int64_t from, int64_t to) const {
    for (int64_t i = from; i < to; i++)
      out[i] = 0;
    for (int64_t i = from; low && i < to; i++)
      out[low + i] = 0;
  }
};

// or the codes themselves.
struct Plain {
  using Code = float;

  template <int SCALE>
  float put(const float* x, int64_t n, const Steps<SCALE>& steps, float scale,
            Code* __restrict out) const {
    for (int64_t i = 0; i < n; i++)
      out[i] = steps.round(x[i]);
    return scale;
  }
  float missing(Code* out, int64_t n) const {
    zeros(out, 0, n);
    return NO_VALUE;
  }
  void zeros(Code* out, int64_t from, int64_t to) const {
    for (int64_t i = from; i < to; i++)
      out[i] = 0;
  }
};

// Where the elements of a row's dots go: `size` for each, of which `dot` at most are filled.
template <typename Code> struct Target {
  int64_t dot, size;
  Code* out;
  float* scale;
  int64_t step;
};

// Blocks whose scales are found together, before any of them is rounded: neither waits for the
// other.
constexpr int64_t BLOCKS_TOGETHER = 32;

template <int SCALE, typename Kept>
void round_blocks(const float* x, int64_t length, const dv_block_format& format, Kept kept,
                  Target<typename Kept::Code> to) {
  const dv_block_format f = format; // a copy: stores to `out` cannot change it
  float largest[BLOCKS_TOGETHER];
  BlockScale found[BLOCKS_TOGETHER];
  const int64_t blocks = (length + f.block - 1) / f.block;
  for (int64_t first = 0; first < blocks; first += BLOCKS_TOGETHER) {
    const int64_t some = blocks - first < BLOCKS_TOGETHER ? blocks - first : BLOCKS_TOGETHER;
    for (int64_t b = 0; b < some; b++) {
      const int64_t from = (first + b) * f.block;
      largest[b] =
          float_of(largest_of(x + from, length - from < f.block ? length - from : f.block));
    }
    for (int64_t b = 0; b < some; b++)
      found[b] = block_scale<SCALE>(largest[b], f);
    for (int64_t b = 0; b < some; b++) {
      const int64_t from = (first + b) * f.block;
      const int64_t end = length - from < f.block ? length : from + f.block;
      const Steps<SCALE> steps(found[b], f);
      for (int64_t at = from; at < end; at += to.dot, to.out += to.size, to.scale += to.step) {
        const int64_t n = end - at < to.dot ? end - at : to.dot;
        int64_t done = n;
        if (bits_of(largest[b]) >= INFINITE)
          *to.scale = kept.missing(to.out, n);
        else if (largest[b] == 0 || found[b].scale == 0)
          *to.scale = 1.0f, done = 0;
        else
          *to.scale = kept.put(x + at, n, steps, found[b].scale, to.out);
        kept.zeros(to.out, done, to.size);
      }
    }
  }
}

template <typename Kept>
void round_row(const float* x, int64_t length, const dv_block_format& f, const Kept& kept,
               const Target<typename Kept::Code>& to) {
  if (f.scale == DV_SCALE_POWER)
    round_blocks<DV_SCALE_POWER>(x, length, f, kept, to);
  else if (f.scale == DV_SCALE_QUOTIENT)
    round_blocks<DV_SCALE_QUOTIENT>(x, length, f, kept, to);
  else
    round_blocks<DV_SCALE_TWO_LEVEL>(x, length, f, kept, to);
}

void quantise(const float* x, int64_t length, const dv_block_format& f, const dv::BlockForm& form,
              const dv::BlockRow& row, uint8_t* out, float* scale, int64_t step) {
  uint16_t* words = reinterpret_cast<uint16_t*>(out);
  if (form.elements == dv::Elements::VALUES) {
    const Values kept(f, row);
    const Target<double> to = {row.dot, row.units / 2, reinterpret_cast<double*>(out), scale, step};
    if (f.scale == DV_SCALE_NONE)
      round_blocks<DV_SCALE_NONE>(x, length, f, kept, to);
    else
      round_row(x, length, f, kept, to);
  } else if (form.elements == dv::Elements::FOLDED) {
    round_row(x, length, f, Folded(), {row.dot, row.units * 2, words, scale, step});
  } else if (form.width == 1) {
    round_row(x, length, f, Integers<uint8_t>{form.offset},
              {row.dot, row.units * 4, out, scale, step});
  } else {
    round_row(x, length, f, Integers<uint16_t>{form.offset},
              {row.dot, row.units * 2, words, scale, step});
  }
}

void codes(const float* x, int64_t length, const dv_block_format& f, float* out, float* scales) {
  // Whole blocks, the last of which must not be filled up: it may have no room.
  const int64_t whole = length / f.block * f.block, blocks = whole / f.block;
  round_row(x, whole, f, Plain(), {f.block, f.block, out, scales, 1});
  const int64_t rest = length - whole;
  round_row(x + whole, rest, f, Plain(), {rest, rest, out + whole, scales + blocks, 1});
}

} // namespace
