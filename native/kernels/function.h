// What one instruction-set level offers for approximated functions.
//
// Every level computes the same bits. Buffers of doubles hold a multiple of PAD numbers; loops read
// and write whole vectors of them, whatever lies behind the last number that counts.
#pragma once
#include "dovetail_function.h"

namespace dv {

constexpr int64_t PAD = 8;

enum Combination : int32_t {
  LESS,       // x - s
  TIMES,      // x * s
  OVER,       // x / s
  EACH_TIMES, // x * y
  EACH_PLUS,  // x + y
  SQUARE,     // x * x
  ALONE,      // x
  COMBINATIONS
};

struct FunctionKernels {
  const char* name;
  void (*value[DV_UNITS][DV_ROUNDINGS])(const dv_unit&, const double* x, int64_t n, double* out);
  // Each result rounded; `out` may be `x`.
  void (*combine[COMBINATIONS][DV_ROUNDINGS])(const dv_rounding&, const double* x, const double* y,
                                              double s, int64_t n, double* out);
  // The sum of neighbours in pairs, then of the sums in pairs, each rounded; `x` is lost, and
  // `spare` as long.
  double (*sum[DV_ROUNDINGS])(const dv_rounding&, double* x, int64_t n, double* spare);
  void (*extremes)(const double* x, int64_t n, double* least, double* largest); // NaN, if any
  void (*raise)(double* x, double least, int64_t n); // what lies below becomes `least`
  // Zeros where x <= hidden and z is a number.
  void (*hide)(const double* x, const double* z, double hidden, int64_t n, double* out);
  void (*widen)(const float* x, int64_t n, double* out);
  void (*narrow)(const double* x, int64_t n, float* out);
};

} // namespace dv
