// The activations of some images: quantised, and each code in the words of its table.
#include "core/wide_operand.h"

#include "core/dispatch.h"
#include "core/plane.h"
#include "core/threads.h"

#include <algorithm>

namespace dv {

void WideOperand::fill(int64_t first, uint8_t* memory) {
  data = memory;
  codes = reinterpret_cast<int16_t*>(memory + data_bytes());
  const int16_t* source = static_cast<const int16_t*>(input.data) + first * image_size();
  if (input.kind == 0) {
    quantise(static_cast<const float*>(input.data) + first * image_size());
    source = codes;
  }
  if (w.l.shape.linear)
    fill_rows(source);
  else
    fill_planes(source);
}

void WideOperand::quantise(const float* x) {
  const int64_t size = batch * image_size(), step = 16384;
  parallel((size + step - 1) / step, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    const int64_t from = begin * step, to = std::min(end * step, size);
    kernels().quantise(x + from, to - from, input.scale, input.zero_point, input.qmin, input.qmax,
                       2, codes + from);
  });
}

void WideOperand::fill_rows(const int16_t* source) {
  const int64_t channels = w.l.shape.channels;
  parallel(batch, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; m++) {
      uint8_t* row = data + m * w.row_bytes;
      const int16_t* code = source + m * channels;
      if (w.factors)
        fill_row(static_cast<const uint16_t*>(w.m.first), code, reinterpret_cast<uint16_t*>(row));
      else
        fill_row(static_cast<const uint32_t*>(w.m.first), code, reinterpret_cast<uint32_t*>(row));
    }
  });
}

template <typename Word>
void WideOperand::fill_row(const Word* table, const int16_t* code, Word* row) const {
  const int64_t channels = w.l.shape.channels, width = w.units * w.per_unit;
  const int64_t words = w.m.first_words;
  for (int64_t r = 0; r < words; r++, row += width) {
    for (int64_t c = 0; c < channels; c++)
      row[c] = table[((uint16_t)code[c] & mask()) * words + r];
    if (channels < width)
      row[channels] = 0;
  }
}

uint32_t WideOperand::unit(uint32_t one, uint32_t other, bool pair, int64_t r) const {
  if (!w.factors)
    return static_cast<const uint32_t*>(w.m.first)[one];
  const uint16_t* table = static_cast<const uint16_t*>(w.m.first) + r;
  const int64_t words = w.m.first_words;
  const uint32_t low = table[one * words];
  return pair ? low | (uint32_t)table[other * words] << 16 : low;
}

void WideOperand::fill_planes(const int16_t* source) {
  const Places place(w.l, batch);
  const uint32_t pad = (uint16_t)(input.kind == 0 ? input.zero_point : input.pad) & mask();
  parallel(w.l.shape.groups * w.units, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t g = task / w.units, u = task % w.units;
      const int64_t inside = u * w.per_unit, channel = g * w.l.group_channels + inside;
      const bool pair = w.factors && inside + 1 < w.l.group_channels;
      for (int64_t r = 0; r < w.m.first_words; r++) {
        uint32_t* plane = reinterpret_cast<uint32_t*>(data + g * group_bytes() +
                                                      (r * w.units + u) * plane_bytes());
        std::fill(plane, plane + pitch, unit(pad, pad, pair, r));
        fill_plane(source + channel * w.l.in_pixels, place, pair, r, plane);
      }
    }
  });
}

void WideOperand::fill_plane(const int16_t* channel, const Places& place, bool pair, int64_t r,
                             uint32_t* plane) const {
  const dv_shape& s = w.l.shape;
  for (int64_t b = 0; b < batch; b++)
    for (int64_t z = 0; z < s.in[0]; z++)
      for (int64_t y = 0; y < s.in[1]; y++) {
        if (place.z[(size_t)z] < 0 || place.y[(size_t)y] < 0)
          continue;
        uint32_t* to = plane + b * w.l.phase_size + place.z[(size_t)z] + place.y[(size_t)y];
        const int16_t* one = channel + b * image_size() + (z * s.in[1] + y) * s.in[2];
        const int16_t* other = pair ? one + w.l.in_pixels : one;
        for (int64_t x = 0; x < s.in[2]; x++)
          if (place.x[(size_t)x] >= 0)
            to[place.x[(size_t)x]] =
                unit((uint16_t)one[x] & mask(), (uint16_t)other[x] & mask(), pair, r);
      }
}

} // namespace dv
