// Row-add whose lanes are the input's pixels, so that a table built for one channel serves every
// tap of a convolution.
#include "core/dispatch.h"
#include "core/part.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <math.h>
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

// Outputs of one image that read padding, in the input's pixels, and the taps that do.
struct Part::Border {
  int64_t at;
  std::vector<int64_t> taps;
};

std::vector<Part::Border> Part::borders() const {
  std::vector<Move> moves;
  for (int64_t t = 0; t < l.taps; t++)
    moves.emplace_back(l, t);
  std::vector<Border> found;
  each_position(l.out, [&](const int64_t at[3], int64_t) {
    Border b = {(at[0] * l.shape.in[1] + at[1]) * l.shape.in[2] + at[2], {}};
    for (int64_t t = 0; t < l.taps; t++)
      if (!moves[(size_t)t].reads(l, at))
        b.taps.push_back(t);
    if (!b.taps.empty())
      found.push_back(b);
  });
  return found;
}

// What the sums of the outputs from..to start from: `start` per tap, or the products of the padding
// where the tap reads that. The sums lie as the input's pixels do, those first..last of all images.
void Part::start_sums(const std::vector<Border>& borders, int64_t group, int64_t from, int64_t to,
                      int32_t start, int64_t first, int64_t last, int32_t* sum,
                      int64_t stride) const {
  const int32_t* product = static_cast<const Table*>(multiplier.table)->row + 256 * pad;
  const int64_t rows = to - from;
  std::vector<uint32_t> padding((size_t)(l.taps * rows), 0); // sums over channels of f(pad, w)
  for (int64_t k = 0; !borders.empty() && k < l.depth; k++) {
    const uint8_t* code = weights(group) + k * l.packed_outputs + from;
    uint32_t* tap = padding.data() + k / l.group_channels * rows;
    for (int64_t n = 0; n < rows; n++)
      tap[n] += (uint32_t)product[code[n]];
  }
  const uint32_t whole = (uint32_t)l.taps * (uint32_t)start;
  for (int64_t n = 0; n < rows; n++) {
    int32_t* row = sum + n * stride;
    std::fill(row, row + (last - first), (int32_t)whole);
    for (int64_t b = first / l.in_pixels; b * l.in_pixels < last; b++)
      for (const Border& border : borders) {
        const int64_t at = b * l.in_pixels + border.at;
        if (at < first || at >= last)
          continue;
        uint32_t value = whole;
        for (const int64_t t : border.taps)
          value += padding[(size_t)(t * rows + n)] - (uint32_t)start;
        row[at - first] = (int32_t)value;
      }
  }
}

// Parts of the pixels and tiles of the outputs, so that the busiest of the threads works the least.
// A part builds P for the pixels beside it, too, that its taps reach; a tile builds all of P again.
Part::Shares Part::shares(int64_t before, int64_t after) const {
  const int64_t threads = thread_count(), width = kernels().add_lanes;
  const int64_t all = image.batch * l.in_pixels;
  const int64_t pixel_rows = image.batch * l.shape.in[0] * l.shape.in[1];
  Shares best = {};
  double least = HUGE_VAL;
  for (int64_t parts = 1; parts <= (threads == 1 ? 1 : std::min(pixel_rows, 4 * threads));
       parts++) {
    // From a multiple of 32 lanes on; the first and the last part have pixels on one side alone.
    const int64_t reach = parts > 2 ? before + after : std::max(before, after);
    const int64_t beside = parts == 1 ? 0 : reach + 31;
    const int64_t lanes =
        blocks(std::min(all, blocks(pixel_rows, parts) * l.shape.in[2] + beside), width);
    const int64_t stride = (blocks(before + lanes * width + after, 16) | 1) * 16;
    const int64_t fit = std::max<int64_t>(64, (1 << 20) / (stride * 4));
    const int64_t most =
        std::max(blocks(l.group_outputs, fit), std::min(4 * threads, l.group_outputs));
    for (int64_t tiles = blocks(l.group_outputs, fit); tiles <= most; tiles++) {
      const int64_t rows = blocks(l.group_outputs, tiles);
      const int64_t tasks = l.shape.groups * parts * blocks(l.group_outputs, rows);
      const double each = (double)lanes * (BUILD + UNALIGNED * (double)(rows * l.taps));
      const double time = (double)blocks(tasks, threads) * each;
      if (time < least) {
        least = time;
        best = {parts, rows, stride};
      }
      if (threads == 1)
        break;
    }
  }
  return best;
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

  // A part sums what belongs to some rows of pixels, from lanes that begin at a multiple of 32 and
  // reach as far beside them as a tap moves; what is moved further finds room, and is left there.
  const auto range = std::minmax_element(distances.begin(), distances.end());
  const int64_t before = std::max<int64_t>(0, -*range.first);
  const int64_t after = std::max<int64_t>(0, *range.second);
  const Shares share = shares(before, after);
  const int64_t parts = share.parts, stride = share.stride, tile = share.rows;
  const int64_t pixel_rows = image.batch * shape.in[0] * shape.in[1];
  const int64_t tiles = blocks(l.group_outputs, tile);
  const auto image_offset = image_offsets(false), weight_offset = weight_offsets();
  const auto border = borders();
  std::atomic<bool> enough{true};
  parallel(shape.groups * tiles * parts, [&](int64_t begin, int64_t end) {
    int32_t* room = reinterpret_cast<int32_t*>(memory.take(tile * stride * 4));
    if (!room) {
      enough = false;
      return;
    }
    for (int64_t task = begin; task < end; task++) {
      const int64_t part = task % parts, from = task / parts % tiles * tile;
      const int64_t to = std::min(from + tile, l.group_outputs), g = task / parts / tiles;
      const int64_t top = pixel_rows * part / parts, bottom = pixel_rows * (part + 1) / parts;
      const int64_t first = top * shape.in[2], last = bottom * shape.in[2];
      const int64_t lane0 = std::max<int64_t>(0, first - after) / 32 * 32;
      const int64_t lane1 = std::min(all, last + before);
      int32_t* sum = room + before; // of the pixel lane0
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
      start_sums(border, g, from, to, s.start(), first, last, sum + (first - lane0), stride);
      const Run rows = {from, 0, to - from};
      for (int64_t lane = lane0; lane < lane1; lane += k.add_lanes)
        k.add(s, lane, &rows, 1, sum + (lane - lane0));
      for (int64_t row = top; row < bottom; row++) {
        const int64_t y = row % shape.in[1], z = row / shape.in[1] % shape.in[0];
        const int64_t b = row / shape.in[1] / shape.in[0];
        if (y < l.out[1] && z < l.out[0])
          emit.channel_rows(sum + (row * shape.in[2] - lane0), stride, g * l.group_outputs + from,
                            to - from, ((b * l.out[0] + z) * l.out[1] + y) * l.out[2], l.out[2]);
      }
    }
  });
  return enough;
}

} // namespace dv
