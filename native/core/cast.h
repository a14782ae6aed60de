// What the casts of all formats share: the kernels in use, formats in words, and stretches of a
// tensor as floats.
#pragma once
#include "dovetail_cast.h"
#include "kernels/casts.h"

#include <float.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace dv {

// The longest stretch that is worked on at a time: a few of them fit the first cache.
constexpr int64_t CHUNK = 1024;

const Casts& casts();

// Rounding to nearest and subnormal numbers, whatever the thread was set to; restored at the end.
class ExactFloats {
public:
#if defined(__SSE2__)
  ExactFloats() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~ExactFloats() { _mm_setcsr(before_); }

private:
  unsigned before_;
#endif
};

template <typename Float> struct Of;
template <> struct Of<float> {
  using Int = int32_t;
  static constexpr int FRACTION = 23, BIAS = 127;
  static const FloatCasts<float, int32_t>& casts() { return dv::casts().f32; }
};
template <> struct Of<double> {
  using Int = int64_t;
  static constexpr int FRACTION = 52, BIAS = 1023;
  static const FloatCasts<double, int64_t>& casts() { return dv::casts().f64; }
};

template <typename Float, typename Int = typename Of<Float>::Int> Int bits_of(Float x) {
  Int bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// How an element format is rounded to in words of `Float`.
template <typename Float> struct Rounder {
  using Int = typename Of<Float>::Int;
  Grid<Int> grid;
  int mode, kind;

  explicit Rounder(const dv_element&);
  void element(const Float* x, int64_t n, const uint32_t* random, Float* out) const {
    Of<Float>::casts().element[mode][kind](x, n, random, grid, out);
  }
  void scaled(const Float* x, const Int* exponent, int64_t n, const uint32_t* random,
              Float* out) const {
    Of<Float>::casts().scaled[mode][kind](x, exponent, n, random, grid, out);
  }
};

// Whether every float32 rounds to the format in float32 words; doubles serve else.
bool fits_float(const dv_element&);

// A tensor's stretches as `Float`s: where they lie, or converted in a buffer of CHUNK values.
template <typename Float> class Plane {
public:
  explicit Plane(const dv_tensor& t)
      : in_(static_cast<const uint8_t*>(t.x)), out_(static_cast<uint8_t*>(t.out)), dtype_(t.dtype) {
  }

  const Float* load(int64_t at, int64_t n, Float* buffer) const;
  Float* target(int64_t at, Float* buffer) const {
    return direct() ? reinterpret_cast<Float*>(out_) + at : buffer;
  }
  // After the result was written to the target: to its place, if that was a buffer.
  void store(int64_t at, int64_t n, Float* result, bool finite) const;

  // Starts fetching values from..from+n: the hardware follows a stream of its own accord, but not
  // while a stretch is worked on a second time. Places behind the tensor do no harm.
  void prefetch(int64_t from, int64_t n) const {
    const int64_t size = dtype_ == DV_FLOAT64 ? 8 : dtype_ == DV_FLOAT32 ? 4 : 2;
    for (int64_t byte = from * size; byte < (from + n) * size; byte += 64)
      __builtin_prefetch(in_ + byte);
  }

private:
  bool direct() const { return dtype_ == (sizeof(Float) == 4 ? DV_FLOAT32 : DV_FLOAT64); }

  const uint8_t* in_;
  uint8_t* out_;
  int32_t dtype_;
};

// The words of elements from..from+n; null if the mode is not stochastic. `buffer` has CHUNK + 8.
inline const uint32_t* random_words(const dv_tensor& t, int mode, int64_t from, int64_t n,
                                    uint32_t* buffer) {
  if (mode != DV_STOCHASTIC)
    return nullptr;
  const int64_t first = from >> 2, last = (from + n + 3) >> 2;
  casts().philox(t.seed, (uint64_t)first, last - first, buffer);
  return buffer + (from & 3);
}

// Shapes, dtypes and modes that the casts take.
bool valid(const dv_tensor&);
bool valid(const dv_element&);

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

} // namespace dv
