#include "core/rounder.h"

#include "core/dispatch.h"

#include <math.h>

namespace dv {

DV_LEVELS(Casts, casts);

const Casts& casts() { return *casts_levels[level()]; }

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

template <typename Float>
Rounder<Float>::Rounder(const dv_element& e) : grid(), mode(e.mode), is_short(false), nearest() {
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
  is_short = sizeof(Float) == 4 && kind < 2 && shorten(e, false, nearest);
}

namespace {

bool shorten_fixed(const dv_element& e, bool scaled, Nearest& out) {
  const double step = ldexp(1, e.quantum), high = e.max[0], low = e.max[1];
  for (int side = 0; side < 2; side++)
    if (e.over[side] != e.max[side] || e.infinite[side] != e.max[side])
      return false;
  if (high > 0x1p22 * step || low < -0x1p22 * step || e.quantum > 104 || e.negative_zero)
    return false;
  if (scaled && (high < step || low > -step)) // else no power of two times the bits
    return false;
  out.form = Nearest::FIXED;
  out.magic = bits_of((float)(0x1.8p23 * step));
  out.max = bits_of((float)high);
  out.low = bits_of((float)low);
  return true;
}

bool same(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

} // namespace

bool shorten(const dv_element& e, bool scaled, Nearest& out) {
  if (e.mode != DV_TIES_TO_EVEN || !fits_float(e))
    return false;
  if (e.mantissa < 0)
    return shorten_fixed(e, scaled, out);
  const bool even =
      e.max[0] == -e.max[1] && same(e.over[0], -e.over[1]) && same(e.infinite[0], -e.infinite[1]);
  if (e.mantissa < 1 || e.mantissa > 22 || !even || !e.is_signed || e.clamp_negative || e.flush ||
      e.least || !(e.max[0] > 0))
    return false;
  const int first = e.quantum + e.mantissa;
  const bool clamped = e.over[0] == e.max[0] && e.infinite[0] == e.max[0] && e.negative_zero;
  out.first = power<float, int32_t>(first);
  out.add = (23 - e.mantissa) << 23;
  out.cut = 23 - e.mantissa;
  out.max = at_most<float, int32_t>(e.max[0]);
  out.top = out.max & 0x7f800000;
  out.over = bits_of((float)e.over[0]);
  out.infinite = bits_of((float)e.infinite[0]);
  out.negative_zero = e.negative_zero ? -1 : 0;
  out.form = scaled || clamped ? Nearest::CLAMPED : Nearest::OPEN;
  if ((out.top >> 23) + out.cut <= 254)
    return !scaled || e.negative_zero;
  out.form = Nearest::CUT;
  return !scaled && first == -126;
}

template struct Rounder<float>;
template struct Rounder<double>;

} // namespace dv
