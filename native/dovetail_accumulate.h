// Multiply-accumulate ops whose sums pass through a register step by step.
// See dovetail.h for the rest of the interface, dv_shape and the meaning of an op among it.
//
// The products of one output come in order of k = (channel, taps in row-major order). Runs of
// `chunk` of them are summed wide into terms; the terms are added in an order, each addition
// through the register. Bit-equal to dovetail/accumulators/reference.py.
#pragma once
#include "dovetail_cast.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dv_source {
  DV_CODES,  // bytes, recoded, multiplied as integers
  DV_LOOKUP, // bytes, looked up in a table
  DV_VALUES, // float32 numbers
} dv_source;

typedef struct dv_products {
  int32_t source;
  int32_t first_signed, second_signed; // what a byte means once recoded
  const uint8_t* first;                // [256], recodes the input's bytes; null: as they are
  const uint8_t* second;               // likewise the weights'
  const void* table;                   // what dv_prepare_table wrote
  int64_t bound;                       // no integer product's magnitude is above it
} dv_products;

typedef enum dv_register {
  DV_WRAP, // 8 to 64 bits; takes part only where overflows are counted
  DV_SATURATE,
  DV_LOA, // approximate adders of 8 to 62 bits
  DV_TRUNCATED,
  DV_ETA,
  DV_FLOATING
} dv_register;

typedef enum dv_order { DV_SEQUENTIAL, DV_TREE, DV_RUNS } dv_order;

// Formats that have a way of their own: IEEE float32, float16 and bfloat16, rounded to nearest,
// overflowing to infinity.
typedef enum dv_known { DV_OTHER, DV_SINGLE, DV_HALF, DV_BRAIN } dv_known;

typedef struct dv_accumulator {
  int32_t kind;      // dv_register
  int32_t bits, low; // of integer registers: width, and that of an adder's approximate part
  int32_t order;     // dv_order
  int64_t run;       // terms per run
  int64_t chunk;     // products per term; 0: each by itself
  int32_t known;     // dv_known
  double min, max;   // of a floating-point register
  dv_element format; // likewise
} dv_accumulator;

// Where results go. Registers of at most 32 bits: int32 or float32 in `sums`, or finished as
// dv_output says. Wider ones, `wide`: the lower and upper halves of int64 or float64.
typedef struct dv_totals {
  dv_output sums;
  int32_t wide;
  int32_t* upper;     // of wide ones
  int32_t* overflows; // per output, how many sums were beyond the register; null: not counted
} dv_totals;

// Weights: codes as dv_pack takes them, or float32 numbers in the same order.
DV_EXPORT int64_t dv_accumulate_packed_bytes(const dv_shape*, int32_t source);
DV_EXPORT int32_t dv_accumulate_pack(const dv_shape*, const dv_products*, const void* weights,
                                     void* out);

// `input` as dv_run takes it; of DV_VALUES, `data` are float32 numbers and padding is zero.
DV_EXPORT int32_t dv_accumulate_run(const dv_shape*, const dv_products*, const dv_accumulator*,
                                    const void* packed, const dv_input* input, const dv_totals*);

#ifdef __cplusplus
}
#endif
