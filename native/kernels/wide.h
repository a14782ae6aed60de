// What one instruction-set level offers for products of wide operands.
#pragma once
#include "dovetail_wide.h"

#include <stdint.h>

namespace dv {

// A tile of outputs: some rows by one stretch of lanes. Both operands lie in units of four bytes,
// two 16-bit factors or one word; rows broadcast a unit, lanes lie next to each other.
struct WideTile {
  const uint8_t* rows;
  int64_t row_stride; // bytes
  const uint8_t* lanes;
  int64_t lane_step; // bytes from unit to unit
  // Segments are summed one after the other, those of equal shifts in the same 32 bits.
  const int64_t *row_offset, *lane_offset; // bytes
  const int32_t* shift;
  int64_t segments, units; // units per segment
  int64_t chunk;           // units whose sums the kernel's 32 bits hold
  uint32_t low;
};

struct WideForm {
  int64_t rows; // of a whole tile
  // Fills `rows` rows at least of out [form rows][lanes], reading as many.
  void (*tile)(const WideTile&, int64_t rows, int64_t* out);
};

constexpr int64_t WIDE_LAWS = 5;
// Of sums in 32 bits: whole products, or both halves apart of signed and of unsigned products.
enum WideSums { WIDE_WHOLE, WIDE_HALVES, WIDE_UNSIGNED_HALVES, WIDE_SUMS };
// At most this many halves of 16 bits are summed in 32.
constexpr int64_t WIDE_HALVES_CHUNK = 32768;

struct WideKernels {
  const char* name;
  int64_t lanes;
  WideForm forms[WIDE_LAWS][WIDE_SUMS];
  // float(sum + start) * scale + bias (null: none), three separately rounded steps, over a stretch
  // of one output channel or of many.
  void (*finish_channel)(const int64_t* sum, int64_t n, int64_t start, float scale,
                         const float* bias, float* out);
  void (*finish_channels)(const int64_t* sum, int64_t n, const int64_t* start, const float* scale,
                          const float* bias, float* out);
};

// Lanes of the widest level: what packed panels are made of.
constexpr int64_t WIDE_PANEL = 32;
constexpr int64_t WIDE_ROWS = 12;

} // namespace dv
