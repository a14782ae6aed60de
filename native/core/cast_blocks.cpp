// Casts of formats whose elements share a scale in blocks. Memory is read once, and nothing is
// transposed: blocks along the last axis are taken many at a time, blocks along another axis in
// strips of neighbouring columns.
#include "core/cast.h"
#include "core/threads.h"

#include <atomic>
#include <math.h>

namespace dv {

namespace {

// Blocks next to each other in memory: `rows` stretches of `n` values, `stride` apart. With
// `run` = 0 each column is a block; else each row holds blocks of `run` values, or, if that exceeds
// CHUNK, all rows are one block, the last of them shorter.
struct Tile {
  int64_t at, n, rows, stride, run;

  int64_t length(int64_t row) const { return run > CHUNK ? smaller(CHUNK, run - row * CHUNK) : n; }
  int64_t blocks() const { return run == 0 ? n : run > CHUNK ? 1 : n / run; }
};

Tile tile_of_runs(int64_t at, int64_t runs, int64_t block) {
  if (block > CHUNK)
    return {at, CHUNK, (block + CHUNK - 1) / CHUNK, CHUNK, block};
  return {at, runs * block, 1, 0, block};
}

// Calls work(tile) for tiles that cover the tensor, over all threads.
template <typename Work> void tiles(const dv_tensor& t, int64_t given, Work&& work) {
  if (t.outer * t.length * t.inner == 0)
    return;
  const int64_t block = smaller(given, t.length);
  if (t.inner == 1) {
    const bool even = t.length % block == 0;
    const int64_t length = even ? t.outer * t.length : t.length, rows = even ? 1 : t.outer;
    const int64_t full = length / block, tail = length % block;
    const int64_t each = block > CHUNK ? 1 : CHUNK / block;
    const int64_t groups = (full + each - 1) / each, per_row = groups + (tail > 0);
    parallel(rows * per_row, [&](int64_t begin, int64_t end) {
      const ExactFloats exact;
      for (int64_t task = begin; task < end; task++) {
        const int64_t start = task / per_row * length, group = task % per_row;
        if (group == groups)
          work(tile_of_runs(start + full * block, 1, tail));
        else
          work(tile_of_runs(start + group * each * block, smaller(each, full - group * each),
                            block));
      }
    });
    return;
  }
  const int64_t blocks = (t.length + block - 1) / block, strips = (t.inner + CHUNK - 1) / CHUNK;
  parallel(t.outer * blocks * strips, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    for (int64_t task = begin; task < end; task++) {
      const int64_t column = task % strips * CHUNK, first = task / strips % blocks * block;
      const int64_t at = (task / strips / blocks * t.length + first) * t.inner + column;
      work(
          Tile{at, smaller(CHUNK, t.inner - column), smaller(block, t.length - first), t.inner, 0});
    }
  });
}

// The largest magnitude of each block of a tile.
template <typename Float, typename Int>
void largest_of(const Plane<Float>& plane, const Tile& tile, Float* buffer, Int* largest) {
  const FloatCasts<Float, Int>& k = Of<Float>::casts();
  if (tile.run && tile.run <= CHUNK) {
    k.largest_of_runs(plane.load(tile.at, tile.n, buffer), tile.blocks(), tile.run, largest);
    return;
  }
  memset(largest, 0, (size_t)tile.blocks() * sizeof(Int));
  for (int64_t row = 0; row < tile.rows; row++) {
    const int64_t n = tile.length(row);
    const Float* x = plane.load(tile.at + row * tile.stride, n, buffer);
    if (!tile.run) {
      k.largest_so_far(x, n, largest);
      continue;
    }
    Int most;
    k.largest_of_runs(x, 1, n, &most);
    *largest = most > *largest ? most : *largest;
  }
}

// Rounds every block by a method: prepare(largest of each block) once per tile, `lanes` values
// next to each other belonging to each, then apply(values) row by row.
template <typename Float, typename Method>
void cast_blocks(const dv_tensor& t, int64_t block, int mode, const Method& method) {
  const Plane<Float> plane(t);
  tiles(t, block, [&](const Tile& tile) {
    Float buffer[CHUNK];
    typename Of<Float>::Int largest[CHUNK];
    uint32_t words[CHUNK + 8];
    typename Method::State state;
    largest_of(plane, tile, buffer, largest);
    if (tile.run)
      plane.prefetch(tile.at + tile.n, tile.n);
    method.prepare(largest, tile.blocks(), smaller(tile.run, CHUNK), state);
    for (int64_t row = 0; row < tile.rows; row++) {
      const int64_t at = tile.at + row * tile.stride, n = tile.length(row);
      const uint32_t* random = random_words(t, mode, at, n, words);
      Float* out = plane.target(at, buffer);
      method.apply(plane.load(at, n, buffer), n, random, state, out);
      plane.store(at, n, out, true);
    }
  });
}

// One power of two per block.
template <typename Float> class PowerScaled {
  using Int = typename Of<Float>::Int;

public:
  // Blocks whose constants leave the normal numbers are `hard`: they go through doubles.
  struct State {
    Int exponents[CHUNK], spread[CHUNK], largest[CHUNK];
    const Int* lanes;
    int64_t hard;
  };

  PowerScaled(const dv_element& e, const dv_blocks& b)
      : rounder_(e), wide_(e), rule_(rule<Float>(e, b)), wide_rule_(rule<double>(e, b)) {
    saturate(rounder_.grid, (Float)e.max[0], (Float)-e.max[1]);
    saturate(wide_.grid, e.max[0], -e.max[1]);
  }

  void prepare(const Int* largest, int64_t blocks, int64_t lanes, State& s) const {
    const FloatCasts<Float, Int>& k = Of<Float>::casts();
    s.hard = k.exponents(largest, blocks, rule_, s.exponents);
    s.lanes = s.exponents;
    if (lanes) {
      k.repeat(s.exponents, blocks, lanes, s.spread);
      s.lanes = s.spread;
    }
    if (s.hard && lanes)
      k.repeat(largest, blocks, lanes, s.largest);
    else if (s.hard)
      memcpy(s.largest, largest, (size_t)blocks * sizeof(Int));
  }

  void apply(const Float* x, int64_t n, const uint32_t* random, const State& s, Float* out) const {
    if (!s.hard) {
      rounder_.scaled(x, s.lanes, n, random, out);
      return;
    }
    Float patch[CHUNK];
    int32_t place[CHUNK];
    const int64_t count = hard(x, n, random, s, place, patch);
    rounder_.scaled(x, s.lanes, n, random, out);
    for (int64_t i = 0; i < count; i++)
      out[place[i]] = patch[i];
  }

private:
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
      const Int u = s.largest[i], e = exponent_of<Float, Int>(u < infinite ? u : infinite, rule_);
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
    wide_.scaled(wide, exponent, count, word, wide);
    for (int64_t i = 0; i < count; i++) {
      const double top = sizeof(Float) == 4 ? (double)FLT_MAX : DBL_MAX;
      const double y = wide[i] > top ? top : wide[i] < -top ? -top : wide[i];
      patch[i] = s.largest[place[i]] < infinite ? (Float)y : (Float)NAN;
    }
    return count;
  }

