// Where everything lies: the padded code image, its taps, the valid output pixels, the weights.
//
// The image of one plane is flat. Output pixel o of image b has a place p in it, and tap t of that
// output reads place p + tap[t]: a convolution is a matrix product whose operand is read at
// shifted places, so nothing is copied per tap. Rows share their horizontal padding (the right
// padding of one row is the left padding of the next), images their vertical padding. A stride
// splits each dimension into phases (places of equal remainder), each a plane of its own, in which
// neighbouring outputs are neighbours again.
#pragma once
#include "dovetail.h"
#include "kernels/kernels.h"

#include <array>
#include <memory>
#include <vector>

namespace dv {

// Outputs per panel of a linear layer's factored weights: a multiple of every level's dot_lanes.
constexpr int64_t PANEL = 96;
// Outputs that share a note of which of their factors are all zero.
constexpr int64_t OCCUPIED = 16;

struct Axis {
  int64_t pitch = 1;          // places of one phase
  int64_t phases = 1;         // phases some tap reads
  std::vector<int64_t> index; // phase -> its number among those, or -1

  Axis(const dv_shape& s, int axis, int64_t out);
};

struct Layout {
  const dv_shape& shape;
  int64_t out[3], out_pixels, in_pixels, taps;
  // Of the packed weights, which may hold taps that this op leaves out: how many they have, and
  // which of them each tap is.
  int64_t weight_taps;
  std::vector<int64_t> weight_tap;
  int64_t group_channels, group_outputs, depth; // depth = K: products per output
  bool by_factors;                              // dot kernels; otherwise table kernels
  std::vector<Axis> axes;
  int64_t phase_size;

  explicit Layout(const dv_shape& s) : Layout(s, s, {0, 0, 0}) {}
  // Of an op that leaves out taps of `packed`: those before `first` in each dimension, and behind.
  Layout(const dv_shape& s, const dv_shape& packed, std::array<int64_t, 3> first);

  // Places of `batch` images, the overhang of the last taps included.
  int64_t places(int64_t batch) const;
  std::vector<int64_t> tap_offsets(int64_t batch) const;
  int64_t place(int64_t image, int64_t pixel) const; // of an output pixel
  std::vector<Run> runs(int64_t batch) const;        // all valid outputs, longest stretches
  // Of each place the output element of the first channel, -1 where there is none.
  std::vector<int64_t> targets(int64_t batch) const;

  // Packed weights: two int32 per output (sum of codes, what is taken off the dot kernels' sums),
  // for each output that of each tap, then per group the operand. Factored: rows
  // [outputs][taps][quads][4] for convolutions; for linear layers panels [outputs /
  // PANEL][quads][PANEL][4], so that what a block reads is one stretch of memory. Behind them the
  // lookups' operand: codes [outputs][taps][class_quads][4] for convolutions, panels of class bytes
  // for linear layers. Table: planes [tap, channel][outputs]. At the end, for every OCCUPIED
  // outputs, tap and step of quads, whether any factor is not zero.
  int64_t quads, quad_step, packed_outputs, factor_bytes, class_quads, class_bytes, group_bytes;
  int64_t steps() const { return quads / quad_step; } // of one tap
  int64_t occupied(int64_t group) const { return packed_group(group) + factor_bytes + class_bytes; }
  int64_t packed_bytes() const;
  int64_t packed_group(int64_t group) const { return header() + group * group_bytes; }
  int64_t panel_bytes() const { return quads * PANEL * 4; }
  int64_t class_panel_bytes() const { return class_quads * PANEL * 4; }
  int64_t header() const { return (shape.outputs * (8 + 4 * tap_notes()) + 63) / 64 * 64; }
  int64_t tap_notes() const { return by_factors && !shape.linear ? weight_taps : 0; }
};

// Only products of blocks know the groups of a linear layer.
bool valid(const dv_shape& s, bool grouped_linear = false);

// The same op without the outer taps that read padding for every output, as in small images;
// `first` becomes the first tap that is left in each dimension.
dv_shape without_idle_taps(const dv_shape& s, std::array<int64_t, 3>& first);

// Whether the multiplier has the exact form that a shape of this rank and these lookups needs.
bool complete(const dv_shape& s, const dv_multiplier& m);

// What a lookup's lanes hold for channel k: which of the quad's 64 entries.
inline uint8_t class_byte(uint8_t of_code, int64_t k) { return (uint8_t)(k % 4 * 16 | of_code); }

} // namespace dv
