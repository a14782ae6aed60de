// Approximated functions of one variable, softmax and the normalisations, row by row.
#include "kernels/function.h"

#include "core/dispatch.h"
#include "core/plane.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <math.h>
#include <string.h>

namespace dv {

DV_LEVELS(FunctionKernels, function_kernels);

namespace {

constexpr int64_t AT_ONCE = 1024; // numbers of one variable, and at least of a share of rows
constexpr int64_t LONGEST = INT64_C(1) << 32; // of rows

int64_t padded(int64_t n) { return (n + PAD - 1) / PAD * PAD; }

bool valid(const dv_rounding& r) {
  const bool steps = r.least > 0 && r.low <= r.high && r.high - r.low < r.least * 0x1p50;
  const bool bits = r.mantissa >= 1 && r.mantissa <= 51 && r.least >= 0x1p-1022 &&
                    r.high >= r.least && r.high < 0x1p900;
  return r.kind == DV_KEPT || r.kind == DV_SINGLE || (r.kind == DV_FLOATING && bits) ||
         (r.kind == DV_STEPPED && steps);
}

bool valid(const dv_unit& u) {
  if (u.kind < 0 || u.kind >= DV_UNITS || !valid(u.rounding))
    return false;
  if (u.kind == DV_NEWTON)
    return u.steps >= 0 && (u.order == 1 || u.order == 2) && u.rounding.mantissa >= 1 &&
           u.rounding.mantissa <= 51 && u.rounding.least >= 0x1p-1022;
  if (u.kind >= DV_NEWTON)
    return true;
  int64_t reach = 16;
  while (reach < u.count)
    reach *= 2;
  return u.rows && u.count >= 1 && u.count <= 1 << 20 && u.degree >= 0 && u.degree <= 64 &&
         u.pitch >= reach && u.pitch % 16 == 0 &&
         (u.kind != DV_MANTISSA || u.order == 1 || u.order == 2);
}

// The kernels of one call's operations, on buffers.
struct Steps {
  const FunctionKernels& k = *function_kernels_levels[level()];
  const dv_rounding& rounding;

  void operator()(Combination how, const double* x, double s, int64_t n, double* out) const {
    k.combine[how][rounding.kind](rounding, x, nullptr, s, n, out);
  }
  void operator()(Combination how, const double* x, const double* y, int64_t n, double* out) const {
    k.combine[how][rounding.kind](rounding, x, y, 0, n, out);
  }
  double round(double x) const {
    double one[PAD] = {x};
    (*this)(ALONE, one, 0.0, PAD, one);
    return one[0];
  }
  // A unit's results, rounded.
  void value(const dv_unit& u, const double* x, int64_t n, double* out) const {
    k.value[u.kind][u.rounding.kind](u, x, n, out);
    if (memcmp(&u.rounding, &rounding, sizeof rounding))
      (*this)(ALONE, out, 0.0, n, out);
  }
  double value(const dv_unit& u, double x) const {
    double one[PAD] = {x};
    value(u, one, PAD, one);
    return one[0];
  }
};

// Rows as doubles, and back; what pads a row is its first number.
struct Rows {
  const void* x;
  void* out;
  int64_t n, wide;
  const FunctionKernels& k = *function_kernels_levels[level()];

