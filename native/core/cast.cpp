// Casts of single values: floating and fixed point, step functions, affine integers.
#include "core/cast.h"

#include "core/dispatch.h"
#include "core/threads.h"

#include <math.h>

namespace dv {

extern const Casts casts_scalar;
#if defined(__x86_64__)
extern const Casts casts_avx2, casts_avx512, casts_avx512vnni, casts_amx;
#endif

const Casts& casts() {
#if defined(__x86_64__)
  static const Casts* const all[] = {&casts_scalar, &casts_avx2, &casts_avx512, &casts_avx512vnni,
                                     &casts_amx};
  const char* level = kernels().name;
  for (const Casts* c : all)
    if (!strcmp(c->name, level))
      return *c;
#endif
  return casts_scalar;
}

bool valid(const dv_tensor& t) {
  return t.outer >= 0 && t.length >= 0 && t.inner >= 0 && t.dtype >= DV_FLOAT32 &&
         t.dtype <= DV_BFLOAT16;
}

bool valid(const dv_element& e) {
  return e.mode >= 0 && e.mode < DV_MODES && e.mantissa >= -1 && e.quantum >= -1074 &&
         e.quantum <= 1023 && e.random_bits >= (e.mode == DV_STOCHASTIC) && e.random_bits <= 24 &&
         e.max[0] >= 0;
}

bool fits_float(const dv_element& e) {
  const int lowest = e.mantissa < 0 ? e.quantum : e.quantum + e.mantissa; // of normal values
  return e.quantum >= -149 && e.quantum <= 127 && lowest >= (e.mantissa < 0 ? -149 : -126);
}

namespace {

// The bits of 2^exponent, subnormal ones too.
template <typename Float, typename Int> Int power(int exponent) {
  const int bias = Of<Float>::BIAS, fraction = Of<Float>::FRACTION;
  if (exponent >= 1 - bias)
    return (Int)(exponent + bias) << fraction;
  return (Int)1 << (exponent + bias + fraction - 1);
}

// The largest magnitude of a Float that is not above `x`; infinity only if `x` is beyond all.
template <typename Float, typename Int> Int at_most(double x) {
  const Float near = (Float)x;
  return bits_of(near) - (near > x && x < (sizeof(Float) == 4 ? 0x1p128 : x) ? 1 : 0);
}

} // namespace

template <typename Float> Rounder<Float>::Rounder(const dv_element& e) : grid(), mode(e.mode) {
  const int fraction = Of<Float>::FRACTION, bias = Of<Float>::BIAS;
  const Int sign = (Int)1 << (8 * sizeof(Int) - 2) << 1;
  const bool fixed = e.mantissa < 0;
  grid.least_drop = fixed || e.mantissa > fraction ? 0 : fraction - e.mantissa;
  grid.quantum = e.quantum + bias + fraction;
  grid.unit = power<Float, Int>(e.quantum);
  const Int low = at_most<Float, Int>(fabs(e.max[1]));
  grid.max = at_most<Float, Int>(e.max[0]);
  grid.max_flip = grid.max ^ low;
  grid.over = bits_of((Float)e.over[0]);
  grid.over_flip = grid.over ^ bits_of((Float)e.over[1]);
  grid.infinite = bits_of((Float)e.infinite[0]);
  grid.infinite_flip = grid.infinite ^ bits_of((Float)e.infinite[1]);
  grid.flush = bits_of((Float)e.flush);
  grid.floor = bits_of((Float)e.least);
  grid.bare = e.mantissa == 0 ? -1 : 0;
  grid.parity = (Int)((e.bias + bias) & 1) << fraction;
  grid.is_signed = e.is_signed ? -1 : 0;
  grid.negative_zero = e.negative_zero ? -1 : 0;
  grid.clamp_negative = e.clamp_negative ? -1 : 0;
  grid.random_bits = e.random_bits;
  grid.random_shift = 32 - e.random_bits;
  const bool rare = grid.flush || grid.floor || grid.bare || !e.is_signed || e.clamp_negative;
  const bool even = grid.max_flip == 0 && grid.over_flip == sign && grid.infinite_flip == sign;
  kind = rare || (e.negative_zero && !even) ? 2 : e.negative_zero ? 0 : 1;
}

template struct Rounder<float>;
template struct Rounder<double>;

template <> const float* Plane<float>::load(int64_t at, int64_t n, float* buffer) const {
  if (dtype_ == DV_FLOAT32)
    return reinterpret_cast<const float*>(in_) + at;
  const uint16_t* x = reinterpret_cast<const uint16_t*>(in_) + at;
  (dtype_ == DV_FLOAT16 ? casts().widen_half : casts().widen_bfloat)(x, n, buffer);
  return buffer;
}

template <> void Plane<float>::store(int64_t at, int64_t n, float* result, bool finite) const {
  if (dtype_ == DV_FLOAT32)
    return;
  uint16_t* out = reinterpret_cast<uint16_t*>(out_) + at;
  if (finite)
    casts().clamp(result, dtype_ == DV_FLOAT16 ? 65504.0f : 0x1.fep127f, n, result);
  (dtype_ == DV_FLOAT16 ? casts().narrow_half : casts().narrow_bfloat)(result, n, out);
}

template <> const double* Plane<double>::load(int64_t at, int64_t n, double* buffer) const {
  if (dtype_ == DV_FLOAT64)
    return reinterpret_cast<const double*>(in_) + at;
  float half[CHUNK];
  const float* x = reinterpret_cast<const float*>(in_) + at;
  if (dtype_ != DV_FLOAT32) {
    const uint16_t* narrow = reinterpret_cast<const uint16_t*>(in_) + at;
    (dtype_ == DV_FLOAT16 ? casts().widen_half : casts().widen_bfloat)(narrow, n, half);
    x = half;
  }
  casts().widen(x, n, buffer);
  return buffer;
}

template <> void Plane<double>::store(int64_t at, int64_t n, double* result, bool) const {
  if (dtype_ == DV_FLOAT64)
    return;
  if (dtype_ == DV_FLOAT32) {
    casts().narrow(result, n, reinterpret_cast<float*>(out_) + at);
    return;
  }
  float half[CHUNK];
  uint16_t* out = reinterpret_cast<uint16_t*>(out_) + at;
  casts().narrow(result, n, half);
  (dtype_ == DV_FLOAT16 ? casts().narrow_half : casts().narrow_bfloat)(half, n, out);
}

namespace {

// Calls work(at, n) for stretches of at most CHUNK neighbours, over all threads.
template <typename Work> void stretches(int64_t total, Work&& work) {
  const int64_t piece = 16 * CHUNK;
  parallel((total + piece - 1) / piece, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    const int64_t last = smaller(end * piece, total);
    for (int64_t at = begin * piece; at < last; at += CHUNK)
      work(at, smaller(CHUNK, last - at));
  });
}

template <typename Float> void cast_element(const dv_tensor& t, const dv_element& e) {
  const Rounder<Float> rounder(e);
  const Plane<Float> plane(t);
  stretches(t.outer * t.length * t.inner, [&](int64_t at, int64_t n) {
    Float buffer[CHUNK];
    uint32_t words[CHUNK + 8];
    const uint32_t* random = random_words(t, e.mode, at, n, words);
    Float* out = plane.target(at, buffer);
    rounder.element(plane.load(at, n, buffer), n, random, out);
    plane.store(at, n, out, false);
  });
}

} // namespace
} // namespace dv

