// The casts' C interface on every level, with buffers of the exact size, so that the sanitizers see
// any read or write outside them. Results are compared with plain arithmetic in doubles.
#include "dovetail_cast.h"
#include "support.h"

#include <math.h>
#include <string.h>
#include <vector>

namespace {

int failures = 0;
void expect(bool right, const char* what) {
  if (!right) {
    printf("%s: %s differs\n", dv_level(), what);
    failures++;
  }
}

std::vector<float> values(size_t n) {
  std::vector<float> x(n);
  for (float& v : x)
    v = ldexpf((float)(int32_t)next(), (int)(next() >> 24) % 40 - 50);
  for (size_t i = 7; i < n; i += 31)
    x[i] = i % 3 ? 0.0f : -0.0f;
  return x;
}

dv_element float_format(int32_t mantissa, int32_t first, double max, int32_t mode) {
  dv_element e{};
  e.mode = mode;
  e.random_bits = mode == DV_STOCHASTIC ? 24 : 0;
  e.mantissa = mantissa;
  e.quantum = first - mantissa;
  e.bias = 1 - first;
  e.is_signed = e.negative_zero = 1;
  for (int side = 0; side < 2; side++)
    e.max[side] = e.over[side] = e.infinite[side] = side ? -max : max;
  return e;
}

// To nearest, ties to even.
double rounded(double x, int32_t mantissa, int32_t first, double max) {
  int exponent;
  frexp(x, &exponent);
  const int step = (exponent - 1 < first ? first : exponent - 1) - mantissa;
  const double y = ldexp(nearbyint(ldexp(x, -step)), step);
  return y > max ? max : y < -max ? -max : y;
}

void elements() {
  for (size_t n : {0, 1, 3, 17, 1024, 1029, 40001}) {
    const std::vector<float> x = values(n);
    std::vector<float> y(n);
    dv_tensor t = {x.data(), y.data(), 1, (int64_t)n, 1, DV_FLOAT32, 42, nullptr};
    for (int32_t mode = 0; mode < DV_MODES; mode++) {
      dv_element e = float_format(3, -6, 448, mode);
      expect(dv_cast_element(&t, &e) == DV_OK, "status");
      for (size_t i = 0; i < n && mode == DV_TIES_TO_EVEN; i++)
        expect(y[i] == (float)rounded(x[i], 3, -6, 448), "e4m3");
      e.mantissa = -1; // fixed point, without -0
      e.negative_zero = 0;
      expect(dv_cast_element(&t, &e) == DV_OK, "status");
      e.mantissa = 0; // only exponents, unsigned
      e.is_signed = 0;
      e.flush = 0.5;
      expect(dv_cast_element(&t, &e) == DV_OK, "status");
      e = float_format(5, -1000, 0x1p900, mode); // in doubles
      expect(dv_cast_element(&t, &e) == DV_OK, "status");
      std::vector<double> wide(x.begin(), x.end());
      dv_tensor d = {wide.data(), wide.data(), 1, (int64_t)n, 1, DV_FLOAT64, 42, nullptr};
      expect(dv_cast_element(&d, &e) == DV_OK, "status");
    }
    for (int32_t dtype : {DV_FLOAT16, DV_BFLOAT16}) {
      std::vector<uint16_t> half(n);
      for (uint16_t& h : half)
        h = (uint16_t)(next() >> 16);
      dv_tensor h = {half.data(), half.data(), 1, (int64_t)n, 1, dtype, 42, nullptr};
      const dv_element e = float_format(3, -6, 448, DV_STOCHASTIC);
      expect(dv_cast_element(&h, &e) == DV_OK, "status");
    }
  }
}

void blocks() {
  struct Shape {
    int64_t outer, length, inner;
  };
  const Shape shapes[] = {{3, 70, 1},    {1, 4100, 1}, {2, 9, 5},
                          {1, 70, 1030}, {5, 64, 1},   {1, 0, 4}};
  const dv_element scale = float_format(3, -6, 448, DV_TIES_TO_EVEN);
  for (const Shape& s : shapes)
    for (int64_t block : {1, 16, 33, 3000}) {
      const size_t n = (size_t)(s.outer * s.length * s.inner);
      std::vector<float> x = values(n);
      for (size_t i = 0; i < n; i += 5) // some blocks too small or too large for the fast way
        x[i] *= i % 3 ? 0x1p90f : 0x1p-90f;
      if (n > 40)
        x[40] = NAN;
      std::vector<float> y(n);
      const dv_tensor t = {x.data(), y.data(), s.outer, s.length, s.inner, DV_FLOAT32, 7, nullptr};
      for (int32_t mode : {DV_TIES_TO_EVEN, DV_STOCHASTIC}) {
        const dv_element e = float_format(1, 0, 6, mode);
        for (int32_t choice : {DV_FLOOR, DV_CEIL, DV_EVEN, DV_RCEIL}) {
          const dv_blocks b = {block, choice, 2, 1, -127, 127};
          expect(dv_cast_blocks(&t, &e, &b) == DV_OK, "status");
        }
        for (int32_t two_level : {0, 1}) {
          const dv_scaled b = {block, 6, two_level, 0.25f};
          expect(dv_cast_scaled(&t, &e, nullptr, &scale, &b) == DV_OK, "status");
        }
      }
      double largest;
      expect(dv_largest(&t, block, &largest) == DV_OK, "status");

      // Blocks along the last axis with the FLOOR scale, by the definition.
      const dv_element e = float_format(1, 0, 6, DV_TIES_TO_EVEN);
      const dv_blocks b = {block, DV_FLOOR, 2, 1, -127, 127};
      expect(dv_cast_blocks(&t, &e, &b) == DV_OK, "status");
      for (int64_t o = 0; s.inner == 1 && o < s.outer; o++)
        for (int64_t from = 0; from < s.length; from += block) {
          const int64_t at = o * s.length + from;
          const int64_t count = s.length - from < block ? s.length - from : block;
          double most = 0;
          bool finite = true;
          for (int64_t i = at; i < at + count; i++) {
            finite = finite && isfinite(x[(size_t)i]);
            most = fabs(x[(size_t)i]) > most ? fabs(x[(size_t)i]) : most;
          }
          int exponent = most > 0 ? ilogb(most) - 2 : -127;
          exponent = exponent < -127 ? -127 : exponent;
          for (int64_t i = at; i < at + count; i++) {
            const float got = y[(size_t)i];
            const double right = ldexp(rounded(ldexp(x[(size_t)i], -exponent), 1, 0, 6), exponent);
            expect(finite ? got == (float)right : isnan(got), "mxfp4");
          }
        }
    }
}

void posits_and_octaves() {
  for (size_t n : {0, 1, 15, 17, 1031}) {
    std::vector<float> x = values(n), y(n);
    for (size_t i = 0; i < n; i++)
      x[i] = i % 11 == 3 ? NAN : i % 7 == 5 ? -INFINITY : ldexpf(x[i], (int)(i % 30));
    const dv_tensor t = {x.data(), y.data(), 1, (int64_t)n, 1, DV_FLOAT32, 0, nullptr};
    for (int32_t width : {3, 8, 16})
      for (int32_t es : {0, 3})
        for (int32_t mode = 0; mode < DV_STOCHASTIC; mode++) {
          const dv_posit p = {mode, width, es};
          const double most = ldexp(1, (width - 2) << es);
          expect(dv_cast_posit(&t, &p) == DV_OK, "status");
          for (size_t i = 0; i < n; i++)
            expect(isnan(x[i]) ? isnan(y[i]) : fabs(y[i]) <= most && y[i] * x[i] >= 0, "posit");
        }
    // Powers of two: up from 1.5 on.
    for (int32_t bits : {3, 4, 5, 6, 7}) {
      std::vector<int32_t> least((size_t)(1 << bits) + 8), low(least.size()), high(least.size());
      for (size_t i = 0; i < least.size(); i++) {
        least[i] = 0x400000;
        low[i] = 0;
        high[i] = 0x800000;
      }
      const dv_octaves o = {least.data(), low.data(), high.data(), bits, 1, 0.25f, 0.5f, 64.0f};
      expect(dv_cast_octaves(&t, &o) == DV_OK, "status");
      for (size_t i = 0; i < n; i++) {
        double u = fabs(x[i]);
        u = u < 0.25 ? 0 : u > 64 ? 64 : u < 0.5 ? 0.5 : ldexp(1, ilogb(u / 0.75));
        expect(isnan(x[i]) ? isnan(y[i]) : y[i] == (float)copysign(u, x[i]), "octaves");
      }
    }
  }
  const dv_tensor t = {nullptr, nullptr, 1, 0, 1, DV_FLOAT32, 0, nullptr};
  const dv_posit wide = {0, 17, 1};
  expect(dv_cast_posit(&t, &wide) == DV_BAD_VALUE, "a posit too wide");
}

void steps_and_integers() {
  // Values 0..count-1 for x >= 1, 2, ...
  for (int32_t count : {2, 16, 17, 40, 300}) {
    const int32_t shift = 16;
    int32_t halvings = 0;
    while ((1 << halvings) <= count)
      halvings++;
    std::vector<int32_t> key(1, INT32_MIN), find;
    std::vector<float> value;
    for (int32_t i = 0; i < count + (1 << halvings); i++) {
      const float least = (float)i;
      int32_t bits;
      memcpy(&bits, &least, sizeof bits);
      if (i > 0)
        key.push_back(i < count ? bits : INT32_MAX);
      value.push_back(i < count ? (float)i : (float)(count - 1));
    }
    for (int64_t part = 0; part < 1 << (32 - shift); part++) {
      const int64_t least = part * (1 << shift) + INT32_MIN;
      int32_t place = 0;
      while (place + 1 < count && key[(size_t)place + 1] <= least)
        place++;
      find.push_back(place);
    }
    const dv_steps steps = {key.data(), value.data(), find.data(), count, shift, halvings};
    std::vector<float> x = values(1500), y(x.size());
    x[3] = NAN;
    x[4] = -NAN;
    const dv_tensor t = {x.data(), y.data(), 1, 1500, 1, DV_FLOAT32, 0, nullptr};
    expect(dv_cast_steps(&t, &steps) == DV_OK, "status");
    for (size_t i = 0; i < x.size(); i++) {
      const float top = (float)(count - 1), right = x[i] < 1 ? 0 : x[i] > top ? top : floorf(x[i]);
      expect(isnan(x[i]) ? isnan(y[i]) : y[i] == right, "steps");
    }
  }
  const std::vector<float> scale = {0.5f, 0.25f, 3.0f}, x = values(3 * 7 * 5);
  const std::vector<int32_t> zero = {0, 3, -2};
  std::vector<float> y(x.size());
  for (int64_t inner : {1, 7, 35}) {
    const dv_tensor t = {x.data(), y.data(), 35 / inner, 3, inner, DV_FLOAT32, 0, nullptr};
    for (int32_t mode = 0; mode < DV_MODES; mode++) {
      const dv_integers codes = {mode, mode == DV_STOCHASTIC ? 8 : 0, -8, 7, 1, 1, 0};
      expect(dv_cast_affine(&t, 3, scale.data(), zero.data(), &codes) == DV_OK, "status");
      for (size_t i = 0; i < x.size(); i++) {
        const size_t c = i / (size_t)inner % 3;
        const float q = x[i] / scale[c];
        const double inner_step = trunc((double)q);
        double step = mode == DV_TIES_TO_EVEN      ? nearbyint((double)q)
                      : mode == DV_TIES_TO_AWAY    ? round((double)q)
                      : mode == DV_TOWARD_ZERO     ? inner_step
                      : mode == DV_TOWARD_POSITIVE ? ceil((double)q)
                      : mode == DV_TOWARD_NEGATIVE ? floor((double)q)
                      : fmod(inner_step, 2) == 0 && inner_step != q
                          ? inner_step + copysign(1, (double)q)
                          : inner_step;
        if (mode == DV_STOCHASTIC) // one of the two next to it
          step = y[i] < q * scale[c] ? floor((double)q) : ceil((double)q);
        double code = step + zero[c];
        code = code < -8 ? -8 : code > 7 ? 7 : code;
        expect(y[i] == (float)(code - zero[c]) * scale[c], "affine");
      }
    }
    std::vector<float> table(16), z(x.size());
    for (size_t i = 0; i < 16; i++)
      table[i] = (float)(i * i) - 7;
    const dv_tensor u = {x.data(), z.data(), 35 / inner, 3, inner, DV_FLOAT32, 0, nullptr};
    const dv_integers nearest = {DV_TIES_TO_EVEN, 0, -8, 7, 1, 1, 0};
    expect(dv_cast_affine(&t, 3, scale.data(), zero.data(), &nearest) == DV_OK, "status");
    for (int32_t scaled : {0, 1}) {
      expect(dv_cast_lookup(&u, 3, scale.data(), zero.data(), &nearest, table.data(), scaled) ==
                 DV_OK,
             "status");
      for (size_t i = 0; i < x.size(); i++) {
        const size_t c = i / (size_t)inner % 3;
        const int32_t code = (int32_t)nearbyintf(y[i] / scale[c]) + zero[c];
        expect(z[i] == table[(size_t)(code + 8)] * (scaled ? scale[c] : 1.0f), "lookup");
      }
    }
  }
  const float bad = 0;
  const dv_integers codes = {DV_TIES_TO_EVEN, 0, -8, 7, 1, 1, 0};
  const dv_integers mode = {DV_MODES, 0, -8, 7, 1, 1, 0},
                    bits = {DV_STOCHASTIC, 25, -8, 7, 1, 1, 0};
  const dv_tensor t = {x.data(), y.data(), 1, 1, 1, DV_FLOAT32, 0, nullptr};
  expect(dv_cast_affine(&t, 1, &bad, zero.data(), &codes) == DV_BAD_VALUE, "a scale of zero");
  expect(dv_cast_affine(&t, 1, scale.data(), zero.data(), &mode) == DV_BAD_VALUE, "no such mode");
  expect(dv_cast_affine(&t, 1, scale.data(), zero.data(), &bits) == DV_BAD_VALUE, "random bits");
}

// Ranges, groups with scales of their own, and reports with buffers of the exact size.
void ranges_and_reports() {
  struct Shape {
    int64_t outer, length, inner;
  };
  const Shape shapes[] = {{1, 1, 40001}, {3, 70, 1}, {700, 3, 1}, {2, 9, 5}, {1, 2, 1030}};
  for (const Shape& s : shapes) {
    const size_t n = (size_t)(s.outer * s.length * s.inner);
    std::vector<float> x = values(n), y(n);
    x[n / 2] = NAN;
    x[n / 3] = -INFINITY;
    std::vector<float> low((size_t)s.length), high((size_t)s.length);
    dv_tensor t = {x.data(), y.data(), s.outer, s.length, s.inner, DV_FLOAT32, 0, nullptr};
    expect(dv_extremes(&t, low.data(), high.data()) == DV_OK, "status");
    for (int64_t l = 0; l < s.length; l++) {
      float least = INFINITY, most = -INFINITY;
      for (size_t i = 0; i < n; i++)
        if ((int64_t)i / s.inner % s.length == l) {
          const float v = isfinite(x[i]) ? x[i] : 0;
          least = v < least ? v : least;
          most = v > most ? v : most;
        }
      expect(low[(size_t)l] == least && high[(size_t)l] == most, "range");
    }
    for (int32_t affine : {0, 1})
      for (int64_t block : {1, 5, 16, 33, 3000}) {
        std::vector<uint8_t> inside(n, 7);
        int64_t counts[3] = {0, 0, 0};
        const dv_report report = {inside.data(), counts, 1, 0, 0};
        t.report = &report;
        for (int32_t mode = DV_MODES - 1; mode >= 0; mode--) {
          const dv_integers r = {
              mode, mode == DV_STOCHASTIC ? 24 : 0, affine ? -8 : -7, 7, affine, 1, 0};
          memset(counts, 0, sizeof counts);
          expect(dv_cast_integers(&t, block, &r) == DV_OK, "status");
          expect(counts[1] == 1 && counts[2] == 1, "counts");
        }
        for (size_t i = 0; i < n; i++)
          expect(inside[i] <= 1 && isfinite(y[i]), "integers in groups");
        const dv_element e = float_format(1, 0, 6, DV_TIES_TO_EVEN);
        const dv_report wide = {inside.data(), nullptr, 1, -7, 7};
        t.report = &wide;
        const dv_blocks b = {block, DV_FLOOR, 2, 1, -127, 127};
        expect(dv_cast_blocks(&t, &e, &b) == DV_OK, "status");
        const dv_element scale = float_format(3, -6, 448, DV_TIES_TO_EVEN);
        const dv_scaled real = {block, 6, affine, 0.25f};
        expect(dv_cast_scaled(&t, &e, nullptr, &scale, &real) == DV_OK, "status");
        const dv_report counted = {nullptr, counts, affine, -448, 448};
        t.report = &counted;
        expect(dv_cast_element(&t, &e) == DV_OK, "status");
        expect(counts[1] == 2 && counts[2] == 2, "counts");
        t.report = nullptr;
      }
  }
  const dv_integers none = {0, 0, -1, 0, 0, 1, 0};
  const dv_tensor t = {nullptr, nullptr, 1, 0, 1, DV_FLOAT32, 0, nullptr};
  expect(dv_cast_integers(&t, 1, &none) == DV_BAD_VALUE, "no positive code");
  expect(dv_extremes(&t, nullptr, nullptr) == DV_BAD_SHAPE, "the range of nothing");
}

} // namespace

int main() {
  each_level([] {
    elements();
    blocks();
    posits_and_octaves();
    steps_and_integers();
    ranges_and_reports();
  });
  return conclude(failures);
}
