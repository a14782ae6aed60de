// Where casts do not clip, as bytes: the mask of the straight-through gradient.
#pragma once
#include "kernels/affine.h"
#include "kernels/bits.h"

namespace {

// Strictly between the bounds of each run of `run` values (0: of each value); NaN never is.
template <typename Float>
void inside(const Float* x, int64_t n, int64_t run, const Float* low, const Float* high,
            uint8_t* __restrict out) {
  if (!run) {
    for (int64_t i = 0; i < n; i++)
      out[i] = (x[i] > low[i]) & (x[i] < high[i]);
    return;
  }
  for (int64_t at = 0, r = 0; at < n; at += run, r++) {
    const Float l = low[r], h = high[r];
    const int64_t end = n - at < run ? n : at + run;
    for (int64_t i = at; i < end; i++)
      out[i] = (x[i] > l) & (x[i] < h);
  }
}

// Between the bounds once divided by (or multiplied with) `by`; not where `times` is NaN.
inline uint8_t inside_real_one(float x, float by, float times, bool divide, float low, float high) {
  const float v = divide ? x / by : x * by;
  return (v > low) & (v < high) & (times == times);
}
void inside_real(const float* x, int64_t n, int64_t run, const float* by, const float* times,
                 bool divide, float low, float high, uint8_t* __restrict out) {
  if (!run) {
    for (int64_t i = 0; i < n; i++)
      out[i] = inside_real_one(x[i], by[i], times[i], divide, low, high);
    return;
  }
  for (int64_t at = 0, r = 0; at < n; at += run, r++) {
    const float b = by[r], t = times[r];
    const int64_t end = n - at < run ? n : at + run;
    for (int64_t i = at; i < end; i++)
      out[i] = inside_real_one(x[i], b, t, divide, low, high);
  }
}

// Where rint(x / scale) lies within the limits.
inline uint8_t inside_affine_one(float x, float scale, float low, float high) {
  float v = x / scale;
  v = v < low - 1.0f ? low - 1.0f : v;
  v = v > high + 1.0f ? high + 1.0f : v;
  const float q = (v + MAGIC) - MAGIC;
  return (q >= low) & (q <= high);
}
void inside_affine(const float* x, int64_t n, int64_t run, const dv::Affine& p,
                   uint8_t* __restrict out) {
  const float *scale = p.scale, *low = p.low, *high = p.high;
  if (!run) {
    for (int64_t i = 0; i < n; i++)
      out[i] = inside_affine_one(x[i], scale[i], low[i], high[i]);
    return;
  }
  for (int64_t at = 0, r = 0; at < n; at += run, r++) {
    const float s = scale[r], l = low[r], h = high[r];
    const int64_t end = n - at < run ? n : at + run;
    for (int64_t i = at; i < end; i++)
      out[i] = inside_affine_one(x[i], s, l, h);
  }
}

// Adds to `counts` how many values are finite but not inside, infinite, and NaN.
template <typename Float>
void tally(const Float* x, const uint8_t* inside, int64_t n, int64_t* counts) {
  const Float infinite = (Float)__builtin_inf();
  int32_t within = 0, infinities = 0, nans = 0; // n is at most the length of a stretch
  for (int64_t i = 0; i < n; i++) {
    within += inside[i];
    infinities += (x[i] == infinite) | (x[i] == -infinite);
    nans += x[i] != x[i];
  }
  counts[0] += n - within - infinities - nans;
  counts[1] += infinities;
  counts[2] += nans;
}

} // namespace
