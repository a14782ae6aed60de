// Products of two block formats: integers that share a power of two in runs along the channels.
// See dovetail.h for the rest of the interface, dv_shape and the meaning of an op among it.
//
//   y = sum of terms in float32, taps outermost, then blocks, each added with one rounding, where
//   term = float32(dot * 2^(e_x + e_w)), dot the exact sum of a block's products of integers.
//
// A padded pixel is a block of zeros. A block that holds NaN or an infinity is NaN.
#pragma once
#include "dovetail.h"

#ifdef __cplusplus
extern "C" {
#endif

// How float32 values become integers `code` and a scale exponent s: x ~ code * 2^(s + quantum).
typedef struct dv_block_format {
  int64_t block;
  int32_t mode;        // of the scale: 0 FLOOR, 1 CEIL, 2 EVEN, 3 RCEIL
  int32_t emax;        // of the element format
  int32_t even_bits;   // its mantissa bits, for EVEN
  int32_t digits;      // bits behind a code's leading one that rounding keeps; 22: all
  int32_t quantum;     // exponent of one unit of the code, -22..0
  int32_t low, high;   // the range of s
  int32_t least, most; // the range of codes
  double largest;      // element, for RCEIL
} dv_block_format;

// A block that is NaN has this for an exponent.
#define DV_BLOCK_NAN INT32_MIN

// x [rows, length] by blocks along `length`, the last of them shorter: codes [rows, length] and
// s + quantum [rows, blocks]. Rounds to nearest, ties to even.
DV_EXPORT int32_t dv_block_quantize(const float* x, int64_t rows, int64_t length,
                                    const dv_block_format*, int16_t* codes, int32_t* exponents);

// Weights in the order of the kernels of the level in use: codes [outputs, taps, channels /
// groups] and exponents [outputs, taps, blocks]. `most` bounds the codes of both operands, and
// `digits` their bits from the first one to the last. `few`: rows are so few at a time that reading
// the weights takes longer than multiplying them.
DV_EXPORT int64_t dv_block_packed_bytes(const dv_shape*, int64_t block, int32_t most,
                                        int32_t digits, int32_t few);
DV_EXPORT int32_t dv_block_pack(const dv_shape*, int64_t block, int32_t most, int32_t digits,
                                int32_t few, const int16_t* codes, const int32_t* exponents,
                                void* out);

// x [batch, channels, spatial] (linear: [batch, channels], of any number of groups) is rounded to
// the format and multiplied.
// `bias` (null: none) is added last. DV_BAD_LEVEL if another level packed the weights, DV_BAD_VALUE
// if they were packed for other blocks or smaller codes.
DV_EXPORT int32_t dv_block_run(const dv_shape*, const dv_block_format*, const void* packed,
                               const float* x, const float* bias, float* out);

#ifdef __cplusplus
}
#endif
