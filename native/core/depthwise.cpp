// One channel of a few images at a time, from its floats to its outputs: everything in between
// stays in the first cache, and so do the table rows of the channel's weights. A layer of one
// channel per group has too few products per pixel to pay for more passes over memory than that.
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
constexpr int64_t PLACES = 2048;     // of a plane: its codes and sums fit the first cache

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

namespace {

// The op, with what every thread reads.
struct Planes {
  const Layout& l;
  const Table& table;
  const uint8_t* packed;
  const dv_input& input;
  const dv_output& output;
  const int32_t* correction;
  const int64_t images; // in one plane
  const Image image;
  const Places place;
  const int64_t plane_room, sums;
  std::vector<int64_t> weight_offset;

  Planes(const Layout& layout, const dv_multiplier& multiplier, const uint8_t* weights,
         const dv_input& in, const dv_output& out, const int32_t* correct)
      : l(layout), table(*static_cast<const Table*>(multiplier.table)), packed(weights), input(in),
        output(out), correction(correct),
        images(std::clamp<int64_t>(PLACES / layout.phase_size, 1, layout.shape.batch)),
        image(layout, images), place(layout, images),
        plane_room(lines(image.plane_bytes + kernels().direct_lanes)),
        sums((span(images) + kernels().direct_lanes - 1) / kernels().direct_lanes *
             kernels().direct_lanes) {
    for (int64_t tap = 0; tap < l.taps; tap++)
      weight_offset.push_back(tap * l.packed_outputs);
  }

  int64_t parts() const { return (l.shape.batch + images - 1) / images; }
  int64_t room() const { return plane_room + lines(l.in_pixels) + sums * 4; }

  // Computes tasks [begin, end): a group's parts of the batch follow each other.
  void work(int64_t begin, int64_t end, uint8_t* plane) const {
    uint8_t* codes = plane + plane_room;
    int32_t* sum = reinterpret_cast<int32_t*>(codes + lines(l.in_pixels));
    // The padding stays from channel to channel.
    memset(plane, (uint8_t)(input.kind == 0 ? input.zero_point : input.pad), (size_t)plane_room);
    for (int64_t task = begin; task < end; task++) {
      const int64_t g = task / parts(), first = task % parts() * images;
      const int64_t count = std::min(images, l.shape.batch - first);
      for (int64_t b = 0; b < count; b++)
        place_codes(l, place, coded(first + b, g, codes), plane + b * l.phase_size);
      for (int64_t o = 0; o < l.group_outputs; o++)
        output_channel(g, o, first, count, plane, sum);
    }
  }

private:
  // Places up to the last output's.
  int64_t span(int64_t count) const { return l.place(count - 1, l.out_pixels - 1) + 1; }

  // The codes of one channel of one image, quantised into `room` if they are not ready.
  const uint8_t* coded(int64_t b, int64_t channel, uint8_t* room) const {
    const int64_t at = (b * l.shape.channels + channel) * l.in_pixels;
    if (input.kind != 0)
      return static_cast<const uint8_t*>(input.data) + at;
    kernels().quantise(static_cast<const float*>(input.data) + at, l.in_pixels, input.scale,
                       input.zero_point, input.qmin, input.qmax, 1, room);
    return room;
  }

  void output_channel(int64_t g, int64_t o, int64_t first, int64_t count, const uint8_t* plane,
                      int32_t* sum) const {
    const Kernels& k = kernels();
    Lookup s;
    memset(&s, 0, sizeof s);
    s.rows = packed + l.packed_group(g);
    s.row_offset = weight_offset.data();
    s.lanes = plane;
    s.lane_offset = image.taps.data();
    s.depth = l.taps;
    s.by_row = table.col;
    s.by_row_planes = table.narrow ? table.col_planes : nullptr;
    s.least = table.least;
    for (int64_t lane = 0; lane < span(count); lane += k.direct_lanes)
      k.direct(s, o, lane, std::min(k.direct_lanes, span(count) - lane), sum + lane);
    const int64_t n = g * l.group_outputs + o;
    for (int64_t b = 0; b < count; b++)
      for (int64_t z = 0; z < l.out[0]; z++)
        emit(sum + l.place(b, z * l.out[1] * l.out[2]), n,
             ((first + b) * l.shape.outputs + n) * l.out_pixels + z * l.out[1] * l.out[2]);
  }

  // One layer of one output channel.
  void emit(const int32_t* sum, int64_t n, int64_t at) const {
    const int64_t width = l.out[2], pitch = l.axes[2].pitch;
    if (output.fused) {
      kernels().finish_rows(sum, l.out[1], width, pitch, correction[n], output.scale[n],
                            output.bias ? output.bias + n : nullptr,
                            static_cast<float*>(output.data) + at);
      return;
    }
    int32_t* out = static_cast<int32_t*>(output.data) + at;
    for (int64_t i = 0; i < l.out[1] * width; i++)
      out[i] = (int32_t)((uint32_t)sum[i / width * pitch + i % width] - (uint32_t)correction[n]);
  }
};

} // namespace

bool run_planes(const Layout& l, const dv_multiplier& multiplier, const uint8_t* packed,
                const dv_input& input, const dv_output& output, const int32_t* correction) {
  const Planes planes(l, multiplier, packed, input, output, correction);
  std::atomic<bool> enough{true};
  parallel(l.shape.groups * planes.parts(), [&](int64_t begin, int64_t end) {
    uint8_t* room = memory.take(planes.room());
    if (room)
      planes.work(begin, end, room);
    else
      enough = false;
  });
  return enough;
}

} // namespace dv
