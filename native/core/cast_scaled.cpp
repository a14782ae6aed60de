// Casts of blocks that share a rounded scale.
#include "core/search_tree.h"
#include "core/tiles.h"

#include <math.h>

namespace dv {

namespace {

// One rounded scale per block, in float32.
class RealScaled {
public:
  using Found = Largest<float>;
  static constexpr bool FINITE = true;
  struct State : Blocks {
    float by[CHUNK], inverse[CHUNK], times[CHUNK];
    float spread_by[CHUNK], spread_inverse[CHUNK], spread_times[CHUNK];
    int32_t notes;
  };

  RealScaled(const dv_element& element, const Steps* steps, const dv_element& scale,
             const dv_scaled& s)
      : element_(element), scale_(scale), steps_(steps), two_level_(s.two_level != 0),
        rule_{s.global, s.largest_element, reach(element, steps), coarse(element, steps)} {}

  void prepare(const Found& found, State& s) const {
    const int32_t* largest = found.most;
    const Casts& k = casts();
    float step[CHUNK];
    k.ratios[two_level_](largest, s.count, rule_, step);
    scale_.element(step, s.count, nullptr, step);
    s.notes = k.factors[two_level_](largest, step, s.count, rule_, s.by, s.inverse, s.times);
  }

  void apply(const float* x, int64_t n, const uint32_t* random, State& s, float* out) const {
    round(x, n, random, s, out);
    if (s.notes & ZEROS)
      clear(n, s, out);
  }

  void mark(const float* x, int64_t n, const Watch<float>& watch, State& s, uint8_t* inside) const {
    casts().inside_real(x, n, s.lanes, s.by, s.times, !two_level_, (float)watch.low(),
                        (float)watch.high(), inside);
  }

private:
  void round(const float* x, int64_t n, const uint32_t* random, State& s, float* out) const {
    const Casts& k = casts();
    const Nearest& f = element_.nearest;
    const Factors own = {s.by, s.inverse, s.times};
    const bool open = !steps_ && (f.form == Nearest::OPEN || f.form == Nearest::CUT);
    const bool careful = open || s.notes & CAREFUL;
    const Scaling way = two_level_ ? careful ? MULTIPLIED_HELD : MULTIPLIED
                        : careful  ? DIVIDED_HELD
                                   : DIVIDED;
    if (const int64_t run = steps_ || element_.is_short ? s.run(n) : 0) {
      if (steps_)
        k.steps_real_runs[careful](x, own, n / run, run, *steps_, out);
      else
        k.nearest_real_runs[f.form][way](x, own, n / run, run, f, out);
      return;
    }
    const Factors each = {s.spread(s.by, n, k.repeat, s.spread_by),
                          two_level_ ? s.by : s.spread(s.inverse, n, k.repeat, s.spread_inverse),
                          s.spread(s.times, n, k.repeat, s.spread_times)};
    if (steps_)
      k.steps_real[careful](x, each, n, *steps_, out);
    else if (element_.is_short)
      k.nearest_real[f.form][way](x, each, n, f, out);
    else
      k.real_scaled[element_.mode][element_.kind](x, each.by, each.times, n, !two_level_, random,
                                                  element_.grid, out);
  }

  // Blocks with the scale 0 are zeros, and +0 also where values are negative.
  static void clear(int64_t n, const State& s, float* out) {
    if (!s.lanes)
      for (int64_t i = 0; i < n; i++)
        out[i] = s.times[i] == 0 ? 0 : out[i];
    for (int64_t at = 0, i = 0; s.lanes && at < n; at += s.lanes, i++)
      if (s.times[i] == 0)
        memset(out + at, 0, (size_t)smaller(s.lanes, n - at) * sizeof(float));
  }

  // The largest magnitude of an element.
  static float reach(const dv_element& element, const Steps* steps) {
    if (!steps)
      return (float)fmax(element.max[0], fabs(element.max[1]));
    float most = 0;
    for (int32_t i = 0; i < steps->count; i++)
      most = fmaxf(most, fabsf(steps->value[i]));
    return most;
  }

  // Whether magnitudes below 2^-30 all round alike.
  static bool coarse(const dv_element& element, const Steps* steps) {
    if (!steps)
      return element.quantum >= -28;
    for (int32_t i = 1; i < steps->count; i++) // a magnitude's bits, less one for negative keys
      if ((steps->key[i] ^ (steps->key[i] >> 31)) < bits_of(0x1p-30f))
        return false;
    return true;
  }

  Rounder<float> element_, scale_;
  const Steps* steps_;
  bool two_level_;
  ScaleRule rule_;
};

} // namespace
} // namespace dv

using namespace dv;

int32_t dv_cast_scaled(const dv_tensor* t, const dv_element* element, const dv_steps* steps,
                       const dv_element* scale, const dv_scaled* s) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || s->block < 1)
    return DV_BAD_SHAPE;
  if (!valid(*element) || !fits_float(*element) || !valid(*scale) || !fits_float(*scale) ||
      scale->mode == DV_STOCHASTIC || !(s->largest_element > 0) || !(s->global > 0) ||
      (steps && s->two_level))
    return DV_BAD_VALUE;
  if (!steps) {
    cast_blocks<float>(*t, s->block, element->mode, RealScaled(*element, nullptr, *scale, *s));
    return DV_OK;
  }
  if (!valid(*steps))
    return DV_BAD_VALUE;
  const SearchTree tree(*steps);
  cast_blocks<float>(*t, s->block, element->mode, RealScaled(*element, &tree.steps, *scale, *s));
  return DV_OK;
}
