// One layer of a block format against plain loops, with buffers of the exact size.
#pragma once
#include "dovetail_block.h"
#include "support.h"

#include <math.h>
#include <vector>

namespace {

dv_block_format power_block(int64_t block, int32_t mode, int32_t emax, int32_t bits, int32_t digits,
                            int32_t quantum, int32_t low, double least, double most) {
  dv_block_format f = {};
  f.block = block, f.scale = DV_SCALE_POWER, f.mode = mode, f.emax = emax, f.even_bits = bits;
  f.digits = digits, f.quantum = quantum, f.low = low, f.high = 127, f.whole = 1;
  f.least = least, f.most = most, f.largest = ldexp(most, quantum);
  return f;
}

// Elements of E2M1, scales of E4M3.
dv_block_format real_block(int64_t block, int32_t scale, float whole) {
  dv_block_format f = power_block(block, 0, 2, 1, 1, -1, 0, -12, 12);
  f.high = 0, f.scale = scale, f.scale_digits = 3, f.scale_quantum = -9, f.scale_most = 448;
  f.whole = whole;
  return f;
}

const dv_block_format BLOCK_FORMATS[] = {
    power_block(8, 0, 0, 6, 22, -6, -126, -127, 127),
    power_block(64, 0, 0, 6, 22, -6, -127, -128, 127),
    power_block(32, 2, 2, 1, 1, -1, -127, -12, 12),
    power_block(32, 0, 4, 2, 2, -4, -127, -448, 448),
    power_block(16, 0, 0, 10, 22, -10, -126, -2047, 2047),
    power_block(32, 0, 8, 3, 3, -9, -127, -229376, 229376),           // E4M3
    power_block(32, 0, 15, 2, 2, -16, -127, -3758096384, 3758096384), // E5M2
    real_block(16, DV_SCALE_TWO_LEVEL, 3.0f),
    real_block(24, DV_SCALE_QUOTIENT, 1.0f),
};

std::vector<float> numbers(size_t n, int32_t binades) {
  std::vector<float> x(n);
  for (float& v : x)
    v = ldexpf((float)uniform(-1000, 1000), uniform(-binades, binades));
  return x;
}

struct Rounded {
  std::vector<float> codes, scales;
};

Rounded rounded(const std::vector<float>& x, int64_t length, const dv_block_format& f) {
  const int64_t rows = (int64_t)x.size() / length, blocks = (length + f.block - 1) / f.block;
  Rounded r{std::vector<float>(x.size()), std::vector<float>((size_t)(rows * blocks))};
  if (dv_block_quantize(x.data(), rows, length, &f, r.codes.data(), r.scales.data()) != DV_OK)
    abort();
  return r;
}

// The float next to n * scale. What n has beyond 53 bits goes into the last of them: only then is
// the scale a power of two, and the product with it exact.
float rounded_once(__int128 n, double scale) {
  const bool negative = n < 0;
  unsigned __int128 size = negative ? -(unsigned __int128)n : (unsigned __int128)n;
  int32_t shift = 0;
  for (; size >> 53; shift++)
    size = size >> 1 | (size & 1);
  const double exact = ldexp((double)(uint64_t)size, shift) * scale;
  return (float)(negative ? -exact : exact);
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

// Groups of channels are rounded by themselves. Rows have blocks of `longer` dots.
bool block_case(const dv_shape& s, const dv_block_format& weights, int32_t binades, int32_t few,
                int32_t longer) {
  dv_block_format f = weights;
  f.block *= longer;
  const Loops loops(s);
  const int64_t channels = loops.channels, taps = loops.taps, dot = weights.block;
  const int64_t row_blocks = (channels + f.block - 1) / f.block;
  const int64_t blocks = (channels + dot - 1) / dot;
  const auto x = numbers(loops.inputs(), binades);
  const auto w = numbers(loops.weights(), binades);
  const auto bias = numbers((size_t)s.outputs, 0);
  // Rows of one group of channels: [batch, pixels, groups, channels].
  const Rounded a = rounded(channels_last(x, s.channels, loops.in), channels, f);
  const Rounded b = rounded(w, channels, weights);

  dv_block_codes codes = {};
  codes.block = dot, codes.most = f.most > -f.least ? f.most : -f.least, codes.few = few;
  codes.digits = f.digits + 1;
  if (f.digits == 22) // integers
    for (codes.digits = 0; ((int64_t)codes.most - 1) >> codes.digits;)
      codes.digits++;
  codes.scale_bits = f.scale == DV_SCALE_POWER ? 1 : f.scale_digits + 1;
  const double sum = (double)dot * codes.most * codes.most;
  for (codes.split = 0; ldexp(sum, -f.split) >= 0x1p53;)
    codes.split = ++f.split;
  std::vector<uint8_t> packed((size_t)dv_block_packed_bytes(&s, &codes));
  std::vector<float> y(loops.results());
  if (dv_block_pack(&s, &codes, b.codes.data(), b.scales.data(), packed.data()) ||
      dv_block_run(&s, &f, packed.data(), x.data(), bias.data(), 0.5f, y.data()))
    return false;
  for (size_t i = 0; i < y.size(); i++) {
    const int64_t n = loops.output(i);
    volatile float total = 0;
    for (int64_t t = 0; t < taps; t++) {
      const int64_t pixel = loops.pixel(i, t);
      if (pixel < 0)
        continue;
      const int64_t row = (loops.image(i) * loops.in + pixel) * s.groups + n / loops.outputs;
      for (int64_t k = 0; k < blocks; k++) {
        __int128 sum_of_codes = 0;
        for (int64_t c = k * dot; c < channels && c < (k + 1) * dot; c++)
          sum_of_codes += (__int128)a.codes[(size_t)(row * channels + c)] *
                          (__int128)b.codes[(size_t)((n * taps + t) * channels + c)];
        const double scale = (double)a.scales[(size_t)(row * row_blocks + k / longer)] *
                             b.scales[(size_t)((n * taps + t) * blocks + k)];
        total = total + rounded_once(sum_of_codes, scale);
      }
    }
    total = total * 0.5f;
    total = total + bias[(size_t)n];
    if (!same(y[i], total))
      return false;
  }
  return true;
}

} // namespace
