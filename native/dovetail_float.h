// Layers of a floating-point multiplier: exact signs and exponents, any product of significands.
// See dovetail.h for the rest of the interface, dv_shape and the meaning of an op among it.
//
//   y = float32(sum + bias), sum = float32(sum + f(a, w)) over k = (channel, tap), taps fastest,
//   f = float32((-1)^(s_a + s_w) * t(x_a, x_w) * 2^(e_a + e_w - 2m)), t integers below 2^24.
//
// Operands are float32 numbers of at most m fraction bits x; the bits below those are ignored. A
// padded pixel is a zero, and multiplied. Zeros, infinities and NaN multiply as they are.
#pragma once
#include "dovetail.h"

#ifdef __cplusplus
extern "C" {
#endif

// `rows` are a linear layer's inputs or a convolution's weights, `lanes` the other operand.
typedef struct dv_float_mul {
  int32_t form;       // what t is: 0 rows[x] * lanes[y], 1 logarithms added, 2 neither
  int32_t mantissa;   // m, 0..10
  int32_t offset;     // added to logarithms, in units of 2^-m, below 2^m
  int32_t bits;       // all t are below 2^bits, at most 24
  const float* rows;  // [2^m]; null for forms 1 and 2, as `lanes`
  const float* lanes; // [2^m]
  const float* table; // [1 + 2^m][1 + 2^m], t by (1 + x, 1 + y), the first row and column 1;
                      // 16 floats more can be read
} dv_float_mul;

// Weights [outputs, channels / groups, taps] in the order of the kernels of the level in use.
DV_EXPORT int64_t dv_float_packed_bytes(const dv_shape*, const dv_float_mul*);
DV_EXPORT int32_t dv_float_pack(const dv_shape*, const dv_float_mul*, const float* weights,
                                void* out);

// x [batch, channels, spatial] (linear: [batch, channels]) by the packed weights. `bias` (null:
// none) is added last; all NaNs are one NaN. DV_BAD_LEVEL if another level packed the weights.
DV_EXPORT int32_t dv_float_run(const dv_shape*, const dv_float_mul*, const void* packed,
                               const float* x, const float* bias, float* out);

#ifdef __cplusplus
}
#endif
