#include "core/layout.h"

#include <algorithm>

namespace dv {

namespace {

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t out_size(const dv_shape& s, int i) {
  const int64_t span = s.dilation[i] * (s.kernel[i] - 1) + 1;
  const int64_t room = s.in[i] + s.low[i] + s.high[i] - span;
  return room < 0 ? 0 : room / s.stride[i] + 1;
}

} // namespace

bool valid(const dv_shape& s, bool grouped_linear) {
  if (s.batch < 0 || s.channels < 1 || s.outputs < 1 || s.groups < 1 || s.rank < 0 || s.rank > 64)
    return false;
  if (s.lookups < 0 || s.lookups > (s.rank ? 16 : 0))
    return false;
  if (s.channels % s.groups || s.outputs % s.groups)
    return false;
  for (int i = 0; i < 3; i++) {
    if (s.in[i] < 0 || s.kernel[i] < 1 || s.stride[i] < 1 || s.dilation[i] < 1 || s.low[i] < 0 ||
        s.high[i] < 0 || s.in[i] > INT32_MAX || s.low[i] > INT32_MAX || s.high[i] > INT32_MAX ||
        s.kernel[i] > 65536 || s.dilation[i] > INT32_MAX || s.stride[i] > 65536)
      return false;
    if (out_size(s, i) < 1)
      return false;
    if (s.linear && (s.in[i] != 1 || s.kernel[i] != 1 || s.stride[i] != 1 || s.low[i] || s.high[i]))
      return false;
  }
  return !s.linear || s.groups == 1 || grouped_linear;
}

dv_shape without_idle_taps(const dv_shape& s, std::array<int64_t, 3>& first) {
  dv_shape left = s;
  for (size_t i = 0; i < 3; i++) {
    const int64_t step = s.dilation[i], outputs = out_size(s, (int)i);
    first[i] = 0;
    // Tap t of output o reads o * stride + t * step - low. The taps of the first output that lie
    // before the image do so for the last one, too, if they are this far before it.
    const int64_t last_output = (outputs - 1) * s.stride[i];
    while (left.kernel[i] > 1 && left.low[i] >= step && last_output < left.low[i]) {
      left.low[i] -= step;
      left.kernel[i]--;
      first[i]++;
    }
    // The last tap of the first output lies behind the image, and so it does for all others.
    while (left.kernel[i] > 1 && left.high[i] >= step &&
           (left.kernel[i] - 1) * step - left.low[i] >= s.in[i]) {
      left.high[i] -= step;
      left.kernel[i]--;
    }
  }
  return left;
}

bool complete(const dv_shape& s, const dv_multiplier& m) {
  return (!s.rank || (m.first && m.second && m.constant)) &&
         (!s.lookups || (m.entry && m.classes && m.step));
}

Axis::Axis(const dv_shape& s, int i, int64_t out) : index((size_t)s.stride[i], -1) {
  const int64_t stride = s.stride[i];
  int64_t reach = 0;
  for (int64_t t = 0; t < s.kernel[i]; t++) {
    index[(size_t)(t * s.dilation[i] % stride)] = 0;
    reach = std::max(reach, t * s.dilation[i] / stride);
  }
  phases = 0;
  for (auto& number : index)
    if (number == 0)
      number = phases++;
  // Without a stride, what overhangs a row falls on the next row's padding: `pitch` leaves room
  // for the wider of the two paddings only.
  pitch = stride == 1 ? std::max(out, s.in[i] + std::max(s.low[i], s.high[i])) : out + reach;
}

Layout::Layout(const dv_shape& s, const dv_shape& whole, std::array<int64_t, 3> first) : shape(s) {
  out_pixels = in_pixels = taps = weight_taps = phase_size = 1;
  for (int i = 0; i < 3; i++) {
    out[i] = out_size(s, i);
    out_pixels *= out[i];
    in_pixels *= s.in[i];
    taps *= s.kernel[i];
    weight_taps *= whole.kernel[i];
    axes.emplace_back(s, i, out[i]);
    phase_size *= axes.back().pitch;
  }
  group_channels = s.channels / s.groups;
  group_outputs = s.outputs / s.groups;
  depth = group_channels * weight_taps;
  for (int64_t z = 0; z < s.kernel[0]; z++)
    for (int64_t y = 0; y < s.kernel[1]; y++)
      for (int64_t x = 0; x < s.kernel[2]; x++)
        weight_tap.push_back(((first[0] + z) * whole.kernel[1] + first[1] + y) * whole.kernel[2] +
                             first[2] + x);
  // One channel per group leaves nothing to contract but the taps: the table serves it better.
  by_factors = s.rank > 0 && (s.linear || group_channels > 1);
  if (by_factors) {
    const int64_t needed = (group_channels * s.rank + 3) / 4;
    const int64_t steps = (needed + 15) / 16;
    quad_step = (needed + steps - 1) / steps;
    quads = steps * quad_step;
    packed_outputs = round_up(group_outputs, PANEL);
    factor_bytes = round_up(packed_outputs * weight_taps * quads * 4 + 256, 64);
    class_quads = s.lookups ? (group_channels + 3) / 4 : 0;
    const int64_t class_copies = s.linear ? s.lookups : 1;
    class_bytes = round_up(packed_outputs * weight_taps * class_quads * 4 * class_copies, 64);
    group_bytes =
        factor_bytes + class_bytes + round_up(packed_outputs / OCCUPIED * weight_taps * steps, 64);
  } else {
    quads = quad_step = factor_bytes = class_quads = class_bytes = 0;
    // An odd number of cache lines: planes of a power of two would fall on the same few sets.
    packed_outputs = (round_up(group_outputs, 64) / 64 | 1) * 64;
    group_bytes = packed_outputs * depth;
  }
}

int64_t Layout::packed_bytes() const { return packed_group(shape.groups) + 64; }

std::vector<int64_t> Layout::tap_offsets(int64_t batch) const {
  std::vector<int64_t> offsets;
  const int64_t phase_places = batch * phase_size;
  int64_t t[3];
  for (t[0] = 0; t[0] < shape.kernel[0]; t[0]++)
    for (t[1] = 0; t[1] < shape.kernel[1]; t[1]++)
      for (t[2] = 0; t[2] < shape.kernel[2]; t[2]++) {
        int64_t phase = 0, inside = 0;
        for (int i = 0; i < 3; i++) {
          const int64_t at = t[i] * shape.dilation[i];
          phase = phase * axes[i].phases + axes[i].index[(size_t)(at % shape.stride[i])];
          inside = inside * axes[i].pitch + at / shape.stride[i];
        }
        offsets.push_back(phase * phase_places + inside);
      }
  return offsets;
}

int64_t Layout::places(int64_t batch) const {
  const auto offsets = tap_offsets(batch);
  const int64_t last = *std::max_element(offsets.begin(), offsets.end());
  const int64_t phases = axes[0].phases * axes[1].phases * axes[2].phases;
  return std::max(phases * batch * phase_size, place(batch - 1, out_pixels - 1) + last + 1);
}

int64_t Layout::place(int64_t image, int64_t pixel) const {
  const int64_t x = pixel % out[2], y = pixel / out[2] % out[1], z = pixel / out[2] / out[1];
  return ((image * axes[0].pitch + z) * axes[1].pitch + y) * axes[2].pitch + x;
}

std::vector<Run> Layout::runs(int64_t batch) const {
  std::vector<Run> all;
  const int64_t rows = batch * out[0] * out[1];
  for (int64_t row = 0; row < rows; row++) {
    const int64_t q = row * out[2];
    const int64_t p = place(q / out_pixels, q % out_pixels);
    if (!all.empty() && all.back().p + all.back().length == p)
      all.back().length += out[2];
    else
      all.push_back({p, q, out[2]});
  }
  return all;
}

std::vector<int64_t> Layout::targets(int64_t batch) const {
  std::vector<int64_t> target;
  for (const Run& run : runs(batch)) {
    target.resize((size_t)(run.p + run.length), -1);
    for (int64_t i = 0; i < run.length; i++) {
      const int64_t q = run.q + i;
      target[(size_t)(run.p + i)] =
          shape.linear ? q * shape.outputs
                       : q / out_pixels * out_pixels * shape.outputs + q % out_pixels;
    }
  }
  return target;
}

} // namespace dv
