// Approximated functions on buffers of the exact size, on every level, so that the sanitizers see
// any read or write outside them; every level gives the bits of the first one.
#include "dovetail_function.h"
#include "support.h"

#include <math.h>
#include <string.h>
#include <vector>

namespace {

const dv_rounding ROUNDINGS[] = {
    {DV_KEPT, 0, 0, 0, 0, 0, 0},
    {DV_SINGLE, 23, 0x1p-126, -0x1.fffffep127, 0x1.fffffep127, INFINITY, INFINITY},
    {DV_FLOATING, 10, 0x1p-14, -65504, 65504, INFINITY, INFINITY},
    {DV_STEPPED, 0, 0x1p-12, -8, 8 - 0x1p-12, 0, 0},
};

// `count` lines from 0 to 1, padded as the core wants them.
struct Unit {
  std::vector<double> rows;
  dv_unit unit{};

  Unit(int32_t kind, int32_t order, int32_t count, int32_t degree, bool even,
       const dv_rounding& rounding) {
    int64_t pitch = 16;
    while (pitch < count)
      pitch *= 2;
    rows.assign((size_t)(pitch * (3 + degree)), NAN);
    for (int32_t i = 0; i < count; i++) {
      rows[(size_t)i] = (double)i / count;
      if (i + 1 < count)
        rows[(size_t)(pitch + i)] = (double)(i + 1) / count;
      for (int32_t power = 0; power <= degree; power++)
        rows[(size_t)((2 + power) * pitch + i)] = 1.0 / (1 + i + power);
    }
    unit.kind = kind;
    unit.order = order;
    unit.steps = 2;
    unit.count = count;
    unit.degree = degree;
    unit.pitch = pitch;
    unit.rows = rows.data();
    unit.steepness = even ? count : 0;
    unit.high = 1;
    const double magic[5] = {256, 177, 346, 62874, 1e-5};
    memcpy(unit.magic, magic, sizeof magic);
    if (kind == DV_NEWTON)
      unit.magic[0] = rounding.mantissa == 10 ? 0x59BE : 0x5F3759DF;
    unit.rounding = rounding;
  }
};

template <typename Float> std::vector<Float> numbers(int64_t n) {
  std::vector<Float> x((size_t)n);
  for (Float& v : x) {
    v = (Float)ldexp(uniform(-9999, 9999), uniform(-40, 4));
    const int32_t kind = uniform(0, 60);
    v = kind == 0 ? (Float)INFINITY : kind == 1 ? -(Float)INFINITY : kind == 2 ? (Float)NAN : v;
    v = kind == 3 ? (Float)-0.0 : kind == 4 ? (Float)1e-310 : v;
  }
  return x;
}

template <typename Float> bool alike(const std::vector<Float>& a, const std::vector<Float>& b) {
  for (size_t i = 0; i < a.size(); i++)
    if (memcmp(&a[i], &b[i], sizeof a[i]) && !(a[i] != a[i] && b[i] != b[i]))
      return false;
  return true;
}

int failures = 0;

// A function of n numbers on every level.
template <typename Float, typename Run>
void compare(const char* what, int64_t n, int32_t detail, Run&& run) { // run(x, out)
  const auto x = numbers<Float>(n);
  std::vector<Float> first, y(x.size());
  each_level([&] {
    const bool ran = run(x.data(), y.data()) == DV_OK;
    if (first.empty())
      first = y;
    if (!ran || !alike(first, y)) {
      printf("%s: %s %d, %d numbers\n", dv_level(), what, detail, (int)n);
      failures++;
    }
  });
}

template <typename Float> void every(const dv_rounding& r) {
  constexpr int32_t wide = sizeof(Float) == 8;
  for (int32_t kind = 0; kind < DV_UNITS; kind++) {
    if (kind == DV_NEWTON && r.kind != DV_SINGLE && r.kind != DV_FLOATING)
      continue;
    for (int32_t count : {1, 2, 7, 8, 9, 16, 17, 40})
      for (int32_t degree = 0; degree < 3; degree++)
        for (int32_t order = 1; order < 3; order++) {
          const Unit u(kind, order, count, degree, uniform(0, 1), r);
          const int64_t n = uniform(1, 50);
          compare<Float>("unit", n, kind, [&](const Float* x, Float* y) {
            return dv_unary(&u.unit, x, n, wide, y);
          });
        }
  }
}

template <typename Float> void rows_of(const dv_rounding& r, const dv_rounding& sums) {
  constexpr int32_t wide = sizeof(Float) == 8;
  const Unit exp(DV_EXPONENTIAL, 1, 1, 2, true, r), other(DV_MANTISSA, 1, 9, 1, false, r);
  const Unit root(DV_MANTISSA, 2, 20, 1, true, r);
  for (int64_t n : {1, 2, 3, 7, 8, 9, 33, 1030}) {
    const int64_t count = n < 100 ? 5 : 11;
    for (int32_t flag = 0; flag < 4; flag++) {
      const double clamp = flag & 1 ? -4 : -INFINITY;
      const dv_softmax f = {exp.unit, other.unit, flag & 1, flag >> 1, clamp, -0x1p126, r, sums};
      compare<Float>("softmax", count * n, flag, [&](const Float* x, Float* y) {
        return dv_softmax_rows(&f, x, count, n, wide, y);
      });
      const std::vector<double> affine((size_t)((n + 7) / 8 * 8), 0.75);
      const double* weight = flag & 1 ? affine.data() : nullptr;
      const dv_norm g = {root.unit, flag & 1, flag >> 1, 0.5, 1e-5, weight, weight, r, sums};
      compare<Float>("norm", count * n, flag, [&](const Float* x, Float* y) {
        return dv_norm_rows(&g, x, count, n, wide, y);
      });
    }
  }
}

} // namespace

int main() {
  for (const dv_rounding& r : ROUNDINGS) {
    every<float>(r);
    every<double>(r);
    for (const dv_rounding& sums : ROUNDINGS) {
      rows_of<float>(r, sums);
      rows_of<double>(r, sums);
    }
  }
  return conclude(failures);
}
