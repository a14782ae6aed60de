// What one instruction-set level offers for sums that pass through a register step by step.
//
// A tile is some rows by `lanes` lanes of outputs. One side of the products is read a lane's width
// at a time, the other is broadcast. Every level computes the same bits: each output's products
// come in the order of k, and every addition is defined exactly.
#pragma once
#include "kernels/kernels.h"

namespace dv {

// What a sum is held in.
enum Lane : int { I16, I32, I64, F32, F64, LANE_TYPES };

// Where products come from: bytes multiplied, bytes looked up, float32 numbers multiplied.
enum Source : int { CODES, TABLE, VALUES, SOURCES };

enum Adder : int {
  PLAIN,         // the exact sum, or that of the lanes' floating-point type
  SATURATE,      // clamped to least..most
  SATURATE_WORD, // of 16-bit lanes to all that they hold
  WRAP,          // modulo 2^bits
  LOA,
  TRUNCATED,
  ETA,
  HALF,      // to float16 from an exact sum
  HALF_ODD,  // to float16
  BRAIN_ODD, // to bfloat16
  ODD,       // the exact sum rounded to odd; it is rounded again, to fewer bits, elsewhere
  ADDERS
};

struct Register {
  int64_t least, most; // what it holds
  double min, max;     // likewise, of floating-point registers
  int32_t bits, low;   // width, and that of an adder's approximate part
};

struct Stream {
  // [k][rows of the type's tile]. CODES: int32 with the value in the low half and, for I16, again
  // in the high one; floats for F32, doubles for F64. TABLE: int32 codes. VALUES: as CODES.
  const void* rows;
  const uint8_t* lanes; // bytes, or floats
  const int64_t* lane_offset;
  int32_t lane_mask; // 255: bytes are unsigned; -1: signed
  // [row code][lane code]; the planes (see kernels.h) are null if the table is not narrow
  const int32_t* by_row;
  const uint8_t* by_row_planes;
  int32_t least;
  Register into;
};

struct AccumulateKernels {
  const char* name;
  int64_t lanes;            // of a tile
  int64_t rows[LANE_TYPES]; // of a tile
  // Adds the products first..last to sums [rows][lanes], of which only the first row is computed if
  // `rows` is 1. Null where a level does not offer the combination.
  void (*steps[SOURCES][LANE_TYPES][ADDERS])(const Stream&, int64_t first, int64_t last,
                                             int64_t rows, void* sums);
  // out[i] = a[i] + b[i]; n is a multiple of lanes, out may be either operand
  void (*add[LANE_TYPES][ADDERS])(const Register&, const void* a, const void* b, int64_t n,
                                  void* out);
  // count[i] += whether the exact sum is beyond the register
  void (*exceeds[LANE_TYPES])(const Register&, const void* a, const void* b, int64_t n,
                              int32_t* count);
  void (*convert[LANE_TYPES][LANE_TYPES])(const void* from, int64_t n, void* to);
};

} // namespace dv
