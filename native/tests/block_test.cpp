// Products of block formats against plain loops, on every level, with buffers of the exact size, so
// that the sanitizers see any read or write outside them.
#include "dovetail_block.h"

#include <math.h>
#include <stdio.h>
#include <string>
#include <vector>

namespace {

uint32_t state = 1;
int failures = 0;

int32_t uniform(int32_t low, int32_t high) {
  state = state * 1664525u + 1013904223u;
  return low + (int32_t)((state >> 8) % (uint32_t)(high - low + 1));
}

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
    failures++;
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

// One group per call of the loop: its channels are rounded by themselves.
bool run(const dv_shape& s, const dv_block_format& f, int32_t binades) {
  const int64_t in = s.in[1] * s.in[2], taps = s.kernel[1] * s.kernel[2];
  const int64_t channels = s.channels / s.groups, outputs = s.outputs / s.groups;
  const int64_t height = (s.in[1] + s.low[1] + s.high[1] - s.kernel[1]) / s.stride[1] + 1;
  const int64_t width = (s.in[2] + s.low[2] + s.high[2] - s.kernel[2]) / s.stride[2] + 1;
  const int64_t blocks = (channels + f.block - 1) / f.block;
  const auto x = numbers((size_t)(s.batch * s.channels * in), binades);
  const auto w = numbers((size_t)(s.outputs * taps * channels), binades);
  const auto bias = numbers((size_t)s.outputs, 0);
  // Rows of one group of channels: [batch, pixels, groups, channels].
  const Rounded a = rounded(channels_last(x, s.channels, in), channels, f);
  const Rounded b = rounded(w, channels, f);

  const int32_t most = f.most > -f.least ? f.most : -f.least;
  int32_t digits = f.digits + 1;
  if (f.digits == 22) // integers
    for (digits = 0; (most - 1) >> digits;)
      digits++;
  std::vector<uint8_t> packed((size_t)dv_block_packed_bytes(&s, f.block, most, digits));
  std::vector<float> y((size_t)(s.batch * s.outputs * height * width));
  if (dv_block_pack(&s, f.block, most, digits, b.codes.data(), b.exponents.data(), packed.data()) ||
      dv_block_run(&s, &f, packed.data(), x.data(), bias.data(), y.data()))
    return false;
  for (size_t i = 0; i < y.size(); i++) {
    const int64_t px = (int64_t)i % width, py = (int64_t)i / width % height;
    const int64_t n = (int64_t)i / width / height % s.outputs;
    const int64_t image = (int64_t)i / width / height / s.outputs;
    volatile float sum = 0;
    for (int64_t t = 0; t < taps; t++) {
      const int64_t ay = py * s.stride[1] + t / s.kernel[2] - s.low[1];
      const int64_t ax = px * s.stride[2] + t % s.kernel[2] - s.low[2];
      if (ay < 0 || ax < 0 || ay >= s.in[1] || ax >= s.in[2])
        continue;
      const int64_t row = (image * in + ay * s.in[2] + ax) * s.groups + n / outputs;
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
    if (y[i] != sum)
      return false;
  }
  return true;
}

dv_shape conv(int64_t batch, int64_t channels, int64_t outputs, int64_t groups, int64_t side,
              int64_t kernel, int64_t stride, int64_t pad) {
  return {batch,
          channels,
          outputs,
          groups,
          {1, side, side + 1},
          {1, kernel, kernel},
          {1, stride, stride},
          {1, 1, 1},
          {0, pad, 0},
          {0, pad, pad},
          0,
          0,
          0};
}

dv_shape linear(int64_t batch, int64_t channels, int64_t outputs) {
  return {batch,     channels,  outputs,   1, {1, 1, 1}, {1, 1, 1}, {1, 1, 1},
          {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, 1, 0,         0};
}

} // namespace

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(45, 71, 39),
      linear(20, 300, 3),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 70, 5, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
  };
  const dv_block_format formats[] = {
      {8, 0, 0, 6, 22, -6, -126, 127, -127, 127, 127.0 / 64},
      {64, 0, 0, 6, 22, -6, -127, 127, -128, 127, 127.0 / 64},
      {32, 2, 2, 1, 1, -1, -127, 127, -12, 12, 6},
      {32, 0, 4, 2, 2, -4, -127, 127, -448, 448, 28},
      {16, 0, 0, 10, 22, -10, -126, 127, -2047, 2047, 2047.0 / 1024},
  };
  const std::string levels = dv_levels();
  for (size_t from = 0; from < levels.size();) {
    const size_t space = levels.find(' ', from);
    const std::string level =
        levels.substr(from, space == std::string::npos ? space : space - from);
    from = space == std::string::npos ? levels.size() : space + 1;
    if (dv_set_level(level.c_str()) != DV_OK)
      failures++;
    for (const dv_shape& shape : shapes)
      for (const dv_block_format& format : formats)
        for (int32_t binades : {3, 50})
          if (!run(shape, format, binades)) {
            printf("%s: outputs %d, block %d differ\n", level.c_str(), (int)shape.outputs,
                   (int)format.block);
            failures++;
          }
  }
  printf("%s: %d failures\n", levels.c_str(), failures);
  return failures != 0;
}
