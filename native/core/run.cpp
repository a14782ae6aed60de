// One op: the batch in parts that fit the cache, each part prepared, multiplied and written.
#include "core/dispatch.h"
#include "core/emit.h"
#include "core/prepare.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

namespace {

thread_local Scratch call_memory, task_memory;

int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

struct Part {
  const Layout& l;
  const dv_multiplier& multiplier;
  const uint8_t* packed;
  const Image& image;
  const std::vector<Run>& runs;
  const Emitter& emit;

  const uint8_t* weights(int64_t group) const { return packed + l.packed_group(group); }
  int64_t pixels() const { return image.batch * l.out_pixels; }
  int64_t span() const { return runs.back().p + runs.back().length; }

  // Sums of channels n.. at the places p.. of the image: only valid pixels are written.
  void emit_places(const int32_t* sum, int64_t stride, int64_t n, int64_t channels, int64_t p,
                   int64_t places) const {
    auto run = std::upper_bound(runs.begin(), runs.end(), p,
                                [](int64_t at, const Run& r) { return at < r.p + r.length; });
    for (; run != runs.end() && run->p < p + places; ++run) {
      const int64_t from = std::max(p, run->p), to = std::min(p + places, run->p + run->length);
      emit.channel_rows(sum + (from - p), stride, n, channels, run->q + (from - run->p), to - from);
    }
  }

  void dot() const;
  bool add() const;
  bool direct() const;

private:
  Lookup lookup(int64_t group, bool lanes_are_weights) const;
  std::vector<int64_t> image_offsets() const;
  std::vector<int64_t> weight_offsets() const;
};

void Part::dot() const {
  const Kernels& k = kernels();
  const bool linear = l.shape.linear;
  const int64_t row_count = linear ? image.batch : l.group_outputs;
  const int64_t lane_count = linear ? l.group_outputs : span();
  const int64_t row_blocks = blocks(row_count, k.dot_rows);
  const int64_t lane_blocks = blocks(lane_count, k.dot_lanes);
  std::vector<int64_t> taps = image.taps;
  for (auto& offset : taps)
    offset *= 4;

  parallel(l.shape.groups * row_blocks * lane_blocks, [&](int64_t begin, int64_t end) {
    alignas(64) int32_t sum[32 * 48];
    k.dot_begin(l.quad_step);
    for (int64_t task = begin; task < end; task++) {
      // The weights' block is the outer loop: it stays in the cache while the image passes.
      const int64_t g = task / (row_blocks * lane_blocks),
                    inside = task % (row_blocks * lane_blocks);
      const int64_t row = (linear ? inside % row_blocks : inside / lane_blocks) * k.dot_rows;
      const int64_t lane = (linear ? inside / row_blocks : inside % lane_blocks) * k.dot_lanes;
      Dot d;
      d.taps = l.taps;
      d.quads = l.quads;
      d.quad_step = l.quad_step;
      d.tap_offset = taps.data();
      d.lanes_unsigned = !linear;
      d.rows = linear ? image.group(g) : weights(g);
      d.row_stride = linear ? image.plane_bytes : l.taps * l.quads * 4;
      d.lanes = linear ? weights(g) : image.group(g);
      d.quad_stride = linear ? l.packed_outputs * 4 : image.plane_bytes;
      k.dot(d, row, lane, sum);
      const int64_t rows = std::min(k.dot_rows, row_count - row);
      const int64_t lanes = std::min(k.dot_lanes, lane_count - lane);
      if (linear)
        emit.pixel_rows(sum, k.dot_lanes, row, rows, lane, lanes);
      else
        emit_places(sum, k.dot_lanes, g * l.group_outputs + row, rows, lane, lanes);
    }
    k.dot_end();
  });
}

std::vector<int64_t> Part::image_offsets() const {
  std::vector<int64_t> offsets;
  for (int64_t t = 0; t < l.taps; t++)
    for (int64_t c = 0; c < l.group_channels; c++)
      offsets.push_back(c * image.plane_bytes + image.taps[(size_t)t]);
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
  s.middle = t.middle;
  s.least = t.least;
  s.pairs = t.pairs;
  if (t.narrow) {
    s.by_lane16 = lanes_are_weights ? t.col16 : t.row16;
    s.by_row_planes = lanes_are_weights ? t.row_planes : t.col_planes;
  }
  return s;
}

// Row-add: the longer side is coded, which spreads the cost of building P.
bool Part::add() const {
  const Kernels& k = kernels();
  const bool lanes_are_weights = pixels() >= l.group_outputs;
  const int64_t lane_count = lanes_are_weights ? l.group_outputs : pixels();
  const int64_t code_count = lanes_are_weights ? pixels() : l.group_outputs;
  const int64_t lane_blocks = blocks(lane_count, k.add_lanes), groups = l.shape.groups;
  // Sums of a tile stay in the second-level cache; more tiles only to occupy every thread.
  const int64_t wanted = blocks(2 * thread_count(), groups * lane_blocks);
  const int64_t least = blocks(code_count, int64_t(65536) / k.add_lanes);
  const int64_t most = std::max(least, code_count / 256);
  const int64_t tiles = thread_count() == 1 ? least : std::min(std::max(wanted, least), most);
  const int64_t tile = blocks(code_count, tiles);
  const auto image_offset = image_offsets(), weight_offset = weight_offsets();

  std::vector<int32_t> places;
  if (!lanes_are_weights) {
    for (const Run& run : runs)
      for (int64_t i = 0; i < run.length; i++)
        places.push_back((int32_t)(run.p + i));
    places.resize((size_t)(lane_blocks * k.add_lanes), places.back());
  }
  bool memory = true;
  parallel(groups * lane_blocks * tiles, [&](int64_t begin, int64_t end) {
    int32_t* sum = reinterpret_cast<int32_t*>(task_memory.take(tile * k.add_lanes * 4));
    if (!sum) {
      __atomic_store_n(&memory, false, __ATOMIC_RELAXED);
      return;
    }
    for (int64_t task = begin; task < end; task++) {
      const int64_t from = task % tiles * tile, to = std::min(from + tile, code_count);
      const int64_t lane = task / tiles % lane_blocks * k.add_lanes;
      const int64_t g = task / tiles / lane_blocks, n = g * l.group_outputs;
      if (from >= to)
        continue;
      const int64_t lanes = std::min(k.add_lanes, lane_count - lane);
      Lookup s = lookup(g, lanes_are_weights);
      s.row_offset = (lanes_are_weights ? image_offset : weight_offset).data();
      s.lane_offset = (lanes_are_weights ? weight_offset : image_offset).data();
      if (lanes_are_weights) {
        std::vector<Run> part;
        for (const Run& run : runs) {
          const int64_t first = std::max(from, run.q), last = std::min(to, run.q + run.length);
          if (first < last)
            part.push_back({run.p + (first - run.q), first, last - first});
        }
        k.add(s, lane, part.data(), (int64_t)part.size(), to - from, sum);
        emit.pixel_rows(sum, k.add_lanes, from, to - from, n + lane, lanes);
      } else {
        s.lane_place = places.data();
        const Run all = {from, 0, to - from};
        k.add(s, lane, &all, 1, to - from, sum);
        emit.channel_rows(sum, k.add_lanes, n + from, to - from, lane, lanes);
      }
    }
  });
  return memory;
}

// Few rows: a batch of one, or one output per group. The lanes are the longer side.
bool Part::direct() const {
  const Kernels& k = kernels();
  const bool lanes_are_weights = pixels() < l.group_outputs;
  const int64_t lane_count = lanes_are_weights ? l.group_outputs : span();
  const int64_t rows = lanes_are_weights ? pixels() : l.group_outputs;
  const int64_t lane_blocks = blocks(lane_count, k.direct_lanes);
  const auto image_offset = image_offsets(), weight_offset = weight_offsets();
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
        k.direct(s, l.place(row / l.out_pixels, row % l.out_pixels), 1, lane, lanes, sum);
        emit.pixel_rows(sum, k.direct_lanes, row, 1, n + lane, lanes);
      } else {
        k.direct(s, row, 1, lane, lanes, sum);
        emit_places(sum, k.direct_lanes, n + row, 1, lane, lanes);
      }
    }
  });
  return true;
}

