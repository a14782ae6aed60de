// The kernels in use, and element formats in the words of a float type.
#pragma once
#include "dovetail_cast.h"
#include "kernels/casts.h"

#include <string.h>

namespace dv {

const Casts& casts();

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

// The short way of rounding to the format, if there is one; `scaled`: in blocks with exponents.
bool shorten(const dv_element&, bool scaled, Nearest& out);

// How an element format is rounded to in words of `Float`.
template <typename Float> struct Rounder {
  using Int = typename Of<Float>::Int;
  Grid<Int> grid;
  int mode, kind;
  bool is_short;
  Nearest nearest;

  explicit Rounder(const dv_element&);
  void element(const Float* x, int64_t n, const uint32_t* random, Float* out) const {
    if constexpr (sizeof(Float) == 4)
      if (is_short)
        return casts().nearest[nearest.form](x, n, nearest, out);
    Of<Float>::casts().element[mode][kind](x, n, random, grid, out);
  }
};

// Whether every float32 rounds to the format in float32 words; doubles serve else.
bool fits_float(const dv_element&);
// Modes and limits that the casts take.
bool valid(const dv_element&);

} // namespace dv
