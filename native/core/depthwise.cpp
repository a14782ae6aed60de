// One channel of one image at a time, from its floats to its outputs: everything in between stays
// in the first cache. A layer of one channel per group has too few products per pixel to pay for
// more passes over memory than that.
#include "core/depthwise.h"

#include "core/dispatch.h"
#include "core/prepare.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <string.h>

namespace dv {

namespace {

thread_local Scratch memory;

constexpr int64_t LEAST_PIXELS = 32; // below, a vector of lanes would be mostly empty

int64_t lines(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// The codes of a channel into its padded plane.
void place_codes(const Layout& l, const Places& place, const uint8_t* codes, uint8_t* plane) {
  const dv_shape& s = l.shape;
  for (int64_t z = 0; z < s.in[0]; z++) {
    const int64_t zp = place.z[(size_t)z];
    if (zp < 0)
      continue;
    const uint8_t* in = codes + z * s.in[1] * s.in[2];
    if (s.stride[1] == 1 && s.stride[2] == 1) {
      kernels().copy_rows(in, s.in[1], s.in[2], plane + zp + place.y[0] + place.x[0],
                          l.axes[2].pitch);
      continue;
    }
    for (int64_t y = 0; y < s.in[1]; y++) {
      const int64_t yp = place.y[(size_t)y];
      for (int64_t x = 0; yp >= 0 && x < s.in[2]; x++)
        if (place.x[(size_t)x] >= 0)
          plane[zp + yp + place.x[(size_t)x]] = in[y * s.in[2] + x];
    }
  }
}

} // namespace

bool by_planes(const Layout& l, const dv_multiplier& multiplier) {
  const bool registers = kernels().narrow && static_cast<const Table*>(multiplier.table)->narrow;
  return !l.shape.linear && l.group_channels == 1 && l.group_outputs <= (registers ? 4 : 1) &&
         l.out_pixels >= LEAST_PIXELS && l.in_pixels > 0;
}

bool run_planes(const Layout& l, const dv_multiplier& multiplier, const uint8_t* packed,
                const dv_input& input, const dv_output& output, const int32_t* correction) {
  const Kernels& k = kernels();
  const Table& t = *static_cast<const Table*>(multiplier.table);
  const dv_shape& shape = l.shape;
  const Image one(l, 1);
  const Places place(l, 1);
  const int64_t span = l.place(0, l.out_pixels - 1) + 1;
  const int64_t sums = (span + k.direct_lanes - 1) / k.direct_lanes * k.direct_lanes;
  const int64_t plane_room = lines(one.plane_bytes + k.direct_lanes);
  const uint8_t pad = (uint8_t)(input.kind == 0 ? input.zero_point : input.pad);
  std::vector<int64_t> weight_offset;
  for (int64_t tap = 0; tap < l.taps; tap++)
    weight_offset.push_back(tap * l.packed_outputs);
  std::atomic<bool> enough{true};

  parallel(shape.batch * shape.groups, [&](int64_t begin, int64_t end) {
    uint8_t* plane = memory.take(plane_room + lines(l.in_pixels) + sums * 4);
    if (!plane) {
      enough = false;
      return;
    }
    uint8_t* codes = plane + plane_room;
    int32_t* sum = reinterpret_cast<int32_t*>(codes + lines(l.in_pixels));
    memset(plane, pad, (size_t)plane_room); // the padding stays from channel to channel
    Lookup s;
    memset(&s, 0, sizeof s);
    s.row_offset = weight_offset.data();
    s.lanes = plane;
    s.lane_offset = one.taps.data();
    s.depth = l.taps;
    s.by_row = t.col;
    s.by_row_planes = t.narrow ? t.col_planes : nullptr;
    s.least = t.least;
    for (int64_t task = begin; task < end; task++) {
      const int64_t g = task % shape.groups, at = task * l.in_pixels;
      const uint8_t* source = static_cast<const uint8_t*>(input.data) + at;
      if (input.kind == 0) {
        k.quantise(static_cast<const float*>(input.data) + at, l.in_pixels, input.scale,
                   input.zero_point, input.qmin, input.qmax, 1, codes);
        source = codes;
      }
      place_codes(l, place, source, plane);
      s.rows = packed + l.packed_group(g);
      for (int64_t o = 0; o < l.group_outputs; o++) {
        for (int64_t lane = 0; lane < span; lane += k.direct_lanes)
          k.direct(s, o, lane, std::min(k.direct_lanes, span - lane), sum + lane);
        const int64_t n = g * l.group_outputs + o;
        const int64_t first = (task / shape.groups * shape.outputs + n) * l.out_pixels;
        const int64_t layer = l.out[1] * l.out[2];
        for (int64_t z = 0; z < l.out[0]; z++) {
          const int32_t* from = sum + l.place(0, z * layer);
          if (output.fused) {
            k.finish_rows(from, l.out[1], l.out[2], l.axes[2].pitch, correction[n], output.scale[n],
                          output.bias ? output.bias + n : nullptr,
                          static_cast<float*>(output.data) + first + z * layer);
            continue;
          }
          int32_t* out = static_cast<int32_t*>(output.data) + first + z * layer;
          for (int64_t i = 0; i < layer; i++)
            out[i] = (int32_t)((uint32_t)from[i / l.out[2] * l.axes[2].pitch + i % l.out[2]] -
                               (uint32_t)correction[n]);
        }
      }
    }
  });
  return enough;
}

} // namespace dv