using namespace dv;

int32_t dv_cast_element(const dv_tensor* t, const dv_element* e) {
  if (!valid(*t))
    return DV_BAD_SHAPE;
  if (!valid(*e))
    return DV_BAD_VALUE;
  if (t->dtype == DV_FLOAT64 || !fits_float(*e))
    cast_element<double>(*t, *e);
  else
    cast_element<float>(*t, *e);
  return DV_OK;
}

int32_t dv_cast_steps(const dv_tensor* t, const dv_steps* s) {
  if (!valid(*t) || t->dtype == DV_FLOAT64)
    return DV_BAD_SHAPE;
  if (s->count < 1 || s->shift < 1 || s->shift > 31 || s->halvings < 0 || s->halvings > 16)
    return DV_BAD_VALUE;
  const Steps steps = {s->key, s->value, s->find, s->count, s->shift, s->halvings};
  const Plane<float> plane(*t);
  stretches(t->outer * t->length * t->inner, [&](int64_t at, int64_t n) {
    float buffer[CHUNK];
    float* out = plane.target(at, buffer);
    casts().steps(plane.load(at, n, buffer), n, steps, out);
    plane.store(at, n, out, false);
  });
  return DV_OK;
}

int32_t dv_cast_affine(const dv_tensor* t, int64_t channels, const float* scale,
                       const int32_t* zero_point, int32_t qmin, int32_t qmax) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || (channels != 1 && channels != t->length))
    return DV_BAD_SHAPE;
  const int32_t limit = 1 << 17;
  if (qmin > qmax || qmin < -limit || qmax > limit)
    return DV_BAD_VALUE;
  for (int64_t c = 0; c < channels; c++)
    if (!(scale[c] > 0) || scale[c] > FLT_MAX || zero_point[c] < qmin || zero_point[c] > qmax)
      return DV_BAD_VALUE;
  const Plane<float> plane(*t);
  const bool each = channels > 1 && t->inner == 1;
  // Rows of equal scale, or (channels last) rows in which each value has its own.
  const int64_t total = t->outer * t->length * t->inner;
  const int64_t row = channels == 1 ? total : each ? t->length : t->inner;
  if (total == 0)
    return DV_OK;
  const int64_t pieces = (row + CHUNK - 1) / CHUNK;
  parallel(total / row * pieces, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    float buffer[CHUNK], low[CHUNK], high[CHUNK];
    for (int64_t task = begin; task < end; task++) {
      const int64_t from = task % pieces * CHUNK, n = smaller(CHUNK, row - from);
      const int64_t at = task / pieces * row + from;
      const float* x = plane.load(at, n, buffer);
      float* out = plane.target(at, buffer);
      if (each) {
        for (int64_t i = 0; i < n; i++) {
          low[i] = (float)(qmin - zero_point[from + i]);
          high[i] = (float)(qmax - zero_point[from + i]);
        }
        casts().affines(x, n, scale + from, low, high, out);
      } else {
        const int64_t c = channels == 1 ? 0 : task / pieces % channels;
        casts().affine(x, n, scale[c], (float)(qmin - zero_point[c]), (float)(qmax - zero_point[c]),
                       out);
      }
      plane.store(at, n, out, false);
    }
  });
  return DV_OK;
}
