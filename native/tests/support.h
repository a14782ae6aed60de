// What the drivers share: numbers that look random, sizes of an op, and a pass over the levels.
#pragma once
#include "dovetail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string>

namespace {

uint32_t state = 1;

inline uint32_t next() { return state = state * 1664525u + 1013904223u; }

inline int32_t uniform(int32_t low, int32_t high) {
  return low + (int32_t)((next() >> 8) % (uint32_t)(high - low + 1));
}

// Equal numbers, or both NaN.
inline bool same(float a, float b) { return a == b || (a != a && b != b); }

inline dv_shape linear(int64_t batch, int64_t channels, int64_t outputs, int64_t groups = 1) {
  dv_shape s{};
  s.batch = batch;
  s.channels = channels;
  s.outputs = outputs;
  s.groups = groups;
  s.linear = 1;
  for (int i = 0; i < 3; i++)
    s.in[i] = s.kernel[i] = s.stride[i] = s.dilation[i] = 1;
  return s;
}

inline dv_shape conv(int64_t batch, int64_t channels, int64_t outputs, int64_t groups, int64_t side,
                     int64_t kernel, int64_t stride, int64_t pad) {
  dv_shape s = linear(batch, channels, outputs, groups);
  s.linear = 0;
  s.in[1] = side;
  s.in[2] = side + 1;
  s.kernel[1] = s.kernel[2] = kernel;
  s.stride[1] = s.stride[2] = stride;
  s.low[1] = s.high[1] = s.high[2] = pad;
  return s;
}

inline int64_t volume(const int64_t* size) { return size[0] * size[1] * size[2]; }

// The loops of an op, by its definition.
struct Loops {
  dv_shape s;
  int64_t in, taps, channels, outputs, out[3], pixels; // channels and outputs of one group

  explicit Loops(const dv_shape& shape)
      : s(shape), in(volume(s.in)), taps(volume(s.kernel)), channels(s.channels / s.groups),
        outputs(s.outputs / s.groups) {
    for (int i = 0; i < 3; i++)
      out[i] =
          (s.in[i] + s.low[i] + s.high[i] - s.dilation[i] * (s.kernel[i] - 1) - 1) / s.stride[i] +
          1;
    pixels = volume(out);
  }

  size_t inputs() const { return (size_t)(s.batch * s.channels * in); }
  size_t weights() const { return (size_t)(s.outputs * channels * taps); }
  size_t results() const { return (size_t)(s.batch * s.outputs * pixels); }

  // Where output `y` of [batch, outputs, pixels] lies.
  int64_t image(size_t y) const { return (int64_t)y / pixels / s.outputs; }
  int64_t output(size_t y) const { return (int64_t)y / pixels % s.outputs; }

  // The pixel that `tap` reads for output y, or -1 for a padded one.
  int64_t pixel(size_t y, int64_t tap) const {
    const int64_t o = (int64_t)y % pixels;
    const int64_t at[3] = {o / out[2] / out[1], o / out[2] % out[1], o % out[2]};
    const int64_t k[3] = {tap / s.kernel[2] / s.kernel[1], tap / s.kernel[2] % s.kernel[1],
                          tap % s.kernel[2]};
    int64_t place = 0;
    for (int i = 0; i < 3; i++) {
      const int64_t p = at[i] * s.stride[i] + k[i] * s.dilation[i] - s.low[i];
      if (p < 0 || p >= s.in[i])
        return -1;
      place = place * s.in[i] + p;
    }
    return place;
  }

  // The input that weight k, (channel, tap) of output y's group, is multiplied with, or -1.
  int64_t input(size_t y, int64_t k) const {
    const int64_t channel = output(y) / outputs * channels + k / taps, p = pixel(y, k % taps);
    return p < 0 ? -1 : (image(y) * s.channels + channel) * in + p;
  }
};

// Calls `f` with the core set to each level that it has.
template <typename F> void each_level(F f) {
  const std::string levels = dv_levels();
  for (size_t from = 0; from < levels.size();) {
    const size_t space = levels.find(' ', from);
    const size_t to = space == std::string::npos ? levels.size() : space;
    if (dv_set_level(levels.substr(from, to - from).c_str()) != DV_OK)
      abort();
    from = to + 1;
    f();
  }
}

inline int conclude(int failures) {
  printf("%s: %d failures\n", dv_levels(), failures);
  return failures != 0;
}

} // namespace
