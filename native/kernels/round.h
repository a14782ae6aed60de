// Rounding one floating-point word to a grid, in integer arithmetic alone: exact for subnormal
// numbers, whatever the processor does with them, and free of branches, so that the loops around
// it become vector code.
#pragma once
#include "kernels/casts.h"
#include "kernels/simd.h"

namespace {

template <typename Float> struct Word;
template <> struct Word<float> {
  using Int = int32_t;
  using Unsigned = uint32_t;
  static constexpr Int FRACTION = 23, BIAS = 127, TOP = 255;
};
template <> struct Word<double> {
  using Int = int64_t;
  using Unsigned = uint64_t;
  static constexpr Int FRACTION = 52, BIAS = 1023, TOP = 2047;
};

// What a kernel has to care about; the less, the faster.
enum Kind : int {
  PLAIN = 0, // signs are kept, those of zeros too, and both sides have the same limits
  FIXED = 1, // no -0, and limits of their own for negative values
  RARE = 2   // everything `dv::Grid` can say
};

// The multiple of the grid's step next to |x| that the mode picks, as the bits of a magnitude.
// `u` are the bits of |x|; `quantum` stands for the grid's, moved by a block's exponent.
template <typename Float, int MODE, int KIND, typename Int = typename Word<Float>::Int>
inline Int round_magnitude(Int u, Int negative, uint32_t random, Int quantum, Int unit,
                           const dv::Grid<Int>& g) {
  constexpr Int FRACTION = Word<Float>::FRACTION, HIDDEN = Int(1) << FRACTION;
  Int exponent = u >> FRACTION;
  exponent = exponent > 1 ? exponent : 1;
  const Int significand = u - ((exponent - 1) << FRACTION);
  // How many low bits of the significand lie below the grid's step at this exponent.
  Int drop = quantum - exponent;
  drop = drop > g.least_drop ? drop : g.least_drop;
  const Int shift = drop < FRACTION + 3 ? drop : FRACTION + 3;
  const Int step = Int(1) << shift, rest = significand & (step - 1);
  const bool near = drop <= FRACTION; // else |x| lies below the step: it becomes 0 or `unit`
  Int odd = significand & step;
  if (KIND == RARE) { // without mantissa bits it is the exponent's parity that counts
    const Int bare = drop == FRACTION ? (u ^ g.parity) & HIDDEN : 0;
    odd = (odd & ~g.bare) | (bare & g.bare);
  }
  bool up;
  if (MODE == DV_TIES_TO_EVEN)
    up = 2 * rest + (odd != 0) > step;
  else if (MODE == DV_TIES_TO_AWAY)
    up = 2 * rest >= step;
  else if (MODE == DV_TOWARD_ZERO)
    up = false;
  else if (MODE == DV_TOWARD_POSITIVE)
    up = (rest & ~negative) != 0;
  else if (MODE == DV_TOWARD_NEGATIVE)
    up = (rest & negative) != 0;
  else if (MODE == DV_TO_ODD)
    up = (rest != 0) & (odd == 0);
  else {
    // floor(d * 2^(bits + 1)) + 2 R + 1 >= 2^(bits + 1), d being rest / 2^drop
    const Int width = g.random_bits + 1;
    Int left = width - drop, right = drop - width;
    left = left > 0 ? left : 0;
    right = right > 0 ? right : 0;
    right = right < FRACTION + 3 ? right : FRACTION + 3;
    const Int r = (Int)(random >> g.random_shift);
    up = ((rest << left) >> right) + 2 * r + 1 >= (Int(1) << width);
  }
  const Int low = near ? u - rest : 0, gap = near ? step : unit;
  using Unsigned = typename Word<Float>::Unsigned; // NaN may overflow
  return (Int)((Unsigned)low + (Unsigned)(up ? gap : 0));
}

// One value of an element format, infinities and NaN included; bits in, bits out.
template <typename Float, int MODE, int KIND, typename Int = typename Word<Float>::Int>
inline Int round_element(Int x, uint32_t random, const dv::Grid<Int>& g) {
  constexpr Int FRACTION = Word<Float>::FRACTION;
  constexpr Int INFINITE = Word<Float>::TOP << FRACTION, QUIET = Int(1) << (FRACTION - 1);
  constexpr Int MAGNITUDE = INFINITE | ((Int(1) << FRACTION) - 1);
  const Int given = x & MAGNITUDE, sign = x & ~MAGNITUDE;
  const Int below = x >> (8 * sizeof(Int) - 1); // all bits if negative, or none
  const Int negative = KIND == RARE ? below & g.is_signed : below;
  Int u = given;
  if (KIND == RARE)
    u = u < g.flush ? 0 : u;
  Int r = round_magnitude<Float, MODE, KIND>(u, negative, random, g.quantum, g.unit, g);
  if (KIND == PLAIN) {
    r = r > g.max ? g.over : r;
    r = given == INFINITE ? g.infinite : r;
    r |= sign;
  } else {
    if (KIND == RARE)
      r = r > g.floor ? r : g.floor;
    const bool beyond = r > (g.max ^ (negative & g.max_flip));
    const Int kept = KIND == RARE ? (sign & g.is_signed) : sign;
    const Int zero = KIND == RARE ? (kept & g.negative_zero) : 0;
    r = r != 0 ? r | kept : zero;
    r = beyond ? g.over ^ (negative & g.over_flip) : r;
    r = given == INFINITE ? g.infinite ^ (negative & g.infinite_flip) : r;
    if (KIND == RARE)
      r = (below & g.clamp_negative) != 0 ? g.floor : r;
  }
  return given > INFINITE ? (x | QUIET) : r;
}

// One finite value of a block whose exponent is `s`; what lies beyond the limits saturates.
template <typename Float, int MODE, int KIND, typename Int = typename Word<Float>::Int>
inline Int round_scaled(Int x, Int s, uint32_t random, const dv::Grid<Int>& g) {
  constexpr Int FRACTION = Word<Float>::FRACTION;
  constexpr Int MAGNITUDE = (Word<Float>::TOP << FRACTION) | ((Int(1) << FRACTION) - 1);
  const Int u = x & MAGNITUDE, sign = x & ~MAGNITUDE, negative = x >> (8 * sizeof(Int) - 1);
  const Int up = s * (Int(1) << FRACTION);
  dv::Grid<Int> moved = g;
  moved.parity = g.parity + up; // the parity of an exponent code moves with the block's exponent
  Int r =
      round_magnitude<Float, MODE, KIND>(u, negative, random, g.quantum + s, g.unit + up, moved);
  const Int most = (KIND == FIXED ? g.max ^ (negative & g.max_flip) : g.max) + up;
  r = r < most ? r : most;
  const Int zero = KIND == PLAIN ? sign : KIND == FIXED ? 0 : sign & g.negative_zero;
  return r != 0 ? r | sign : zero;
}

} // namespace
