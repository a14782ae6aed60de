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

// Sums of a task: they stay in the second-level cache.
constexpr int64_t ROOM = 256 << 10;

} // namespace

// Offsets of all k = (tap, channel) in the image, or of the channels alone.
std::vector<int64_t> Part::image_offsets(bool each_tap) const {
  std::vector<int64_t> offsets;
  for (int64_t t = 0; t < (each_tap ? l.taps : 1); t++)
    for (int64_t c = 0; c < l.group_channels; c++)
      offsets.push_back(c * image.plane_bytes + (each_tap ? image.taps[(size_t)t] : 0));
  return offsets;
}

std::vector<int64_t> Part::weight_offsets() const {
  std::vector<int64_t> offsets;
  for (int64_t k = 0; k < l.depth; k++)
    offsets.push_back(k * l.packed_outputs);
  return offsets;
}

Lookup Part::lookup(int64_t group, bool lanes_are_weights) const {
  const Table& t = *static_cast<const Table*>(multiplier.table);
  Lookup s;
  memset(&s, 0, sizeof s);
  s.rows = lanes_are_weights ? image.group(group) : weights(group);
  s.lanes = lanes_are_weights ? weights(group) : image.group(group);
  s.depth = l.depth;
  s.by_lane = lanes_are_weights ? t.col : t.row;
  s.by_row = lanes_are_weights ? t.row : t.col;
  s.taps = 1;
  s.middle = t.middle;
  s.least = t.least;
  s.pairs = t.pairs;
  if (t.narrow) {
    s.by_lane16 = !kernels().narrow ? nullptr : lanes_are_weights ? t.col16 : t.row16;
    s.by_row_planes = lanes_are_weights ? t.row_planes : t.col_planes;
  }
  return s;
}

// Few rows: a batch of one, or one output per group. The lanes are the longer side.
void Part::direct() const {
  const Kernels& k = kernels();
  const bool lanes_are_weights = pixels() < l.group_outputs; // the longer side
  const int64_t lane_count = lanes_are_weights ? l.group_outputs : span();
  const int64_t rows = lanes_are_weights ? pixels() : l.group_outputs;
  const int64_t lane_blocks = blocks(lane_count, k.direct_lanes);
  const auto image_offset = image_offsets(true), weight_offset = weight_offsets();
  parallel(l.shape.groups * rows * lane_blocks, [&](int64_t begin, int64_t end) {
    alignas(64) int32_t sum[256];
    for (int64_t task = begin; task < end; task++) {
      const int64_t lane = task % lane_blocks * k.direct_lanes, row = task / lane_blocks % rows;
      const int64_t g = task / lane_blocks / rows, n = g * l.group_outputs;
      const int64_t lanes = std::min(k.direct_lanes, lane_count - lane);
      Lookup s = lookup(g, lanes_are_weights);
      s.row_offset = (lanes_are_weights ? image_offset : weight_offset).data();
      s.lane_offset = (lanes_are_weights ? weight_offset : image_offset).data();
      if (lanes_are_weights) {
        k.direct(s, l.place(row / l.out_pixels, row % l.out_pixels), lane, lanes, sum);
        emit.pixel_rows(sum, k.direct_lanes, row, 1, n + lane, lanes);
      } else {
        k.direct(s, row, lane, lanes, sum);
        emit.places(runs, sum, k.direct_lanes, n + row, 1, lane, lanes);
      }
    }
  });
}

// Time per product, in uses of P: its building spread over the codes that use it, the use, and the
// lanes that nobody needs; and among threads the share of the busiest.
Part::Lanes Part::cheapest() const {
  const int64_t lanes = kernels().add_lanes;
  const double m = (double)pixels(), n = (double)l.group_outputs;
  const auto waste = [&](int64_t count, double useful) {
    return (double)(blocks(count, lanes) * lanes) / useful;
  };
  // How much longer the busiest thread works than all would on average.
  const auto uneven = [&](int64_t count, int64_t rows) {
    const int64_t others = l.shape.groups * blocks(count, lanes), threads = thread_count();
    const int64_t tasks = others * blocks(rows, tile_rows(rows, lanes * 4, ROOM, others, 256));
    return (double)(blocks(tasks, threads) * threads) / (double)tasks;
  };
  const double outputs =
      (BUILD / m + 1) * waste(l.group_outputs, n) * uneven(l.group_outputs, pixels());
  const double pixel = (BUILD / n + 1) * waste(pixels(), m) * uneven(pixels(), l.group_outputs);
  const int64_t all_inputs = image.batch * l.in_pixels;
  const double inputs = (BUILD / (n * (double)l.taps) + UNALIGNED) * waste(all_inputs, m);
  const dv_shape& s = l.shape;
  bool shifted = l.taps > 1; // every tap moves the image by whole pixels, and no output is outside
  for (int i = 0; i < 3; i++)
    shifted = shifted && s.stride[i] == 1 && l.out[i] <= s.in[i];
  if (shifted && inputs < outputs && inputs < pixel)
    return Lanes::INPUTS;
  return pixel < outputs ? Lanes::PIXELS : Lanes::OUTPUTS;
}

