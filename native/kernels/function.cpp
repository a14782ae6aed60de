// Approximated functions. Compiled once per instruction-set level; DV_LEVEL names it (see
// CMakeLists.txt).
#include "kernels/function.h"

#include "kernels/bits.h"
#include "kernels/units.h"

#define DV_JOIN2(a, b) a##b
#define DV_JOIN(a, b) DV_JOIN2(a, b)
#define DV_STRING2(a) #a
#define DV_STRING(a) DV_STRING2(a)

namespace {

template <int HOW, typename R>
void combine(const dv_rounding& rounding, const double* x, const double* y, double s, int64_t n,
             double* out) {
  const R r(rounding);
  [[maybe_unused]] const double inverse = 1 / s;
  for (int64_t i = 0; i < n; i += WIDE) {
    const Doubles v = load(x + i);
    if constexpr (HOW == dv::LESS)
      store(out + i, r(v - s));
    else if constexpr (HOW == dv::TIMES)
      store(out + i, r(v * s));
    else if constexpr (HOW == dv::OVER)
      store(out + i, r(quotient(v, s, inverse)));
    else if constexpr (HOW == dv::EACH_TIMES)
      store(out + i, r(v * load(y + i)));
    else if constexpr (HOW == dv::EACH_PLUS)
      store(out + i, r(v + load(y + i)));
    else if constexpr (HOW == dv::SQUARE)
      store(out + i, r(v * v));
    else
      store(out + i, r(v));
  }
}

// Neighbours' sums. GCC shuffles whole vectors here.
inline void pairs(const double* __restrict x, int64_t n, double* __restrict out) {
  for (int64_t i = 0; i < n; i++)
    out[i] = x[2 * i] + x[2 * i + 1];
}

template <typename R> double sum(const dv_rounding& rounding, double* x, int64_t n, double* spare) {
  for (int64_t count = n; count > 1; count = (count + 1) / 2) {
    pairs(x, count / 2, spare);
    combine<dv::ALONE, R>(rounding, spare, nullptr, 0, count / 2, spare);
    if (count % 2)
      spare[count / 2] = x[count - 1];
    double* other = x;
    x = spare;
    spare = other;
  }
  return x[0];
}

struct Extremes {
  Doubles low = all(BEYOND), high = all(-BEYOND);
  Longs odd{};

  void add(Doubles v) {
    low = at_most(v, low);
    high = at_least(v, high);
    odd |= v != v;
  }
};

void extremes(const double* x, int64_t n, double* least, double* largest) {
  Extremes one, two; // side by side: each waits for itself
  int64_t i = 0;
  for (; i + 2 * WIDE <= n; i += 2 * WIDE) {
    one.add(load(x + i));
    two.add(load(x + i + WIDE));
  }
  if (i < n)
    one.add(load(x + i));
  const Doubles low = at_most(one.low, two.low), high = at_least(one.high, two.high);
  *least = low[0], *largest = high[0];
  for (int lane = 1; lane < WIDE; lane++) {
    *least = low[lane] < *least ? low[lane] : *least;
    *largest = high[lane] > *largest ? high[lane] : *largest;
  }
  if (any(one.odd | two.odd))
    *least = *largest = __builtin_nan("");
}

void raise(double* x, double least, int64_t n) {
  for (int64_t i = 0; i < n; i += WIDE)
    store(x + i, at_least(load(x + i), all(least)));
}

void hide(const double* x, const double* z, double hidden, int64_t n, double* out) {
  for (int64_t i = 0; i < n; i += WIDE) {
    const Doubles score = load(x + i), shown = load(z + i);
    const Longs far = (score <= hidden) & (shown == shown);
    store(out + i, far ? Doubles{} : load(out + i));
  }
}

void widen(const float* __restrict x, int64_t n, double* __restrict out) {
  for (int64_t i = 0; i < n; i++)
    out[i] = (double)x[i];
}

void narrow(const double* __restrict x, int64_t n, float* __restrict out) {
  for (int64_t i = 0; i < n; i++)
    out[i] = (float)x[i];
}

} // namespace

namespace dv {

#define DV_ROUNDED(f, what) {f<what, Kept>, f<what, Single>, f<what, Floating>, f<what, Stepped>}

extern const FunctionKernels DV_JOIN(function_kernels_, DV_LEVEL);
const FunctionKernels DV_JOIN(function_kernels_, DV_LEVEL) = {
    DV_STRING(DV_LEVEL),
    {DV_ROUNDED(value, DV_DIRECT), DV_ROUNDED(value, DV_GATE), DV_ROUNDED(value, DV_EXPONENTIAL),
     DV_ROUNDED(value, DV_MANTISSA), DV_ROUNDED(value, DV_TURN), DV_ROUNDED(value, DV_NEWTON),
     DV_ROUNDED(value, DV_INTEGER_ROOT), DV_ROUNDED(value, DV_INTEGER_GELU),
     DV_ROUNDED(value, DV_INTEGER_EXP), DV_ROUNDED(value, DV_ROOT)},
    {DV_ROUNDED(combine, LESS), DV_ROUNDED(combine, TIMES), DV_ROUNDED(combine, OVER),
     DV_ROUNDED(combine, EACH_TIMES), DV_ROUNDED(combine, EACH_PLUS), DV_ROUNDED(combine, SQUARE),
     DV_ROUNDED(combine, ALONE)},
    {sum<Kept>, sum<Single>, sum<Floating>, sum<Stepped>},
    extremes,
    raise,
    hide,
    widen,
    narrow,
};

} // namespace dv
