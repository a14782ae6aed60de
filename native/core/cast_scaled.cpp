// Casts of blocks that share a rounded scale.
#include "core/search_tree.h"
#include "core/tiles.h"

#include <atomic>
#include <float.h>

namespace dv {

namespace {

// One rounded scale per block, in float32.
class RealScaled {
public:
  struct State : Blocks {
    float by[CHUNK], times[CHUNK], spread_by[CHUNK], spread_times[CHUNK];
    bool zeros;
  };

  RealScaled(const dv_element& element, const Steps* steps, const dv_element& scale,
             const dv_scaled& s)
      : element_(element), scale_(scale), steps_(steps), rule_(s) {}

  void prepare(const int32_t* largest, State& s) const {
    const Casts& k = casts();
    float step[CHUNK];
    k.ratios(largest, s.count, rule_.largest_element, rule_.two_level, rule_.global, step);
    scale_.element(step, s.count, nullptr, step);
    k.factors(largest, step, s.count, rule_.two_level, rule_.global, s.by, s.times);
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

private:
  void round(const float* x, int64_t n, const uint32_t* random, State& s, float* out) const {
    const Casts& k = casts();
    const bool divide = !rule_.two_level;
    const Nearest& f = element_.nearest;
    if (const int64_t run = steps_ || element_.is_short ? s.run(n) : 0) {
      if (steps_)
        k.steps_real_runs(x, s.by, s.times, n / run, run, divide, *steps_, out);
      else
        k.nearest_real_runs[f.form][divide](x, s.by, s.times, n / run, run, f, out);
      return;
    }
    const float* by = s.spread(s.by, n, k.repeat, s.spread_by);
    const float* times = s.spread(s.times, n, k.repeat, s.spread_times);
    if (steps_)
      k.steps_real(x, by, times, n, divide, *steps_, out);
    else if (element_.is_short)
      k.nearest_real[f.form][divide](x, by, times, n, f, out);
    else
      k.real_scaled[element_.mode][element_.kind](x, by, times, n, divide, random, element_.grid,
                                                  out);
  }

  Rounder<float> element_, scale_;
  const Steps* steps_;
  dv_scaled rule_;
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

int32_t dv_largest(const dv_tensor* t, int64_t block, double* out) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || block < 1)
    return DV_BAD_SHAPE;
  std::atomic<int32_t> found{0};
  const Plane<float> plane(*t);
  tiles(*t, block, [&](const Tile& tile) {
    float buffer[CHUNK];
    int32_t largest[CHUNK];
    largest_of(plane, tile, buffer, largest);
    const int32_t most = casts().largest_finite(largest, tile.blocks());
    int32_t seen = found.load();
    while (most > seen && !found.compare_exchange_weak(seen, most)) {
    }
  });
  const int32_t bits = found.load();
  float value;
  memcpy(&value, &bits, sizeof value);
  *out = value;
  return DV_OK;
}
