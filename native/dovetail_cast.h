// The casts of the native core: tensors rounded to number formats. See dovetail.h for the rest.
#pragma once
#include "dovetail.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dv_mode {
  DV_TIES_TO_EVEN,
  DV_TIES_TO_AWAY,
  DV_TOWARD_ZERO,
  DV_TOWARD_POSITIVE,
  DV_TOWARD_NEGATIVE,
  DV_TO_ODD,
  DV_STOCHASTIC,
  DV_MODES
} dv_mode;

typedef enum dv_dtype { DV_FLOAT32, DV_FLOAT64, DV_FLOAT16, DV_BFLOAT16 } dv_dtype;

// What a cast says beside its result. With `clip` a value is inside if rounding it to nearest stays
// within the format's finite range; without, if it is finite. Blocks that are not finite throughout
// hold none. `inside` gets a byte per value, 1 or 0; `counts` [3] is increased by the numbers of
// finite values outside, infinities and NaN; either may be null.
typedef struct dv_report {
  uint8_t* inside;
  int64_t* counts;
  int32_t clip;
  double low, high; // of elements, relative to their block's scale; unused by integers
} dv_report;

// A contiguous tensor [outer, length, inner] and its cast, which may be the same memory. Blocks
// run along `length`. Element i in row-major order takes word i & 3 of Philox counter i >> 2.
typedef struct dv_tensor {
  const void* x;
  void* out;
  int64_t outer, length, inner;
  int32_t dtype;
  uint64_t seed;
  const dv_report* report; // null: none
} dv_tensor;

// A floating or fixed-point format. Arrays hold positive and negative side, as signed values.
typedef struct dv_element {
  int32_t mode, random_bits;
  int32_t mantissa; // bits; -1: as many as the value has (fixed point)
  int32_t quantum;  // exponent of the smallest step
  int32_t bias;     // without mantissa bits: exponent + bias odd is an odd code
  int32_t is_signed, negative_zero;
  int32_t clamp_negative; // negative values become `least`
  double max[2], over[2], infinite[2];
  double flush; // smaller magnitudes are zero before rounding (0: none)
  double least; // smaller results become this (0: none)
} dv_element;

// A step function of float32 numbers: x becomes the value of the last of `count` ascending keys
// that is not above x. A key is a number's bits, the lower 31 of them inverted if it is negative,
// so that keys are ordered as signed integers; key[0] is that of -infinity. `find` [2^(32 - shift)]
// holds, for each leading part of a key (its sign inverted), the last key not above the part's
// least; fewer than 2^halvings further keys lie within any part. Keys and values are followed by
// 2^halvings more, those keys INT32_MAX.
typedef struct dv_steps {
  const int32_t* key;
  const float* value;
  const int32_t* find;
  int32_t count, shift, halvings;
} dv_steps;

// Posits: 3 to 16 bits, 0 to 3 of them exponent bits; any mode but the stochastic one.
typedef struct dv_posit {
  int32_t mode, width, es;
} dv_posit;

// A format that repeats in every octave. With m the 23 mantissa bits of a float32 magnitude and i
// the first `bits` (3 to 12) of them, its mantissa becomes above[i] if m >= threshold[i], else
// below[i]; 2^23 is the next power of two. Arrays have 2^bits entries, and at least 16. Magnitudes
// below `least` become zero, others `min` at least and `max` at most; negative ones zero if
// unsigned.
typedef struct dv_octaves {
  const int32_t *threshold, *below, *above;
  int32_t bits, is_signed;
  float least, min, max;
} dv_octaves;

typedef enum dv_scale_mode { DV_FLOOR, DV_CEIL, DV_EVEN, DV_RCEIL } dv_scale_mode;

// Blocks that share a power of two.
typedef struct dv_blocks {
  int64_t block;
  int32_t mode;          // dv_scale_mode
  int32_t emax;          // of the element
  int32_t mantissa_bits; // of the element, for DV_EVEN
  int32_t low, high;     // the range of the exponent
} dv_blocks;

// Blocks that share a rounded scale. With `two_level` (NVFP4, not step functions) the scale is
// relative to `global`.
typedef struct dv_scaled {
  int64_t block;
  float largest_element;
  int32_t two_level;
  float global;
} dv_scaled;

// Integer codes and what scale covers a range: max(|low|, |high|) / qmax, or high / qmax if
// unsigned, or with a zero point (high - low) / (qmax - qmin); `po2`: the next power of two.
// `mode` is how quotients x / scale are rounded; ranges do not depend on it.
typedef struct dv_integers {
  int32_t mode, random_bits;
  int32_t qmin, qmax;
  int32_t affine, is_signed, po2; // how scales follow from ranges
} dv_integers;

DV_EXPORT int32_t dv_cast_element(const dv_tensor*, const dv_element*);
DV_EXPORT int32_t dv_cast_posit(const dv_tensor*, const dv_posit*);
DV_EXPORT int32_t dv_cast_octaves(const dv_tensor*, const dv_octaves*);
DV_EXPORT int32_t dv_cast_steps(const dv_tensor*, const dv_steps*);
DV_EXPORT int32_t dv_cast_blocks(const dv_tensor*, const dv_element*, const dv_blocks*);
// The elements are `element`, or the step function if that is not null; the scale is `scale`.
DV_EXPORT int32_t dv_cast_scaled(const dv_tensor*, const dv_element* element, const dv_steps*,
                                 const dv_element* scale, const dv_scaled*);
// The largest finite magnitude among blocks without NaN and infinity.
DV_EXPORT int32_t dv_largest(const dv_tensor*, int64_t block, double* out);
// The smallest and largest value per index of `length`; what is not finite counts as 0. Not empty.
DV_EXPORT int32_t dv_extremes(const dv_tensor*, float* low, float* high);
// (clamp(round(x / scale) + zero_point) - zero_point) * scale, one pair per index of `length`
// (`channels` of them) or one in all; float32.
DV_EXPORT int32_t dv_cast_affine(const dv_tensor*, int64_t channels, const float* scale,
                                 const int32_t* zero_point, const dv_integers*);
// table[code - qmin] instead, times the scale if `scaled`; float32, ties to even only.
DV_EXPORT int32_t dv_cast_lookup(const dv_tensor*, int64_t channels, const float* scale,
                                 const int32_t* zero_point, const dv_integers*, const float* table,
                                 int32_t scaled);
// As dv_cast_affine, each run of `block` values along `length` with the scale and zero point that
// its own finite values ask for.
DV_EXPORT int32_t dv_cast_integers(const dv_tensor*, int64_t block, const dv_integers*);

#ifdef __cplusplus
}
#endif
