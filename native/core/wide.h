// How wide operands lie in memory.
//
// A unit is four bytes: the factors of two channels, or the word of one. Convolutions broadcast
// weights and read activations as lanes, one plane per unit, at places that taps shift; linear
// layers broadcast activations and read panels of weights.
#pragma once
#include "core/layout.h"
#include "dovetail_wide.h"
#include "kernels/wide.h"

#include <vector>

namespace dv {

bool sound(const dv_wide&);

// The head of packed weights; `start` and `wsum` (int64 per output) follow, then the operand.
struct WideHead {
  int64_t chunk; // units whose sums fit 32 bits
  int64_t sums;  // a WideSums
};

struct WideLayout {
  const Layout& l;
  const dv_wide& m;
  bool factors;
  int64_t per_unit, units;     // channels of a unit; units of a group's channels
  int64_t row_bytes;           // of a broadcast operand's row
  int64_t panels, panel_bytes; // linear: weights
  std::vector<dv_wide_segment> segments;

  WideLayout(const Layout& layout, const dv_wide& multiplier);

  int64_t head_bytes() const {
    return ((int64_t)sizeof(WideHead) + l.shape.outputs * 16 + 63) / 64 * 64;
  }
  int64_t packed_bytes() const;
  // The place of a weight's unit, in bytes.
  int64_t unit_at(int64_t output, int64_t word, int64_t tap, int64_t unit) const;
};

} // namespace dv
