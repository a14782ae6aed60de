// What one instruction-set level offers for products of block formats.
//
// Every level computes the same bits: a block's dot is exact, and each output's terms are added one
// after the other, each with one rounding.
#pragma once
#include "dovetail_block.h"

#include <stdint.h>

namespace dv {

// A tile of outputs: some rows (pixels) by one panel of lanes (output channels). Both operands lie
// in units of four bytes: four integers of a byte, two of 16 bits, two bfloat16, or half a double.
struct BlockDot {
  const uint8_t* rows;    // [row][block][unit]
  int64_t row_stride;     // bytes
  int64_t low;            // bytes from the high parts of a row's elements to the low ones; 0: none
  const float* row_scale; // [block][row]
  int64_t scale_step;     // floats from block to block
  const int64_t* tap;     // places that each tap moves the rows by
  const uint8_t* lanes;   // [tap][block][unit][lane]
  const float* scale;     // [tap][block][lane]
  const int32_t* start;   // likewise: what a dot starts from (see BlockForm)
  const float* bias;      // [lane], added last
  float factor;           // of the sums, before
  int64_t taps, blocks, units;
  bool biased; // dots start from BIASED
  bool far;    // some term needs double (see core/block.cpp)
};

// The bits of 1.5 * 2^23. A dot of magnitude up to 2^22 that starts from here is, read as a float,
// exactly that number plus the dot: no conversion is needed.
constexpr int32_t BIASED = 0x4b400000;
constexpr int64_t MOST_BIASED = 1 << 22;

enum class Elements { INTEGERS, FOLDED, VALUES };

// One way to multiply.
//
// Integers carry `offset` too much in rows, which a dot's start takes off again. Folded elements
// are bfloat16 numbers times their block's scale, where that lies within FOLD_LOW..FOLD_HIGH; the
// scale that is kept beside them is then 1.
//
// Values are doubles, whatever their scale. That of a row is 1, or 2 for a block with low parts
// that are not all zero (see dv_block_format::split).
struct BlockForm {
  int32_t width, offset; // bytes per element
  Elements elements;
  int32_t most, digits; // of a code: magnitude, and bits from its first one to its last
  int64_t bound;        // of a block's dot
  bool biased;          // dots may start from BIASED
  int64_t rows;         // of a tile
  int64_t unit_step;    // units per block are a multiple of a step of at most this size
  void (*begin)(int64_t units);
  void (*end)();
  // out: `rows` rows at least, of all lanes, `stride` floats apart. All NaNs are one NaN: their
  // signs and payloads depend on the order of operands, which compilers choose.
  void (*dot)(const BlockDot&, int64_t rows, float* out, int64_t stride);
};

// A product of folded elements (with scales of 7 bits at most), their sums (up to 2^24 units) and
// so every term are normal floats.
constexpr float FOLD_LOW = 0x1p-56f, FOLD_HIGH = 0x1p50f;

// Of one operand's rows.
struct BlockRow {
  int64_t dot, units; // elements and units of a dot
  int64_t low;        // as in BlockDot
};

struct BlockKernels {
  const char* name;
  int64_t lanes;
  const BlockForm* forms; // the fastest first; the last holds every format
  // One row, and the scales: NaN for a block that has no value (folded, values: the elements are
  // NaN), 1 for zeros. Scales of neighbouring dots lie `step` floats apart.
  void (*quantise)(const float* x, int64_t length, const dv_block_format&, const BlockForm&,
                   const BlockRow&, uint8_t* out, float* scale, int64_t step);
  void (*codes)(const float* x, int64_t length, const dv_block_format&, float* codes,
                float* scales);
  // Both sides' sizes are multiples of 4; strides are in floats.
  void (*turn)(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float* out,
               int64_t out_stride);
};

} // namespace dv