  Rounder<Float> rounder_;
  Rounder<double> wide_;
  Exponents<Int> rule_;
  Exponents<int64_t> wide_rule_;
};

// One rounded scale per block, in float32.
class RealScaled {
public:
  struct State {
    float divisor[CHUNK], factor[CHUNK], spread_divisor[CHUNK], spread_factor[CHUNK];
    const float *divisors, *factors;
    bool zeros;
  };

  RealScaled(const dv_element& element, const Steps* steps, const dv_element& scale,
             const dv_scaled& s)
      : element_(element), scale_(scale), steps_(steps), rule_(s) {}

  void prepare(const int32_t* largest, int64_t blocks, int64_t lanes, State& s) const {
    const Casts& k = casts();
    float step[CHUNK];
    k.ratios(largest, blocks, rule_.largest_element, rule_.two_level, rule_.global, step);
    scale_.element(step, blocks, nullptr, step);
    k.factors(largest, step, blocks, rule_.two_level, rule_.global, s.divisor, s.factor);
    s.zeros = false;
    for (int64_t i = 0; i < blocks; i++)
      s.zeros |= step[i] == 0;
    s.divisors = s.divisor;
    s.factors = s.factor;
    if (lanes) {
      k.repeat(s.divisor, blocks, lanes, s.spread_divisor);
      k.repeat(s.factor, blocks, lanes, s.spread_factor);
      s.divisors = s.spread_divisor;
      s.factors = s.spread_factor;
    }
  }

  void apply(const float* x, int64_t n, const uint32_t* random, const State& s, float* out) const {
    const Casts& k = casts();
    if (steps_) {
      (rule_.two_level ? k.multiply : k.divide)(x, s.divisors, n, out);
      k.steps(out, n, *steps_, out);
      k.rescale(out, s.factors, FLT_MAX, n, out);
    } else {
      k.real_scaled[element_.mode][element_.kind](x, s.divisors, s.factors, n, !rule_.two_level,
                                                  random, element_.grid, out);
    }
    for (int64_t i = 0; s.zeros && i < n; i++)
      if (s.factors[i] == 0)
        out[i] = 0; // also for negative values
  }

private:
  Rounder<float> element_, scale_;
  const Steps* steps_;
  dv_scaled rule_;
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

int32_t dv_cast_scaled(const dv_tensor* t, const dv_element* element, const dv_steps* steps,
                       const dv_element* scale, const dv_scaled* s) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || s->block < 1)
    return DV_BAD_SHAPE;
  if (!valid(*element) || !fits_float(*element) || !valid(*scale) || !fits_float(*scale) ||
      scale->mode == DV_STOCHASTIC || !(s->largest_element > 0) || !(s->global > 0))
    return DV_BAD_VALUE;
  Steps table{};
  if (steps)
    table = {steps->key, steps->value, steps->find, steps->count, steps->shift, steps->halvings};
  cast_blocks<float>(*t, s->block, element->mode,
                     RealScaled(*element, steps ? &table : nullptr, *scale, *s));
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
