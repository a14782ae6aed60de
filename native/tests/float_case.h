// One layer of a floating-point multiplier against plain loops, with buffers of the exact size.
#pragma once
#include "dovetail_float.h"
#include "support.h"

#include <math.h>
#include <vector>

namespace {

// Numbers of m fraction bits, some of them zeros, infinities and NaN.
std::vector<float> fractions(size_t n, int32_t m, int32_t binades, bool special) {
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
struct FloatMul {
  std::vector<float> rows, lanes, table;
  dv_float_mul mul;

  FloatMul(int32_t form, int32_t m) {
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

bool float_case(const dv_shape& s, const FloatMul& f, int32_t binades, bool special) {
  const Loops loops(s);
  const int64_t depth = loops.channels * loops.taps;
  const int32_t m = f.mul.mantissa;
  const auto x = fractions(loops.inputs(), m, binades, special);
  const auto w = fractions(loops.weights(), m, binades, special);
  const auto bias = fractions((size_t)s.outputs, m, 0, false);
  std::vector<uint8_t> packed((size_t)dv_float_packed_bytes(&s, &f.mul));
  std::vector<float> y(loops.results());
  if (dv_float_pack(&s, &f.mul, w.data(), packed.data()) ||
      dv_float_run(&s, &f.mul, packed.data(), x.data(), bias.data(), y.data()))
    return false;
  for (size_t i = 0; i < y.size(); i++) {
    const int64_t n = loops.output(i);
    volatile float sum = 0;
    for (int64_t k = 0; k < depth; k++) {
      const int64_t at = loops.input(i, k);
      const float a = at < 0 ? 0.0f : x[(size_t)at], b = w[(size_t)(n * depth + k)];
      sum = sum + (s.linear ? f(a, b) : f(b, a));
    }
    sum = sum + bias[(size_t)n];
    if (!same(y[i], sum))
      return false;
  }
  return true;
}

} // namespace
