// Row-add whose lanes are the input's pixels, so that a table built for one channel serves every
// tap of a convolution.
#include "core/dispatch.h"
#include "core/part.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <string.h>

namespace dv {

namespace {

thread_local Scratch memory;

// What one tap does to the pixels of an image: where it moves them, and which stay inside.
struct Move {
  int64_t by[3];

  Move(const Layout& l, int64_t tap) {
    const dv_shape& s = l.shape;
    const int64_t at[3] = {tap / s.kernel[2] / s.kernel[1], tap / s.kernel[2] % s.kernel[1],
                           tap % s.kernel[2]};
    for (int i = 0; i < 3; i++)
      by[i] = s.low[i] - at[i] * s.dilation[i];
  }

  // In the order of the input's pixels.
  int64_t distance(const Layout& l) const {
    return (by[0] * l.shape.in[1] + by[1]) * l.shape.in[2] + by[2];
  }

  // Whether the input pixel serves an output, and whether an output reads an input pixel.
  bool serves(const Layout& l, const int64_t pixel[3]) const { return inside(l.out, pixel, 1); }
  bool reads(const Layout& l, const int64_t out[3]) const { return inside(l.shape.in, out, -1); }

private:
  bool inside(const int64_t* size, const int64_t at[3], int64_t sign) const {
    for (int i = 0; i < 3; i++)
      if (at[i] + sign * by[i] < 0 || at[i] + sign * by[i] >= size[i])
        return false;
    return true;
  }
};

// Calls body(z, y, x as an array, index) over all positions of a box.
template <typename Body> void each_position(const int64_t size[3], Body&& body) {
  int64_t at[3], index = 0;
  for (at[0] = 0; at[0] < size[0]; at[0]++)
    for (at[1] = 0; at[1] < size[1]; at[1]++)
      for (at[2] = 0; at[2] < size[2]; at[2]++)
        body(at, index++);
}

} // namespace

// What each output's sum starts from: `start` per tap, or the products of the padding where the tap
// reads that. The sums lie as the input's pixels do.
void Part::start_sums(int64_t group, int64_t from, int64_t to, int32_t start, int32_t* sum,
                      int64_t stride) const {
  const int32_t* product = static_cast<const Table*>(multiplier.table)->row + 256 * pad;
  const dv_shape& shape = l.shape;
  std::vector<Move> moves;
  for (int64_t t = 0; t < l.taps; t++)
    moves.emplace_back(l, t);
  const int64_t rows = to - from;
  std::vector<uint32_t> padding((size_t)(l.taps * rows), 0); // sums over channels of f(pad, w)
  for (int64_t k = 0; k < l.depth; k++) {
    const uint8_t* code = weights(group) + k * l.packed_outputs + from;
    uint32_t* tap = padding.data() + k / l.group_channels * rows;
    for (int64_t n = 0; n < rows; n++)
      tap[n] += (uint32_t)product[code[n]];
  }
  for (int64_t n = 0; n < rows; n++) {
    int32_t* row = sum + n * stride;
    each_position(l.out, [&](const int64_t at[3], int64_t) {
      uint32_t value = 0;
      for (int64_t t = 0; t < l.taps; t++)
        value += moves[(size_t)t].reads(l, at) ? (uint32_t)start : padding[(size_t)(t * rows + n)];
      row[(at[0] * shape.in[1] + at[1]) * shape.in[2] + at[2]] = (int32_t)value;
    });
    for (int64_t b = 1; b < image.batch; b++)
      memcpy(row + b * l.in_pixels, row, (size_t)l.in_pixels * sizeof(int32_t));
  }
}

// Lanes are the input's pixels, codes the weights of all outputs. The P of a channel then serves
// every tap: a tap moves all pixels by the same distance, and a mask drops those it moves out of
// their image. What the taps read of the padding is in the sums from the start.
bool Part::add_inputs() const {
  const Kernels& k = kernels();
  const dv_shape& shape = l.shape;
  const int64_t all = image.batch * l.in_pixels, lane_blocks = blocks(all, k.add_lanes);
  const int64_t words = blocks(all, 32) + 1;
  std::vector<int64_t> distances;
  std::vector<uint32_t> masks((size_t)(l.taps * words), 0);
  for (int64_t t = 0; t < l.taps; t++) {
    const Move move(l, t);
    distances.push_back(move.distance(l));
    each_position(shape.in, [&](const int64_t at[3], int64_t pixel) {
      if (move.serves(l, at))
        for (int64_t b = 0; b < image.batch; b++) {
          const int64_t lane = b * l.in_pixels + pixel;
          masks[(size_t)(t * words + lane / 32)] |= 1u << (lane % 32);
        }
    });
  }
  std::vector<int32_t> places;
  for (int64_t b = 0; b < image.batch; b++)
    each_position(shape.in, [&](const int64_t at[3], int64_t) {
      int64_t place = b;
      for (int i = 0; i < 3; i++)
        place = place * l.axes[i].pitch + at[i] + shape.low[i];
      places.push_back((int32_t)place);
    });
  places.resize((size_t)(lane_blocks * k.add_lanes), places.back());

  // Room for what a tap moves out on either side.
  const auto range = std::minmax_element(distances.begin(), distances.end());
  const int64_t before = std::max<int64_t>(0, -*range.first);
  const int64_t after = std::max<int64_t>(0, *range.second);
  const int64_t stride = (blocks(before + lane_blocks * k.add_lanes + after, 16) | 1) * 16;
  const int64_t tile = tile_rows(l.group_outputs, stride * 4, 1 << 20, shape.groups, 64);
  const int64_t tiles = blocks(l.group_outputs, tile);
  const auto image_offset = image_offsets(false), weight_offset = weight_offsets();
  std::atomic<bool> enough{true};
  parallel(shape.groups * tiles, [&](int64_t begin, int64_t end) {
    int32_t* room = reinterpret_cast<int32_t*>(memory.take(tile * stride * 4));
    if (!room) {
      enough = false;
      return;
    }
    int32_t* sum = room + before;
    for (int64_t task = begin; task < end; task++) {
      const int64_t from = task % tiles * tile, to = std::min(from + tile, l.group_outputs);
      const int64_t g = task / tiles;
      Lookup s = lookup(g, false);
      s.row_offset = weight_offset.data();
      s.lane_offset = image_offset.data();
      s.lane_place = places.data();
      s.lane_mask = masks.data();
      s.mask_words = words;
      s.depth = l.group_channels;
      s.taps = l.taps;
      s.out_shift = distances.data();
      s.out_stride = stride;
      memset(room, 0, (size_t)((to - from) * stride) * sizeof(int32_t));
      start_sums(g, from, to, s.start(), sum, stride);
      const Run rows = {from, 0, to - from};
      for (int64_t lane = 0; lane < lane_blocks * k.add_lanes; lane += k.add_lanes)
        k.add(s, lane, &rows, 1, sum + lane);
      for (int64_t row = 0; row < image.batch * l.out[0] * l.out[1]; row++) {
        const int64_t y = row % l.out[1], z = row / l.out[1] % l.out[0],
                      b = row / l.out[1] / l.out[0];
        const int64_t at = ((b * shape.in[0] + z) * shape.in[1] + y) * shape.in[2];
        emit.channel_rows(sum + at, stride, g * l.group_outputs + from, to - from, row * l.out[2],
                          l.out[2]);
      }
    }
  });
  return enough;
}

} // namespace dv
