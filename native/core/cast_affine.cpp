// Casts to integers, with given scales or with those that the blocks' own ranges ask for.
#include "core/tiles.h"

#include <float.h>
#include <vector>

namespace dv {

namespace {

constexpr int32_t CODES = 1 << 17; // limits of codes

// Parameters of up to CHUNK neighbours or runs.
struct Parameters {
  float scale[CHUNK], inverse[CHUNK], low[CHUNK], high[CHUNK];
  Affine all() { return {scale, inverse, low, high}; }
};

// Integers whose scales follow from the values of their blocks.
template <bool Symmetric> class Ranged {
public:
  using Found = Ends<Symmetric>;
  static constexpr bool FINITE = false;
  struct State : Blocks {
    Parameters own, each;
    int64_t run; // as kernels take it
  };

  explicit Ranged(const dv_integers& r) : given_(r) {
    const double span = r.affine ? (double)r.qmax - r.qmin : r.qmax;
    rule_.affine = r.affine;
    rule_.is_signed = r.is_signed;
    rule_.po2 = r.po2;
    rule_.qmin = (float)r.qmin;
    rule_.qmax = (float)r.qmax;
    rule_.span = (float)span;
    rule_.limit = r.affine ? FLT_MAX / 2 : FLT_MAX;
    rule_.widest = (float)(FLT_MAX * (1 - 0x1p-22) / span);
    rule_.widest_power = bits_of(rule_.widest) & 0x7f800000;
  }

  void prepare(const Found& found, State& s) const {
    const Casts& k = casts();
    int32_t zero_point[CHUNK];
    k.affine_ranges(found.low, found.high, s.count, rule_, s.own.scale, zero_point);
    k.affine_limits(s.count, zero_point, given_.qmin, given_.qmax, s.own.all());
    s.run = s.lanes;
    if (s.count == 1 || s.lanes % k.lanes == 0)
      return;
    s.run = 0; // runs too short for registers: every value gets its own
    const Affine from = s.own.all(), to = s.each.all();
    k.repeat(from.scale, s.count, s.lanes, to.scale);
    k.repeat(from.inverse, s.count, s.lanes, to.inverse);
    k.repeat(from.low, s.count, s.lanes, to.low);
    k.repeat(from.high, s.count, s.lanes, to.high);
  }

  void apply(const float* x, int64_t n, const uint32_t* random, State& s, float* out) const {
    const Affine each = s.run || !s.lanes ? s.own.all() : s.each.all();
    casts().affine[given_.mode](x, n, s.run, random, given_.random_bits, each, out);
  }

  void mark(const float* x, int64_t n, const Watch<float>&, State& s, uint8_t* inside) const {
    casts().inside_affine(x, n, s.lanes, s.own.all(), inside);
  }

private:
  dv_integers given_;
  Ranges rule_{};
};

bool valid(const dv_integers& r) {
  return r.qmin <= r.qmax && r.qmin >= -CODES && r.qmax <= CODES && r.mode >= 0 &&
         r.mode < DV_MODES && r.random_bits >= (r.mode == DV_STOCHASTIC) && r.random_bits <= 24;
}

// Values of a table in place of the codes' own; times the scale if `scaled`.
struct Lookup {
  const float* table; // null: the codes' own
  bool scaled;
};

int32_t cast_affine(const dv_tensor* t, int64_t channels, const float* scale,
                    const int32_t* zero_point, const dv_integers* codes, const Lookup& in) {
  if (!dv::valid(*t) || t->dtype == DV_FLOAT64 || (channels != 1 && channels != t->length))
    return DV_BAD_SHAPE;
  if (!valid(*codes))
    return DV_BAD_VALUE;
  const int32_t qmin = codes->qmin, qmax = codes->qmax, mode = codes->mode;
  for (int64_t c = 0; c < channels; c++)
    if (!(scale[c] > 0) || scale[c] > FLT_MAX || zero_point[c] < qmin || zero_point[c] > qmax)
      return DV_BAD_VALUE;
  const Plane<float> plane(*t);
  const Watch<float> watch(*t);
  const bool each = channels > 1 && t->inner == 1;
  // Rows of equal scale, or (channels last) rows in which each value has its own.
  const int64_t total = t->outer * t->length * t->inner;
  const int64_t row = channels == 1 ? total : each ? t->length : t->inner;
  if (total == 0)
    return DV_OK;
  const int64_t pieces = (row + CHUNK - 1) / CHUNK;
  // Kernels read them up to a whole register.
  const size_t room = (size_t)channels + 64;
  std::vector<float> scales(room), inverses(room), lows(room), highs(room);
  memcpy(scales.data(), scale, (size_t)channels * sizeof(float));
  const ExactFloats here;
  casts().affine_limits(channels, zero_point, qmin, qmax,
                        {scales.data(), inverses.data(), lows.data(), highs.data()});
  parallel(total / row * pieces, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    float buffer[CHUNK];
    uint32_t words[CHUNK + 8];
    for (int64_t task = begin; task < end; task++) {
      const int64_t from = task % pieces * CHUNK, n = smaller(CHUNK, row - from);
      const int64_t at = task / pieces * row + from;
      const int64_t first = each ? from : channels == 1 ? 0 : task / pieces % channels;
      const Affine p = {&scales[(size_t)first], &inverses[(size_t)first], &lows[(size_t)first],
                        &highs[(size_t)first]};
      plane.prefetch(at + CHUNK, n);
      float* out = plane.target(at, buffer);
      const float* x = plane.load(at, n, buffer);
      const int64_t run = each ? 0 : n;
      if (watch)
        watch.note(x, at, n, [&](uint8_t* inside) { casts().inside_affine(x, n, run, p, inside); });
      if (in.table) {
        casts().affine_lookup(x, n, run, p, in.table, in.scaled, out);
      } else {
        const uint32_t* random = random_words(*t, mode, at, n, words);
        casts().affine[mode](x, n, run, random, codes->random_bits, p, out);
      }
      plane.store(at, n, out, false);
    }
  });
  return DV_OK;
}

} // namespace
} // namespace dv

using namespace dv;

int32_t dv_cast_integers(const dv_tensor* t, int64_t block, const dv_integers* r) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || block < 1)
    return DV_BAD_SHAPE;
  if (!valid(*r) || r->qmin > 0 || r->qmax <= 0)
    return DV_BAD_VALUE;
  if (r->is_signed && !r->affine)
    cast_blocks<float>(*t, block, r->mode, Ranged<true>(*r));
  else
    cast_blocks<float>(*t, block, r->mode, Ranged<false>(*r));
  return DV_OK;
}

int32_t dv_cast_affine(const dv_tensor* t, int64_t channels, const float* scale,
                       const int32_t* zero_point, const dv_integers* codes) {
  return cast_affine(t, channels, scale, zero_point, codes, {nullptr, false});
}

int32_t dv_cast_lookup(const dv_tensor* t, int64_t channels, const float* scale,
                       const int32_t* zero_point, const dv_integers* codes, const float* table,
                       int32_t scaled) {
  if (t->dtype != DV_FLOAT32)
    return DV_BAD_SHAPE;
  if (codes->mode != DV_TIES_TO_EVEN)
    return DV_BAD_VALUE;
  return cast_affine(t, channels, scale, zero_point, codes, {table, scaled != 0});
}
