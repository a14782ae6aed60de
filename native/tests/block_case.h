// One layer of a block format against plain loops, with buffers of the exact size.
#pragma once
#include "dovetail_block.h"
#include "support.h"

#include <math.h>
#include <vector>

namespace {

const dv_block_format BLOCK_FORMATS[] = {
    {8, 0, 0, 6, 22, -6, -126, 127, -127, 127, 127.0 / 64},
    {64, 0, 0, 6, 22, -6, -127, 127, -128, 127, 127.0 / 64},
    {32, 2, 2, 1, 1, -1, -127, 127, -12, 12, 6},
    {32, 0, 4, 2, 2, -4, -127, 127, -448, 448, 28},
    {16, 0, 0, 10, 22, -10, -126, 127, -2047, 2047, 2047.0 / 1024},
};

std::vector<float> numbers(size_t n, int32_t binades) {
  std::vector<float> x(n);
  for (float& v : x)
    v = ldexpf((float)uniform(-1000, 1000), uniform(-binades, binades));
  return x;
}

struct Rounded {
  std::vector<int16_t> codes;
  std::vector<int32_t> exponents;
};

Rounded rounded(const std::vector<float>& x, int64_t length, const dv_block_format& f) {
  const int64_t rows = (int64_t)x.size() / length, blocks = (length + f.block - 1) / f.block;
  Rounded r{std::vector<int16_t>(x.size()), std::vector<int32_t>((size_t)(rows * blocks))};
  if (dv_block_quantize(x.data(), rows, length, &f, r.codes.data(), r.exponents.data()) != DV_OK)
    abort();
  return r;
}

// [outer, channels, pixels] with the channels last.
std::vector<float> channels_last(const std::vector<float>& x, int64_t channels, int64_t pixels) {
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); i++) {
    const int64_t pixel = (int64_t)i % pixels, c = (int64_t)i / pixels % channels;
    const int64_t outer = (int64_t)i / pixels / channels;
    y[(size_t)((outer * pixels + pixel) * channels + c)] = x[i];
  }
  return y;
}

// Groups of channels are rounded by themselves.
bool block_case(const dv_shape& s, const dv_block_format& f, int32_t binades, int32_t few) {
  const Loops loops(s);
  const int64_t channels = loops.channels, taps = loops.taps;
  const int64_t blocks = (channels + f.block - 1) / f.block;
  const auto x = numbers(loops.inputs(), binades);
  const auto w = numbers(loops.weights(), binades);
  const auto bias = numbers((size_t)s.outputs, 0);
  // Rows of one group of channels: [batch, pixels, groups, channels].
  const Rounded a = rounded(channels_last(x, s.channels, loops.in), channels, f);
  const Rounded b = rounded(w, channels, f);

  const int32_t most = f.most > -f.least ? f.most : -f.least;
  int32_t digits = f.digits + 1;
  if (f.digits == 22) // integers
    for (digits = 0; (most - 1) >> digits;)
      digits++;
  std::vector<uint8_t> packed((size_t)dv_block_packed_bytes(&s, f.block, most, digits, few));
  std::vector<float> y(loops.results());
  if (dv_block_pack(&s, f.block, most, digits, few, b.codes.data(), b.exponents.data(),
                    packed.data()) ||
      dv_block_run(&s, &f, packed.data(), x.data(), bias.data(), y.data()))
    return false;
  for (size_t i = 0; i < y.size(); i++) {
    const int64_t n = loops.output(i);
    volatile float sum = 0;
    for (int64_t t = 0; t < taps; t++) {
      const int64_t pixel = loops.pixel(i, t);
      if (pixel < 0)
        continue;
      const int64_t row = (loops.image(i) * loops.in + pixel) * s.groups + n / loops.outputs;
      for (int64_t k = 0; k < blocks; k++) {
        int64_t dot = 0;
        for (int64_t c = k * f.block; c < channels && c < (k + 1) * f.block; c++)
          dot += (int64_t)a.codes[(size_t)(row * channels + c)] *
                 b.codes[(size_t)((n * taps + t) * channels + c)];
        const int32_t e = a.exponents[(size_t)(row * blocks + k)] +
                          b.exponents[(size_t)((n * taps + t) * blocks + k)];
        sum = sum + (float)ldexp((double)dot, e);
      }
    }
    sum = sum + bias[(size_t)n];
    if (!same(y[i], sum))
      return false;
  }
  return true;
}

} // namespace