  void load(int64_t row, double* to) const {
    if (wide)
      memcpy(to, static_cast<const double*>(x) + row * n, (size_t)n * sizeof *to);
    else
      k.widen(static_cast<const float*>(x) + row * n, n, to);
    std::fill(to + n, to + padded(n), to[0]);
  }
  void store(int64_t row, const double* from) const {
    if (wide)
      memcpy(static_cast<double*>(out) + row * n, from, (size_t)n * sizeof *from);
    else
      k.narrow(from, n, static_cast<float*>(out) + row * n);
  }
};

// Calls work(row, buffer) for all rows, with `buffers` rows of scratch; false without memory.
template <typename Work> bool each_row(int64_t rows, int64_t n, int64_t buffers, Work&& work) {
  const int64_t share = std::max<int64_t>(1, 8 * AT_ONCE / std::max<int64_t>(n, 1));
  std::atomic<bool> all{true};
  parallel((rows + share - 1) / share, [&](int64_t begin, int64_t end) {
    thread_local Scratch scratch;
    const ExactFloats exact;
    double* buffer =
        reinterpret_cast<double*>(scratch.take(buffers * padded(n) * (int64_t)sizeof(double)));
    if (!buffer) {
      all = false;
      return;
    }
    for (int64_t row = begin * share; row < std::min(end * share, rows); row++)
      work(row, buffer);
  });
  return all;
}

void softmax_row(const dv_softmax& f, const Rows& rows, int64_t row, double* buffer) {
  const Steps steps{rows.k, f.rounding};
  const int64_t n = rows.n, size = padded(n);
  double *x = buffer, *z = x + size, *e = z + size, *other = e + size;
  rows.load(row, x);
  double least, largest;
  steps.k.extremes(x, size, &least, &largest);
  if (!isfinite(largest)) {
    std::fill(x, x + n, NAN);
    return rows.store(row, x);
  }
  steps(LESS, x, f.keeps ? 0.0 : largest, size, z);
  if (f.clamp > -INFINITY)
    steps.k.raise(z, f.clamp, size);
  steps.value(f.exp, z, size, e);
  if (least <= f.hidden)
    steps.k.hide(x, z, largest > f.hidden ? f.hidden : -INFINITY, size, e);
  memcpy(z, e, (size_t)size * sizeof *z);
  const double total = steps.k.sum[f.sums.kind](f.sums, z, n, other);
  if (f.divides)
    steps(OVER, e, total, size, e);
  else
    steps(TIMES, e, steps.value(f.reciprocal, total), size, e);
  rows.store(row, e);
}

void norm_row(const dv_norm& f, const Rows& rows, int64_t row, double* buffer) {
  const Steps steps{rows.k, f.rounding};
  const int64_t n = rows.n, size = padded(n);
  double *x = buffer, *d = x + size, *squares = d + size, *other = squares + size;
  auto mean = [&](double* values) {
    return steps.round(steps.k.sum[f.sums.kind](f.sums, values, n, other) / (double)n);
  };
  rows.load(row, x);
  steps(TIMES, x, f.scale, size, x);
  double middle = 0;
  if (f.centred) {
    memcpy(d, x, (size_t)size * sizeof *d);
    middle = mean(d);
    steps(LESS, x, middle, size, d);
  } else {
    std::swap(d, x);
  }
  const bool moments = f.centred && f.moments;
  steps(SQUARE, moments ? x : d, 0.0, size, squares);
  double variance = mean(squares);
  if (moments) {
    variance = steps.round(variance - steps.round(middle * middle));
    variance = variance < 0 ? 0 : variance;
  }
  const double root = steps.value(f.rsqrt, steps.round(variance + f.eps));
  steps(TIMES, d, root, size, d);
  if (f.weight)
    steps(EACH_TIMES, d, f.weight, size, d);
  if (f.bias)
    steps(EACH_PLUS, d, f.bias, size, d);
  rows.store(row, d);
}

} // namespace
} // namespace dv

using namespace dv;

int32_t dv_unary(const dv_unit* u, const void* x, int64_t n, int32_t wide, void* out) {
  if (n < 0)
    return DV_BAD_SHAPE;
  if (!valid(*u))
    return DV_BAD_VALUE;
  const FunctionKernels& k = *function_kernels_levels[level()];
  constexpr int64_t SHARE = 16;
  const int64_t pieces = (n + AT_ONCE - 1) / AT_ONCE;
  parallel((pieces + SHARE - 1) / SHARE, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    double buffer[AT_ONCE];
    for (int64_t i = begin * SHARE; i < std::min(end * SHARE, pieces); i++) {
      const int64_t at = i * AT_ONCE, count = std::min(AT_ONCE, n - at), bytes = wide ? 8 : 4;
      const Rows piece{static_cast<const uint8_t*>(x) + at * bytes,
                       static_cast<uint8_t*>(out) + at * bytes, count, wide, k};
      piece.load(0, buffer);
      k.value[u->kind][u->rounding.kind](*u, buffer, padded(count), buffer);
      piece.store(0, buffer);
    }
  });
  return DV_OK;
}

int32_t dv_softmax_rows(const dv_softmax* f, const void* x, int64_t rows, int64_t n, int32_t wide,
                        void* out) {
  if (rows < 0 || n < 1 || n > LONGEST)
    return DV_BAD_SHAPE;
  if (!valid(f->exp) || !valid(f->rounding) || !valid(f->sums) ||
      (!f->divides && !valid(f->reciprocal)))
    return DV_BAD_VALUE;
  const Rows all{x, out, n, wide};
  return each_row(rows, n, 4,
                  [&](int64_t row, double* buffer) { softmax_row(*f, all, row, buffer); })
             ? DV_OK
             : DV_NO_MEMORY;
}

int32_t dv_norm_rows(const dv_norm* f, const void* x, int64_t rows, int64_t n, int32_t wide,
                     void* out) {
  if (rows < 0 || n < 1 || n > LONGEST)
    return DV_BAD_SHAPE;
  if (!valid(f->rsqrt) || !valid(f->rounding) || !valid(f->sums))
    return DV_BAD_VALUE;
  const Rows all{x, out, n, wide};
  return each_row(rows, n, 4, [&](int64_t row, double* buffer) { norm_row(*f, all, row, buffer); })
             ? DV_OK
             : DV_NO_MEMORY;
}
