// Layers of a floating-point multiplier against plain loops, on every level, with buffers of the
// exact size, so that the sanitizers see any read or write outside them.
#include "dovetail_float.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <string>
#include <vector>

namespace {

uint32_t state = 1;
int failures = 0;

int32_t uniform(int32_t low, int32_t high) {
  state = state * 1664525u + 1013904223u;
  return low + (int32_t)((state >> 8) % (uint32_t)(high - low + 1));
}

// Numbers of m fraction bits, some of them zeros, infinities and NaN.
std::vector<float> numbers(size_t n, int32_t m, int32_t binades, bool special) {
  std::vector<float> x(n);
  for (float& v : x) {
    v = ldexpf((float)((1 << m) + uniform(0, (1 << m) - 1)), uniform(-binades, binades) - m);
    const int32_t kind = uniform(0, special ? 30 : 9);
    v = kind == 0 ? 0.0f : kind == 29 ? INFINITY : kind == 30 ? NAN : v;
    v = uniform(0, 1) ? -v : v;
  }
  return x;
}

// A multiplier and the memory that it points to.
struct Multiplier {
  std::vector<float> rows, lanes, table;
  dv_float_mul mul;

  Multiplier(int32_t form, int32_t m) {
    const int32_t n = 1 << m, offset = m > 1 ? 1 << (m / 2) : 0;
    table.assign((size_t)((n + 1) * (n + 1) + 16), 1.0f);
    for (int32_t x = 0; x < n; x++) {
      rows.push_back((float)(n + x / 2 * 2));
      lanes.push_back((float)(n + x - x % 3));
    }
    for (int32_t x = 0; x < n; x++)
      for (int32_t y = 0; y < n; y++) {
        const int32_t s = x + y + offset;
        float& t = table[(size_t)((x + 1) * (n + 1) + y + 1)];
        t = form == 0   ? rows[(size_t)x] * lanes[(size_t)y]
            : form == 1 ? (float)((n + (s & (n - 1))) << (m + s / n))
                        : (float)uniform(0, (1 << (2 * m + 2)) - 1);
      }
    mul = {form, m, offset, 2 * m + 3, rows.data(), lanes.data(), table.data()};
    if (form != 0)
      mul.rows = mul.lanes = nullptr;
  }

  // The definition, rows first.
  float operator()(float x, float y) const {
    if (!isfinite(x) || !isfinite(y) || x == 0 || y == 0)
      return x * y;
    int a, b;
    const double n = 1 << mul.mantissa;
    const int32_t i = (int32_t)(frexp(fabs((double)x), &a) * 2 * n - n);
    const int32_t j = (int32_t)(frexp(fabs((double)y), &b) * 2 * n - n);
    const double t = table[(size_t)((i + 1) * ((int32_t)n + 1) + j + 1)];
    const double size = ldexp(t, a + b - 2 - 2 * mul.mantissa);
    return (float)(signbit(x) != signbit(y) ? -size : size);
  }
};

bool same(float a, float b) { return a == b || (isnan(a) && isnan(b)); }

bool run(const dv_shape& s, const Multiplier& f, int32_t binades, bool special) {
  const int64_t in = s.in[1] * s.in[2], taps = s.kernel[1] * s.kernel[2];
  const int64_t channels = s.channels / s.groups, outputs = s.outputs / s.groups;
  const int64_t height = (s.in[1] + s.low[1] + s.high[1] - s.kernel[1]) / s.stride[1] + 1;
  const int64_t width = (s.in[2] + s.low[2] + s.high[2] - s.kernel[2]) / s.stride[2] + 1;
  const int32_t m = f.mul.mantissa;
  const auto x = numbers((size_t)(s.batch * s.channels * in), m, binades, special);
  const auto w = numbers((size_t)(s.outputs * taps * channels), m, binades, special);
  const auto bias = numbers((size_t)s.outputs, m, 0, false);
  std::vector<uint8_t> packed((size_t)dv_float_packed_bytes(&s, &f.mul));
  std::vector<float> y((size_t)(s.batch * s.outputs * height * width));
  if (dv_float_pack(&s, &f.mul, w.data(), packed.data()) ||
      dv_float_run(&s, &f.mul, packed.data(), x.data(), bias.data(), y.data()))
    return false;
  for (size_t i = 0; i < y.size(); i++) {
    const int64_t px = (int64_t)i % width, py = (int64_t)i / width % height;
    const int64_t n = (int64_t)i / width / height % s.outputs;
    const int64_t image = (int64_t)i / width / height / s.outputs;
    volatile float sum = 0;
    for (int64_t k = 0; k < channels * taps; k++) {
      const int64_t c = n / outputs * channels + k / taps, t = k % taps;
      const int64_t ay = py * s.stride[1] + t / s.kernel[2] - s.low[1];
      const int64_t ax = px * s.stride[2] + t % s.kernel[2] - s.low[2];
      const bool inside = ay >= 0 && ax >= 0 && ay < s.in[1] && ax < s.in[2];
      const float a =
          inside ? x[(size_t)((image * s.channels + c) * in + ay * s.in[2] + ax)] : 0.0f;
      const float b = w[(size_t)(n * channels * taps + k)];
      sum = sum + (s.linear ? f(a, b) : f(b, a));
    }
    sum = sum + bias[(size_t)n];
    if (!same(y[i], sum))
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
          0};
}

dv_shape linear(int64_t batch, int64_t channels, int64_t outputs) {
  return {batch,     channels,  outputs,   1,         {1, 1, 1}, {1, 1, 1},
          {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, 1,         0};
}

} // namespace

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(15, 31, 39),
      linear(8, 300, 3),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 17, 5, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
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
      for (int32_t form = 0; form < 3; form++)
        for (int32_t m : {0, 1, 3, 4, 7, 10}) {
          const Multiplier f(form, m);
          for (int32_t binades : {3, 70})
            if (!run(shape, f, binades, binades > 3)) {
              printf("%s: form %d, m %d, binades %d, %lld channels, linear %d\n", level.c_str(),
                     form, m, binades, (long long)shape.channels, shape.linear);
              failures++;
            }
        }
  }
  printf("%s: %d failures\n", levels.c_str(), failures);
  return failures != 0;
}