// Images per part: the factored kernels want the image in the cache, row-add wants long codes.
int64_t part_size(const Layout& l) {
  const Image one(l, 1);
  const int64_t each = l.shape.linear ? l.quads * 4 + l.depth : one.bytes() + one.code_bytes();
  const int64_t room = l.by_factors ? thread_count() << 20 : int64_t(32) << 20;
  return std::min(l.shape.batch, std::max<int64_t>(l.shape.linear ? 256 : 1, room / each));
}

} // namespace
} // namespace dv

int32_t dv_run(const dv_shape* shape, const dv_multiplier* multiplier, const void* packed,
               const dv_input* input, const dv_output* output) {
  using namespace dv;
  if (!valid(*shape))
    return DV_BAD_SHAPE;
  const Layout l(*shape);
  if (!multiplier->table || (l.by_factors && !multiplier->first))
    return DV_BAD_VALUE;
  if (shape->batch == 0)
    return DV_OK;
  const int64_t part = part_size(l);
  const int32_t* sums = static_cast<const int32_t*>(packed);
  std::vector<int32_t> correction((size_t)shape->outputs);
  for (int64_t n = 0; n < shape->outputs; n++) {
    const uint32_t zero_term = (uint32_t)output->zero_point * (uint32_t)sums[n];
    correction[(size_t)n] =
        (int32_t)((uint32_t)sums[shape->outputs + n] + (output->fused ? zero_term : 0u));
  }
  std::vector<uint8_t> factors;
  for (int64_t i = 0; l.by_factors && i < shape->rank * 256; i++)
    factors.push_back((uint8_t)(multiplier->first[i] + 128));

  std::vector<Run> runs;
  for (int64_t first = 0; first < shape->batch; first += part) {
    Image image(l, std::min(part, shape->batch - first));
    if (runs.empty() || image.batch != part)
      runs = l.runs(image.batch);
    uint8_t* memory = call_memory.take(image.bytes() + image.code_bytes() + 64);
    if (!memory)
      return DV_NO_MEMORY;
    image.data = memory;
    image.codes = memory + image.bytes();
    image.fill(*input, first, factors.data());
    const Emitter emit{l, *output, correction.data(), first * l.out_pixels};
    const Part work{l, *multiplier, static_cast<const uint8_t*>(packed), image, runs, emit};
    const int64_t shorter = std::min(work.pixels(), l.group_outputs);
    if (l.by_factors)
      work.dot();
    else if (!(shorter <= 8 ? work.direct() : work.add()))
      return DV_NO_MEMORY;
  }
  return DV_OK;
}
