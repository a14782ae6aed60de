// Products of operands of up to 16 bits, summed exactly in 64 bits.
// See dovetail.h for the rest of the interface, dv_shape and the meaning of an op among it.
//
// A multiplier is two tables, indexed by the operands' codes, of words that the kernels combine:
// 16-bit factors whose products are summed, or one 32-bit word per operand from which a law of
// arithmetic makes the product.
#pragma once
#include "dovetail.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dv_wide_law {
  // The sum of products of int16 factors.
  DV_WIDE_FACTORS = 0,
  // Words are sign, exponent and fraction of a float32 less a bias: added as integers they are
  // sign, logarithm and power at once (Mitchell). The product is that float, its `low` bits set,
  // rounded towards zero.
  DV_WIDE_LOG = 1,
  // As above with a lower-part-OR adder: bits of `low` are ORed, and the highest of them carries.
  DV_WIDE_LOG_OR = 2,
  // Mitchell's product plus 5/64 of the product of the operands' leading ones.
  DV_WIDE_LOG_MEAN = 3,
  // Words are a sign (bit 31) and a magnitude: the error-tolerant multiplier split at bit `low`.
  DV_WIDE_ERROR_TOLERANT = 4,
} dv_wide_law;

// first[r] * second[s] * 2^shift; the factors of one segment are all of a product's for one shift.
typedef struct dv_wide_segment {
  int32_t first, second, shift;
} dv_wide_segment;

typedef struct dv_wide {
  int32_t law;
  int32_t first_bits, second_bits;   // 1 to 16; of a code only these bits are read
  int32_t first_words, second_words; // per code
  int32_t segments;
  const void* first;              // [2^first_bits][first_words]: int16 for factors, else uint32
  const void* second;             // [2^second_bits][second_words]
  const dv_wide_segment* segment; // by ascending shift; null for laws without factors
  const int64_t* constant;        // [2^second_bits]: added to every product; null: nothing
  uint32_t low;
  int32_t is_signed; // laws without factors: products may be negative
  int64_t most;      // a bound of their magnitude, below 2^31 if signed and 2^32 if not
} dv_wide;

// Weights: int16 codes [outputs, channels / groups, taps], the same at every level. DV_BAD_VALUE
// where two products of factors do not fit 32 bits.
DV_EXPORT int64_t dv_wide_packed_bytes(const dv_shape*, const dv_wide*);
DV_EXPORT int32_t dv_wide_pack(const dv_shape*, const dv_wide*, const int16_t* codes, void* out);

// The input holds float32 (kind 0) or int16 codes (kind 1); `pad` is a code. The result is int64,
// or float32 where `fused`, with the sum and its correction exact.
DV_EXPORT int32_t dv_wide_run(const dv_shape*, const dv_wide*, const void* packed, const dv_input*,
                              const dv_output*);

#ifdef __cplusplus
}
#endif
