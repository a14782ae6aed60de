// Approximated functions: float64 arithmetic, every result rounded to the intermediate format, the
// last one to the tensor's dtype. See dovetail.h for the rest.
#pragma once
#include "dovetail.h"

#ifdef __cplusplus
extern "C" {
#endif

// What an intermediate result is rounded to, to nearest, ties to even.
typedef enum dv_rounding_kind {
  DV_KEPT,     // float64, as it is
  DV_SINGLE,   // float32
  DV_FLOATING, // `mantissa` (1 to 51) bits, `least` the smallest normal number, gradual underflow;
               // beyond `high` lies `over`, and infinities become `infinite` (with their signs)
  DV_STEPPED,  // multiples of `least` between `low` and `high`, fewer than 2^50 of them; no -0
  DV_ROUNDINGS
} dv_rounding_kind;

typedef struct dv_rounding {
  int32_t kind, mantissa;
  double least, low, high, over, infinite;
} dv_rounding;

// How a function of one variable is computed.
typedef enum dv_unit_kind {
  DV_DIRECT,       // pieces between `low` and `high`; below, `left`; above, `right` (order 1: x)
  DV_GATE,         // pieces of |x| up to `high`, then 1; below zero 1 - gate (order & 1: -gate);
                   // times x if order & 2
  DV_EXPONENTIAL,  // 2^k times the pieces of x log2(e) - k
  DV_MANTISSA,     // x^(-1 / order) by the pieces of the mantissa, from 1 to 2^order
  DV_TURN,         // a quarter of a sine wave; `order` quarters are added
  DV_NEWTON,       // x^(-1 / order): magic[0] less the pattern, then `steps` steps
  DV_INTEGER_ROOT, // 1 / sqrt(x): magic[0]^2 units to 1, the root rounded down
  DV_INTEGER_GELU, // I-BERT's: magic = 1 / unit, b, c, floor(1 / a), factor
  DV_INTEGER_EXP,  // magic = 1 / unit, period, b, c, factor
  DV_ROOT,         // 1 / sqrt(x) itself
  DV_UNITS
} dv_unit_kind;

// `rows` [3 + degree][pitch]: where pieces start and end, and the coefficients of the powers of
// what lies beyond the start, each padded with NaN to `pitch`: a multiple of 16, at least twice the
// largest power of two below `count`. With `steepness` (0: none) the piece of t is the integer next
// to (t - first) * steepness - 1, within 0..count - 1, or the next one.
typedef struct dv_unit {
  int32_t kind, order, steps;
  int32_t count, degree;
  int64_t pitch;
  const double* rows;
  double first, steepness;
  double low, high, left, right;
  double magic[5];
  dv_rounding rounding;
} dv_unit;

typedef struct dv_softmax {
  dv_unit exp, reciprocal;
  int32_t divides; // instead of multiplying with the reciprocal
  int32_t keeps;   // the largest is not subtracted
  double clamp;    // -infinity: not clamped
  double hidden;   // half the lowest number of the dtype
  dv_rounding rounding, sums;
} dv_softmax;

typedef struct dv_norm {
  dv_unit rsqrt;
  int32_t centred; // 0: RMS
  int32_t moments; // the variance as E[x^2] - E[x]^2
  double scale, eps;
  const double* weight; // [n], rounded; null: none
  const double* bias;
  dv_rounding rounding, sums;
} dv_norm;

// Contiguous tensors of float32, or of float64 (`wide`); `out` may be `x`.
DV_EXPORT int32_t dv_unary(const dv_unit*, const void* x, int64_t n, int32_t wide, void* out);
DV_EXPORT int32_t dv_softmax_rows(const dv_softmax*, const void* x, int64_t rows, int64_t n,
                                  int32_t wide, void* out);
DV_EXPORT int32_t dv_norm_rows(const dv_norm*, const void* x, int64_t rows, int64_t n, int32_t wide,
                               void* out);

#ifdef __cplusplus
}
#endif
