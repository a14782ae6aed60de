// What one instruction-set level offers for products of block formats.
//
// Every level computes the same bits: dots of integers are exact, and each output's terms are
// added one after the other, without contraction.
#pragma once
#include "dovetail_block.h"

#include <stdint.h>

namespace dv {

// A tile of outputs: some rows (pixels) by one panel of lanes (output channels). Both operands lie
// in units of four bytes: four integers of a byte, or two of 16 bits.
struct BlockDot {
  const uint8_t* rows;    // [row][block][unit]
  int64_t row_stride;     // bytes
  const float* row_scale; // [block][row]
  int64_t scale_step;     // floats from block to block
  const int64_t* tap;     // places that each tap moves the rows by
  const uint8_t* lanes;   // [tap][block][unit][lane]
  const float* scale;     // [tap][block][lane]
  const int32_t* start;   // likewise: what the sum starts from, where rows carry 128 too much
  int64_t taps, blocks, units;
};

// One way to multiply: `width` bytes per integer, `offset` added to those of rows.
struct BlockForm {
  int32_t width, offset;
  int64_t rows;      // of a tile
  int64_t unit_step; // units per block are a multiple of a step of at most this size
  void (*begin)(int64_t units);
  void (*end)();
  // out [rows][lanes]. `far`: some product of scales is not a normal number.
  void (*dot)(const BlockDot&, int64_t rows, bool far, float* out);
};

struct BlockKernels {
  const char* name;
  int64_t lanes;
  BlockForm bytes, words; // for integers of at most 8, and of at most 16 bits
  // One row in blocks of `units`, and the scales: NaN for a block that has no value, 1 for zeros.
  // Scales of neighbouring blocks lie `step` floats apart.
  void (*quantise)(const float* x, int64_t length, const dv_block_format&, const BlockForm&,
                   int64_t units, uint8_t* out, float* scale, int64_t step);
  void (*codes)(const float* x, int64_t length, const dv_block_format&, int16_t* codes,
                int32_t* exponents);
};

} // namespace dv
