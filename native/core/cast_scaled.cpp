// Casts of blocks that share a rounded scale.
#include "core/search_tree.h"
#include "core/tiles.h"

#include <float.h>

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
    bool zeros;
  };

  RealScaled(const dv_element& element, const Steps* steps, const dv_element& scale,
             const dv_scaled& s)
      : element_(element), scale_(scale), steps_(steps), rule_(s), coarse_(coarse(element, steps)) {
  }

  void prepare(const Found& found, State& s) const {
    const int32_t* largest = found.most;
    const Casts& k = casts();
    float step[CHUNK];
    k.ratios(largest, s.count, rule_.largest_element, rule_.two_level, rule_.global, step);
    scale_.element(step, s.count, nullptr, step);
    k.factors(largest, step, s.count, rule_.two_level, rule_.global, coarse_, s.by, s.inverse,
              s.times);
    s.zeros = false;
    for (int64_t i = 0; i < s.count; i++)
      s.zeros |= step[i] == 0;
  }

  void apply(const float* x, int64_t n, const uint32_t* random, State& s, float* out) const {
    round(x, n, random, s, out);
    for (int64_t i = 0; s.zeros && i < n; i++)
      if (s.times[s.of(i)] == 0)
        out[i] = 0; // also for negative values
  }

  void mark(const float* x, int64_t n, const Watch<float>& watch, State& s, uint8_t* inside) const {
    casts().inside_real(x, n, s.lanes, s.by, s.times, !rule_.two_level, (float)watch.low(),
                        (float)watch.high(), inside);
  }

private:
  void round(const float* x, int64_t n, const uint32_t* random, State& s, float* out) const {
    const Casts& k = casts();
    const bool divide = !rule_.two_level;
    const Nearest& f = element_.nearest;
    const Factors own = {s.by, s.inverse, s.times};
    if (const int64_t run = steps_ || element_.is_short ? s.run(n) : 0) {
      if (steps_)
        k.steps_real_runs(x, own, n / run, run, divide, *steps_, out);
      else
        k.nearest_real_runs[f.form][divide](x, own, n / run, run, f, out);
      return;
    }
    const Factors each = {s.spread(s.by, n, k.repeat, s.spread_by),
                          s.spread(s.inverse, n, k.repeat, s.spread_inverse),
                          s.spread(s.times, n, k.repeat, s.spread_times)};
    if (steps_)
      k.steps_real(x, each, n, divide, *steps_, out);
    else if (element_.is_short)
      k.nearest_real[f.form][divide](x, each, n, f, out);
    else
      k.real_scaled[element_.mode][element_.kind](x, each.by, each.times, n, divide, random,
                                                  element_.grid, out);
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
  dv_scaled rule_;
  bool coarse_;
};

} // namespace
} // namespace dv

using namespace dv;

int32_t dv_cast_scaled(const dv_tensor* t, const dv_element* element, const dv_steps* steps,
                       const dv_element* scale, const dv_scaled* s) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || s->block < 1)
    return DV_BAD_SHAPE;
  if (!valid(*element) || !fits_float(*element) || !valid(*scale) || !fits_float(*scale) ||
      scale->mode == DV_STOCHASTIC || !(s->largest_element > 0) || !(s->global > 0))
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