bool Part::table() const {
  // In registers, direct lookups pay for a few rows, of weights rather than of pixels: their lanes,
  // the pixels, lie in the cache.
  const bool registers = kernels().narrow && static_cast<const Table*>(multiplier.table)->narrow;
  if (l.group_outputs <= (registers ? 4 : 1) || pixels() <= (registers ? 2 : 1)) {
    direct();
    return true;
  }
  switch (cheapest()) {
  case Lanes::OUTPUTS:
    return add_outputs();
  case Lanes::PIXELS:
    return add_pixels();
  case Lanes::INPUTS:
    return add_inputs();
  }
  return false;
}

// Lanes are outputs, codes the valid pixels.
bool Part::add_outputs() const {
  const Kernels& k = kernels();
  const int64_t lane_blocks = blocks(l.group_outputs, k.add_lanes), groups = l.shape.groups;
  const int64_t tile = tile_rows(pixels(), k.add_lanes * 4, ROOM, groups * lane_blocks, 256);
  const int64_t tiles = blocks(pixels(), tile), shift = 0;
  const auto image_offset = image_offsets(true), weight_offset = weight_offsets();
  std::atomic<bool> enough{true};
  parallel(groups * lane_blocks * tiles, [&](int64_t begin, int64_t end) {
    int32_t* sum = reinterpret_cast<int32_t*>(memory.take(tile * k.add_lanes * 4));
    if (!sum) {
      enough = false;
      return;
    }
    std::vector<Run> part;
    for (int64_t task = begin; task < end; task++) {
      const int64_t from = task % tiles * tile, to = std::min(from + tile, pixels());
      const int64_t lane = task / tiles % lane_blocks * k.add_lanes;
      const int64_t g = task / tiles / lane_blocks;
      part.clear();
      for (const Run& run : runs) {
        const int64_t first = std::max(from, run.q), last = std::min(to, run.q + run.length);
        if (first < last)
          part.push_back({run.p + (first - run.q), first, last - first});
      }
      Lookup s = lookup(g, true);
      s.row_offset = image_offset.data();
      s.lane_offset = weight_offset.data();
      s.out_shift = &shift;
      s.out_stride = k.add_lanes;
      std::fill(sum, sum + (to - from) * k.add_lanes, s.start());
      k.add(s, lane, part.data(), (int64_t)part.size(), sum);
      emit.pixel_rows(sum, k.add_lanes, from, to - from, g * l.group_outputs + lane,
                      std::min(k.add_lanes, l.group_outputs - lane));
    }
  });
  return enough;
}

// Lanes are valid pixels, codes the weights of all outputs.
bool Part::add_pixels() const {
  const Kernels& k = kernels();
  const int64_t lane_blocks = blocks(pixels(), k.add_lanes), groups = l.shape.groups;
  const int64_t tile = tile_rows(l.group_outputs, k.add_lanes * 4, ROOM, groups * lane_blocks, 256);
  const int64_t tiles = blocks(l.group_outputs, tile), shift = 0;
  const auto image_offset = image_offsets(true), weight_offset = weight_offsets();
  std::vector<int32_t> places;
  for (const Run& run : runs)
    for (int64_t i = 0; i < run.length; i++)
      places.push_back((int32_t)(run.p + i));
  places.resize((size_t)(lane_blocks * k.add_lanes), places.back());
  std::atomic<bool> enough{true};
  parallel(groups * lane_blocks * tiles, [&](int64_t begin, int64_t end) {
    int32_t* sum = reinterpret_cast<int32_t*>(memory.take(tile * k.add_lanes * 4));
    if (!sum) {
      enough = false;
      return;
    }
    for (int64_t task = begin; task < end; task++) {
      const int64_t from = task % tiles * tile, to = std::min(from + tile, l.group_outputs);
      const int64_t lane = task / tiles % lane_blocks * k.add_lanes;
      const int64_t g = task / tiles / lane_blocks;
      Lookup s = lookup(g, false);
      s.row_offset = weight_offset.data();
      s.lane_offset = image_offset.data();
      s.lane_place = places.data();
      s.out_shift = &shift;
      s.out_stride = k.add_lanes;
      std::fill(sum, sum + (to - from) * k.add_lanes, s.start());
      const Run all = {from, 0, to - from};
      k.add(s, lane, &all, 1, sum);
      emit.channel_rows(sum, k.add_lanes, g * l.group_outputs + from, to - from, lane,
                        std::min(k.add_lanes, pixels() - lane));
    }
  });
  return enough;
}

} // namespace dv
