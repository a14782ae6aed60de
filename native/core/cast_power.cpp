// Casts of blocks that share a power of two.
#include "core/tiles.h"

#include <cmath>
#include <float.h>

namespace dv {

namespace {

// One power of two per block.
template <typename Float> class PowerScaled {
  using Int = typename Of<Float>::Int;

public:
  using Found = Largest<Float>;
  static constexpr bool FINITE = true;
  // Blocks whose constants leave the normal numbers are `hard`: they go through doubles.
  struct State : Blocks {
    Int exponents[CHUNK], spread_exponents[CHUNK];
    const Int* largest;
    int64_t hard;
    Float low[CHUNK], high[CHUNK]; // between them nothing clips; found when first asked for
    bool bounded;
  };

  PowerScaled(const dv_element& e, const dv_blocks& b)
      : rounder_(e), wide_(e), is_short_(sizeof(Float) == 4 && shorten(e, true, nearest_)),
        rule_(rule<Float>(e, b)), wide_rule_(rule<double>(e, b)) {
    saturate(rounder_.grid, (Float)e.max[0], (Float)-e.max[1]);
    saturate(wide_.grid, e.max[0], -e.max[1]);
    if (is_short_) // the magic number must be finite, too
      rule_.easy_high = (Int)smaller(rule_.easy_high, nearest_.form == Nearest::FIXED
                                                          ? 104 - e.quantum
                                                          : 104 + e.mantissa - b.emax);
  }

  void prepare(const Found& found, State& s) const {
    s.largest = found.most;
    s.bounded = false;
    s.hard = Of<Float>::casts().exponents(found.most, s.count, rule_, s.exponents);
  }

  void apply(const Float* x, int64_t n, const uint32_t* random, State& s, Float* out) const {
    if (!s.hard) {
      round(x, n, random, s, out);
      return;
    }
    Float patch[CHUNK];
    int32_t place[CHUNK];
    const int64_t count = hard(x, n, random, s, place, patch);
    round(x, n, random, s, out);
    for (int64_t i = 0; i < count; i++)
      out[place[i]] = patch[i];
  }

  void mark(const Float* x, int64_t n, const Watch<Float>& watch, State& s, uint8_t* inside) const {
    for (int64_t i = 0; i < s.count && !s.bounded; i++) {
      const double power = power_of(s.largest[i]);
      s.low[i] = -next_above(-watch.low() * power);
      s.high[i] = next_above(watch.high() * power);
    }
    s.bounded = true;
    Of<Float>::casts().inside(x, n, s.lanes, s.low, s.high, inside);
  }

private:
  // The scale of a block whose largest magnitude has these bits; NaN if that is not finite.
  double power_of(Int largest) const {
    if (largest >= bits_of((Float)INFINITY))
      return NAN;
    Float most;
    memcpy(&most, &largest, sizeof most);
    const int64_t e = exponent_of<double, int64_t>(bits_of((double)most), wide_rule_);
    const int64_t bits = (e + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
  }

  // The least Float that is not below `x`: a Float lies below it if and only if it lies below `x`.
  static Float next_above(double x) {
    const Float near = (Float)x;
    return (double)near < x ? std::nextafter(near, (Float)INFINITY) : near;
  }

  void round(const Float* x, int64_t n, const uint32_t* random, State& s, Float* out) const {
    if constexpr (sizeof(Float) == 4)
      if (const int64_t run = is_short_ ? s.run(n) : 0)
        return casts().nearest_runs[nearest_.form](x, s.exponents, n / run, run, nearest_, out);
    const FloatCasts<Float, Int>& k = Of<Float>::casts();
    const Int* exponent = s.spread(s.exponents, n, k.repeat, s.spread_exponents);
    if constexpr (sizeof(Float) == 4)
      if (is_short_)
        return casts().nearest_scaled[nearest_.form](x, exponent, n, nearest_, out);
    k.scaled[rounder_.mode][rounder_.kind](x, exponent, n, random, rounder_.grid, out);
  }

  template <typename F>
  static Exponents<typename Of<F>::Int> rule(const dv_element& e, const dv_blocks& b) {
    using I = typename Of<F>::Int;
    const int fraction = Of<F>::FRACTION, bits = b.mantissa_bits;
    const I all = ((I)1 << fraction) - 1;
    Exponents<I> r{};
    if (b.mode == DV_CEIL)
      r.round = all;
    else if (b.mode == DV_EVEN)
      r.round = bits < fraction ? (I)1 << (fraction - 1 - bits) : 0;
    else if (b.mode == DV_RCEIL) // one more where the fraction exceeds that of the largest element
      r.round = all - ((I)(bits_of(e.max[0]) >> (52 - fraction)) & all);
    r.emax = b.emax;
    r.low = b.low;
    r.high = b.high;
    const bool wide = sizeof(F) == 8;
    r.easy_low = wide ? b.low : -126 - e.quantum;
    r.easy_high = wide ? b.high : 126 - b.emax;
    return r;
  }

  // Everything beyond saturates, so the limit itself is rounded as a result would be.
  template <typename I, typename F> static void saturate(Grid<I>& grid, F high, F low) {
    grid.max = bits_of(high);
    grid.max_flip = grid.max ^ bits_of(low);
  }

  int64_t hard(const Float* x, int64_t n, const uint32_t* random, const State& s, int32_t* place,
               Float* patch) const {
    const Int infinite = bits_of((Float)INFINITY);
    double wide[CHUNK];
    int64_t exponent[CHUNK], count = 0;
    uint32_t word[CHUNK];
    for (int64_t i = 0; i < n; i++) {
      const Int u = s.largest[s.of(i)],
                e = exponent_of<Float, Int>(u < infinite ? u : infinite, rule_);
      if (u == 0 || (u < infinite && e >= rule_.easy_low && e <= rule_.easy_high))
        continue;
      Float most;
      memcpy(&most, &u, sizeof most);
      exponent[count] =
          u < infinite ? exponent_of<double, int64_t>(bits_of((double)most), wide_rule_) : 0;
      place[count] = (int32_t)i;
      word[count] = random ? random[i] : 0;
      wide[count++] = (double)x[i];
    }
    Of<double>::casts().scaled[wide_.mode][wide_.kind](wide, exponent, count, word, wide_.grid,
                                                       wide);
    for (int64_t i = 0; i < count; i++) {
      const double top = sizeof(Float) == 4 ? (double)FLT_MAX : DBL_MAX;
      const double y = wide[i] > top ? top : wide[i] < -top ? -top : wide[i];
      patch[i] = s.largest[s.of(place[i])] < infinite ? (Float)y : (Float)NAN;
    }
    return count;
  }

  Rounder<Float> rounder_;
  Rounder<double> wide_;
  Nearest nearest_{};
  bool is_short_;
  Exponents<Int> rule_;
  Exponents<int64_t> wide_rule_;
};

} // namespace
} // namespace dv

using namespace dv;

int32_t dv_cast_blocks(const dv_tensor* t, const dv_element* e, const dv_blocks* b) {
  if (!valid(*t) || b->block < 1)
    return DV_BAD_SHAPE;
  if (!valid(*e) || !fits_float(*e) || b->low > b->high || b->low < -127 || b->high > 127 ||
      b->emax < 0 || b->emax > 127 || b->mantissa_bits < 0 || b->mode < DV_FLOOR ||
      b->mode > DV_RCEIL)
    return DV_BAD_VALUE;
  if (t->dtype == DV_FLOAT64)
    cast_blocks<double>(*t, b->block, e->mode, PowerScaled<double>(*e, *b));
  else
    cast_blocks<float>(*t, b->block, e->mode, PowerScaled<float>(*e, *b));
  return DV_OK;
}
