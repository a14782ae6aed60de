// Products of two block formats: elements that share a scale in runs along the channels.
// See dovetail.h for the rest of the interface, dv_shape and the meaning of an op among it.
//
//   y = sum of terms in float32, taps outermost, then blocks, each added with one rounding, where
//   term = float32(dot of two blocks), the exact sum of the products of their values.
//
// A padded pixel is a block of zeros. A block that holds NaN or an infinity is NaN. Where the
// blocks of one operand are a multiple of the other's, dots end with the shorter ones.
#pragma once
#include "dovetail.h"

#ifdef __cplusplus
extern "C" {
#endif

// How the scale S of a block follows from the largest magnitude `a` in it:
enum {
  DV_SCALE_POWER,     // 2^s, s as `mode` says; code = round(x / S)
  DV_SCALE_QUOTIENT,  // round(a / largest); code = round(x / S); where S is 0, all of it is
  DV_SCALE_TWO_LEVEL, // round(min(max(a / largest / whole, 2^-6), 448)); code = round(x * (1 /
                      // whole / S))
  DV_SCALE_NONE,      // 1: values are cast already
};

// How float32 values become codes: x ~ code * 2^quantum * S.
typedef struct dv_block_format {
  int64_t block;
  int32_t scale;     // DV_SCALE_...
  int32_t mode;      // 0 FLOOR, 1 CEIL, 2 EVEN, 3 RCEIL
  int32_t emax;      // of the element format
  int32_t even_bits; // its mantissa bits, for EVEN
  int32_t digits;    // bits behind a code's leading one that rounding keeps; 22: all
  int32_t quantum;   // exponent of one unit of the code, -22..0
  int32_t low, high; // the range of s
  int32_t split;     // low bits of a code that are multiplied apart; 0: none
  int32_t scale_digits, scale_quantum; // mantissa bits of S, exponent of its smallest step
  float scale_flush, scale_most;       // what is smaller becomes 0, its largest value
  float whole;                         // the scale of the tensor, of which S is a part
  double least, most;                  // the range of codes
  double largest;                      // element
} dv_block_format;

// What is multiplied. Magnitudes and bits are those of either operand.
typedef struct dv_block_codes {
  int64_t block;      // of dots
  double most;        // magnitude of a code
  int32_t digits;     // its bits from the first one to the last
  int32_t scale_bits; // those of a scale: 1 for powers of two
  int32_t few;        // rows are so few that reading the weights takes longer than multiplying
  int32_t values;     // nonzero: multiply numbers, whatever their codes
  int32_t split;      // nonzero: of rows that are split (see dv_block_format)
} dv_block_codes;

// x [rows, length] by blocks along `length`, the last of them shorter: codes [rows, length], and
// the scales 2^quantum * S [rows, blocks], NaN for a block that is NaN and 1 for one of zeros.
// Rounds to nearest, ties to even.
DV_EXPORT int32_t dv_block_quantize(const float* x, int64_t rows, int64_t length,
                                    const dv_block_format*, float* codes, float* scales);

// Weights in the order of the kernels of the level in use: codes [outputs, taps, channels / groups]
// and scales [outputs, taps, blocks].
//
// All sums of products of two codes, times the significands of both scales, must be below 2^53 (one
// of whose operands is split: of either part of it).
DV_EXPORT int64_t dv_block_packed_bytes(const dv_shape*, const dv_block_codes*);
DV_EXPORT int32_t dv_block_pack(const dv_shape*, const dv_block_codes*, const float* codes,
                                const float* scales, void* out);

// x [batch, channels, spatial] (linear: [batch, channels], of any number of groups) is rounded to
// the format, whose blocks are a multiple of the dots', and multiplied.
// The sums are multiplied by `factor`, then `bias` (null: none) is added. DV_BAD_LEVEL if another
// level packed the weights, DV_BAD_VALUE if they were packed for other blocks, smaller codes or
// scales.
DV_EXPORT int32_t dv_block_run(const dv_shape*, const dv_block_format*, const void* packed,
                               const float* x, const float* bias, float factor, float* out);

#ifdef __cplusplus
}
#endif
