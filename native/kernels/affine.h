// Integers with a scale: rounding and clamping in floats, and the scales that ranges ask for.
//
// A division takes longer than all the rest, so values are multiplied by 1 / scale instead where
// that is certain to round to the same integer. With q = x / scale and t = x * fl(1 / scale), both
// rounded, |t - q| <= |q| * 2^-22 (three roundings of half a last place, and the reciprocal is a
// normal number), which below 2^9 is less than 2^-13: where t lies further than 2^-12 from every
// n + 1/2, both round to the same integer, and beyond the clamps both become the same one.
// Registers with a value nearer to a tie, or with NaN, are divided. An `inverse` of NaN always
// divides.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"
#include "kernels/lanes.h"

namespace {

constexpr float MAGIC = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer, ties to even
constexpr float FAR = 0.5f - 1.0f / 4096;

inline Floats rounded(Floats v) { return (v + every(MAGIC)) - every(MAGIC); } // never -0

// rint(x / scale) held between `low` and `high`; NaN becomes 0.
inline Floats affine_steps(Floats x, Floats scale, Floats inverse, Floats low, Floats high) {
  const Floats v = at_least(at_most(x * inverse, high), low), r = rounded(v), off = v - r;
  if (!any_larger(bits(off) & MAGNITUDE, bits(every(FAR)))) // the bits of NaN are the largest
    return r;
  const Floats q = x / scale;
  return rounded(at_least(at_most(q == q ? q : Floats{}, high), low));
}

// out = of(x, place of its parameters) for runs of `run` values that share them (0: none do).
template <typename Of>
inline void affine_runs(const float* x, int64_t n, int64_t run, float* out, Of&& of) {
  if (!run)
    return lane_by_lane(x, n, out, [&](Floats v, int64_t i) {
      return of(v, [i](const float* p) { return load(p + i); });
    });
  for (int64_t at = 0, r = 0; at < n; at += run, r++)
    lane_by_lane(x + at, n - at < run ? n - at : run, out + at, [&](Floats v, int64_t) {
      return of(v, [r](const float* p) { return every(p[r]); });
    });
}

void affine(const float* x, int64_t n, int64_t run, const uint32_t*, int32_t, const dv::Affine& a,
            float* out) {
  const dv::Affine p = a;
  affine_runs(x, n, run, out, [&](Floats v, auto of) {
    const Floats scale = of(p.scale);
    return affine_steps(v, scale, of(p.inverse), of(p.low), of(p.high)) * scale;
  });
}

inline float held(float x, float low, float high) {
  const float v = x > low ? x : low;
  return v < high ? v : high;
}

// x / scale held between `low` and `high`, which are integers of magnitudes up to 2^18, and rounded
// to an integer (never -0) as the mode says, by what it lies off the nearest one, exactly.
template <int MODE>
inline float affine_step(float x, float scale, float low, float high, uint32_t random,
                         int32_t random_bits) {
  const float q = x / scale, v = held(q == q ? q : 0, low, high);
  const float near = (v + MAGIC) - MAGIC, off = v - near;
  const float floor = near - (off < 0 ? 1.0f : 0.0f), ceiling = near + (off > 0 ? 1.0f : 0.0f);
  const float inner = v < 0 ? ceiling : floor, outer = v < 0 ? floor : ceiling;
  if (MODE == DV_TIES_TO_AWAY)
    return off == 0.5f || off == -0.5f ? outer : near;
  if (MODE == DV_TOWARD_ZERO)
    return inner;
  if (MODE == DV_TOWARD_POSITIVE)
    return ceiling;
  if (MODE == DV_TOWARD_NEGATIVE)
    return floor;
  if (MODE == DV_TO_ODD)
    return (int32_t)inner & 1 ? inner : outer;
  // floor(d * 2^(bits + 1)) + 2 R + 1 >= 2^(bits + 1), with up to 25 bits of the distance d
  const int32_t one = 2 << random_bits, draw = (int32_t)(random >> (32 - random_bits));
  const float off_inner = v - inner, share = (off_inner < 0 ? -off_inner : off_inner) * (float)one;
  return (int32_t)share + 2 * draw + 1 >= one ? outer : inner;
}

template <int MODE>
void affine_by(const float* x, int64_t n, int64_t run, const uint32_t* random, int32_t random_bits,
               const dv::Affine& a, float* out) {
  const dv::Affine p = a;
  if (!run) {
    DV_ELEMENTWISE
    for (int64_t i = 0; i < n; i++)
      out[i] = affine_step<MODE>(x[i], p.scale[i], p.low[i], p.high[i],
                                 MODE == DV_STOCHASTIC ? random[i] : 0, random_bits) *
               p.scale[i];
    return;
  }
  for (int64_t at = 0, r = 0; at < n; at += run, r++) {
    const float scale = p.scale[r], low = p.low[r], high = p.high[r];
    const int64_t end = n - at < run ? n : at + run;
    DV_ELEMENTWISE
    for (int64_t i = at; i < end; i++)
      out[i] = affine_step<MODE>(x[i], scale, low, high, MODE == DV_STOCHASTIC ? random[i] : 0,
                                 random_bits) *
               scale;
  }
}

inline Floats picked(const float* table, Ints at) {
#if defined(__AVX512F__)
  return (Floats)_mm512_i32gather_ps((__m512i)at, table, 4);
#elif defined(__AVX2__)
  return (Floats)_mm256_i32gather_ps(table, (__m256i)at, 4);
#else
  return Floats{table[at[0]], table[at[1]], table[at[2]], table[at[3]]};
#endif
}

// Steps lie between `low` and `high`, which are integers: so places do between 0 and high - low.
void affine_lookup(const float* x, int64_t n, int64_t run, const dv::Affine& a, const float* table,
                   bool scaled, float* out) {
  const dv::Affine p = a;
  affine_runs(x, n, run, out, [&](Floats v, auto of) {
    const Floats scale = of(p.scale), low = of(p.low);
    const Floats step = affine_steps(v, scale, of(p.inverse), low, of(p.high));
    const Floats found = picked(table, __builtin_convertvector(step - low, Ints));
    return scaled ? found * scale : found;
  });
}

// What turns scales and zero points into limits, and into reciprocals where those are exact enough.
// The results have room for a whole register at the end.
void affine_limits(int64_t n, const int32_t* zero_point, int32_t qmin, int32_t qmax,
                   const dv::Affine& a) {
  const dv::Affine p = a;
  const Floats one = every(1.0f), nan = floats(every(INFINITE + (1 << 22)));
  for (int64_t i = 0; i < n; i += LANES) {
    const Floats given = load_up_to(reinterpret_cast<const float*>(zero_point) + i, n - i, 0.0f);
    const Floats scale = load_up_to(p.scale + i, n - i, 1.0f);
    const Floats low = converted(qmin - bits(given)), high = converted(qmax - bits(given));
    const Ints near =
        (low >= -512.0f) & (high <= 512.0f) & (scale >= 0x1p-126f) & (scale <= 0x1p126f);
    store(p.low + i, low);
    store(p.high + i, high);
    store(p.inverse + i, near ? one / scale : nan);
  }
}

inline Floats held(Floats x, Floats low, Floats high) {
  const Floats v = x > low ? x : low;
  return v < high ? v : high;
}

// The scale and zero point of each range, widened to hold 0. Room as above.
void affine_ranges(const float* low, const float* high, int64_t n, const dv::Ranges& rule,
                   float* scale, int32_t* zero_point) {
  const dv::Ranges r = rule;
  const Floats zero{}, limit = every(r.limit), least = every(0x1p-126f), most = every(r.widest);
  for (int64_t i = 0; i < n; i += LANES) {
    const Floats l = held(load_up_to(low + i, n - i, 0.0f), -limit, zero);
    const Floats h = held(load_up_to(high + i, n - i, 0.0f), zero, limit);
    const Floats wide = r.affine ? h - l : r.is_signed ? (-l > h ? -l : h) : h;
    Floats s = wide / r.span;
    s = held(s == zero ? every(1.0f) : s, least, most);
    if (r.po2) { // up to a power of two
      const Ints up = (bits(s) + 0x7fffff) & INFINITE;
      s = floats(smaller(up, every(r.widest_power)));
    }
    store(scale + i, s);
    Ints place{};
    if (r.affine) { // |l / s| <= span < 2^17
      const Floats z = ((r.qmin - l / s) + MAGIC) - MAGIC;
      place = converted(held(z, every(r.qmin), every(r.qmax)));
    }
    store(reinterpret_cast<float*>(zero_point) + i, floats(place));
  }
}

} // namespace
