#include "core/prepare.h"

#include "core/dispatch.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

namespace {

constexpr int64_t BLOCK = 1024; // pixels recoded at once

// Lines that the kernels read side by side must not share cache sets: an odd number of lines.
int64_t spread(int64_t bytes) { return ((bytes + 63) / 64 | 1) * 64; }

// Place of every index of one input axis, phases included; -1 where no tap reads it.
std::vector<int64_t> axis_places(const Layout& l, int axis, int64_t phase_step, int64_t step) {
  const dv_shape& s = l.shape;
  std::vector<int64_t> places((size_t)s.in[axis], -1);
  for (int64_t i = 0; i < s.in[axis]; i++) {
    const int64_t at = i + s.low[axis], number = l.axes[axis].index[(size_t)(at % s.stride[axis])];
    const int64_t inside = at / s.stride[axis];
    if (number >= 0 && inside < l.axes[axis].pitch)
      places[(size_t)i] = number * phase_step + inside * step;
  }
  return places;
}

} // namespace

Places::Places(const Layout& l, int64_t batch) {
  const int64_t phase = batch * l.phase_size;
  const auto& axes = l.axes;
  z = axis_places(l, 0, axes[1].phases * axes[2].phases * phase, axes[1].pitch * axes[2].pitch);
  y = axis_places(l, 1, axes[2].phases * phase, axes[2].pitch);
  x = axis_places(l, 2, phase, 1);
}

Image::Image(const Layout& l, int64_t images) : layout(&l), batch(images) {
  taps = l.tap_offsets(batch);
  if (l.by_factors && l.shape.linear) {
    plane_bytes = l.quads * 4; // of one row
    group_bytes = ((batch + 31) / 32 * 32) * plane_bytes + 64;
  } else if (l.by_factors) {
    plane_bytes = spread((l.places(batch) + 64) * 4);
    group_bytes = (l.quads + l.shape.lookups * l.class_quads) * plane_bytes;
  } else {
    plane_bytes = spread(l.places(batch) + 64);
    group_bytes = l.group_channels * plane_bytes;
  }
}

void Image::fill(const dv_input& input, int64_t first, const dv_multiplier& multiplier) {
  const Layout& l = *layout;
  const int64_t image_size = l.shape.channels * l.in_pixels, size = batch * image_size;
  source = static_cast<const uint8_t*>(input.data) + first * image_size;
  if (input.kind == 0) {
    const float* x = static_cast<const float*>(input.data) + first * image_size;
    const int64_t step = 16384;
    parallel((size + step - 1) / step, [&](int64_t begin, int64_t end) {
      const int64_t from = begin * step, to = std::min(end * step, size);
      kernels().quantise(x + from, to - from, input.scale, input.zero_point, input.qmin, input.qmax,
                         1, codes + from);
    });
    source = codes;
  }
  const uint8_t pad = (uint8_t)(input.kind == 0 ? input.zero_point : input.pad);
  const dv_shape& s = l.shape;
  const bool one_pixel =
      l.in_pixels == 1 && l.phase_size == 1 && l.taps == 1 && s.low[0] + s.low[1] + s.low[2] == 0;
  if (l.by_factors && s.linear)
    fill_rows(multiplier.first);
  else if (!l.by_factors && one_pixel)
    fill_columns();
  else
    fill_planes(pad, multiplier);
}

// Linear, factored: row m is factor 0 of all channels, factor 1 of all channels, ...
void Image::fill_rows(const uint8_t* factors) {
  const int64_t channels = layout->shape.channels;
  parallel(batch, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; m++)
      for (int64_t r = 0; r < layout->shape.rank; r++)
        kernels().recode(source + m * channels, channels, factors + r * 256,
                         data + m * plane_bytes + r * channels);
  });
}

// One pixel per image, table: planes are the columns of the input.
void Image::fill_columns() {
  const int64_t channels = layout->shape.channels, step = 64;
  parallel((channels + step - 1) / step, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * step, to = std::min(end * step, channels);
    kernels().transpose(source + from, channels, batch, to - from, data + from * plane_bytes,
                        plane_bytes);
  });
}

