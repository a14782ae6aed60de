// What one instruction-set level offers for floating-point multipliers.
//
// Every level computes the same bits: each output's products are exact in float32, or rounded to
// it once, and are added one after the other in order of k.
#pragma once
#include "dovetail_float.h"

#include <stdint.h>

namespace dv {

// A tile of outputs: some rows by one panel of lanes. Operands are words (see `encode`).
struct FloatTile {
  const uint32_t* rows; // [row][k]
  const float* keep;    // likewise, of logarithms: 0 for zeros, else 1
  int64_t row_stride;
  const uint32_t* lanes;
  const int64_t* lane_at; // [k]: where the lanes of k start
  int64_t depth;
  const dv_float_mul* mul;
};

// The same with the operands as they were, for exponents that words do not hold.
struct FloatTileFar {
  const float* rows;
  int64_t row_stride;
  const float* lanes;
  const int64_t* lane_at;
  int64_t depth;
  const dv_float_mul* mul;
};

// ExponentSpan of the leading ones that occur. Zeros have none, though logarithms take a row's for
// 1; what has no normal exponent is beyond both ends.
struct ExponentSpan {
  static constexpr int32_t NONE = 1 << 20, BEYOND = 1 << 24;
  int32_t least = NONE, most = -NONE;

  void add(const ExponentSpan& e) {
    least = e.least < least ? e.least : least;
    most = e.most > most ? e.most : most;
  }
};

struct FloatForm {
  int64_t rows; // of a tile
  // out [rows][lanes]
  void (*tile)(const FloatTile&, int64_t rows, float* out);
};

enum { FLOAT_VALUES, FLOAT_LOGARITHMS, FLOAT_TABLE, FLOAT_SMALL_TABLE, FLOAT_FORMS };

struct FloatKernels {
  const char* name;
  int64_t lanes;
  int32_t small_mantissa; // up to which a table is small
  FloatForm forms[FLOAT_FORMS];
  void (*far)(const FloatTileFar&, int64_t rows, float* out);
  // Words of one side, and of rows of logarithms what to keep (else null).
  void (*encode)(const dv_float_mul&, bool rows, const float* x, int64_t n, uint32_t* words,
                 float* keep, ExponentSpan*);
};

} // namespace dv