// Planes of quads of recoded bytes (factors, then the lookups' classes), or of codes, with the
// padding laid around them.
void Image::fill_planes(uint8_t pad, const dv_multiplier& multiplier) {
  const Layout& l = *layout;
  const dv_shape& s = l.shape;
  const int64_t unit = l.by_factors ? 4 : 1;
  const int64_t planes = l.by_factors ? l.quads + s.lookups * l.class_quads : l.group_channels;
  std::vector<uint8_t> lane_bytes; // [lookup][place in the quad][code]
  for (int64_t i = 0; l.by_factors && i < s.lookups * 1024; i++)
    lane_bytes.push_back(class_byte(multiplier.classes[i / 1024 * 256 + i % 256], i / 256));
  const int64_t phase_places = batch * l.phase_size;
  const int64_t phases = l.axes[0].phases * l.axes[1].phases * l.axes[2].phases;
  const int64_t slack = l.places(batch) - phases * phase_places;
  const Places place(l, batch);
  const int64_t width = s.in[2], rows = s.in[0] * s.in[1];
  const int64_t segment = std::min(width, BLOCK), block_rows = std::max<int64_t>(1, BLOCK / width);
  static const uint8_t zeros[256] = {};

  parallel(s.groups * planes * batch, [&](int64_t begin, int64_t end) {
    uint8_t recoded[4][BLOCK], joined[4 * BLOCK];
    for (int64_t task = begin; task < end; task++) {
      const int64_t b = task % batch, plane = task / batch % planes, g = task / batch / planes;
      uint8_t* out = data + g * group_bytes + plane * plane_bytes;
      // What each byte of a unit is: a channel and the table that recodes it.
      const uint8_t* from[4];
      const uint8_t* table[4] = {zeros, zeros, zeros, zeros};
      uint8_t fill[4] = {pad, pad, pad, pad};
      for (int64_t i = 0; i < unit; i++) {
        // Lookups have quads of their own; k beyond the channels recode to zero, or to any class.
        const int64_t lookup =
            plane < l.quads || unit == 1 ? -1 : (plane - l.quads) / l.class_quads;
        const int64_t k = (lookup < 0 ? plane : (plane - l.quads) % l.class_quads) * unit + i;
        const int64_t r = k / l.group_channels,
                      channel = g * l.group_channels + k % l.group_channels;
        from[i] = source + (b * s.channels + channel) * l.in_pixels;
        if (l.by_factors) {
          if (lookup >= 0)
            table[i] = lane_bytes.data() + (lookup * 4 + i) * 256;
          else if (r < s.rank)
            table[i] = multiplier.first + r * 256;
          fill[i] = table[i][pad];
        }
      }
      for (int64_t phase = 0; phase <= phases; phase++) {
        const bool tail = phase == phases;
        if (tail && b != batch - 1)
          break;
        uint8_t* o = out + (phase * phase_places + (tail ? 0 : b * l.phase_size)) * unit;
        const int64_t places = tail ? slack : l.phase_size;
        if (unit == 1)
          memset(o, pad, (size_t)places);
        else
          for (int64_t i = 0; i < places; i++)
            memcpy(o + 4 * i, fill, 4);
      }
      uint8_t* image = out + b * l.phase_size * unit;
      for (int64_t row0 = 0; row0 < rows; row0 += block_rows)
        for (int64_t x0 = 0; x0 < width; x0 += segment) {
          const int64_t count = std::min(block_rows, rows - row0);
          const int64_t length = std::min(segment, width - x0);
          const int64_t pixel = row0 * width + x0;
          if (unit == 4)
            for (int i = 0; i < 4; i++)
              kernels().recode(from[i] + pixel, (count - 1) * width + length, table[i], recoded[i]);
          for (int64_t row = row0; row < row0 + count; row++) {
            const int64_t zp = place.z[(size_t)(row / s.in[1])];
            const int64_t yp = place.y[(size_t)(row % s.in[1])];
            if (zp < 0 || yp < 0)
              continue;
            uint8_t* o = image + (zp + yp) * unit;
            const int64_t at = (row - row0) * width;
            const bool straight = s.stride[2] == 1;
            const uint8_t* line = from[0] + pixel + at;
            if (unit == 4) {
              const uint8_t* four[4] = {recoded[0] + at, recoded[1] + at, recoded[2] + at,
                                        recoded[3] + at};
              uint8_t* target = straight ? o + place.x[(size_t)x0] * 4 : joined;
              kernels().interleave(four, length, target);
              line = joined;
            } else if (straight) {
              memcpy(o + place.x[(size_t)x0], line, (size_t)length);
            }
            for (int64_t x = 0; !straight && x < length; x++)
              if (place.x[(size_t)(x0 + x)] >= 0)
                memcpy(o + place.x[(size_t)(x0 + x)] * unit, line + x * unit, (size_t)unit);
          }
        }
    }
  });
}

} // namespace dv
