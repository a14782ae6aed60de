#include "core/accumulate_planes.h"

#include "core/dispatch.h"
#include "core/plane.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

void Planes::fill(const dv_input& input, int64_t first, uint8_t* memory) {
  image.data = memory;
  image.codes = memory + image.bytes() * unit(products.source);
  if (products.source == DV_VALUES)
    values(static_cast<const float*>(input.data) + first * l.shape.channels * l.in_pixels);
  else if (products.first)
    recoded(input, first);
  else
    image.fill(input, first, {});
}

void Planes::recoded(const dv_input& input, int64_t first) {
  const int64_t each = l.shape.channels * l.in_pixels, step = 16384;
  const int64_t size = each * image.batch;
  parallel((size + step - 1) / step, [&](int64_t begin, int64_t end) {
    const int64_t from = begin * step, n = std::min(end * step, size) - from;
    uint8_t* codes = image.codes + from;
    if (input.kind == 0)
      kernels().quantise(static_cast<const float*>(input.data) + first * each + from, n,
                         input.scale, input.zero_point, input.qmin, input.qmax, 1, codes);
    else
      memcpy(codes, static_cast<const uint8_t*>(input.data) + first * each + from, (size_t)n);
    kernels().recode(codes, n, products.first, codes);
  });
  const uint8_t pad = products.first[(uint8_t)(input.kind == 0 ? input.zero_point : input.pad)];
  image.fill({image.codes, 1, 1.0f, 0, 0, 0, pad}, 0, {});
}

void Planes::values(const float* x) {
  const dv_shape& s = l.shape;
  const Places place(l, image.batch);
  parallel(s.channels, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) {
      float* plane = reinterpret_cast<float*>(image.data + c / l.group_channels * group_bytes() +
                                              c % l.group_channels * plane_bytes());
      memset(plane, 0, (size_t)plane_bytes());
      for (int64_t b = 0; b < image.batch; b++) {
        const float* in = x + (b * s.channels + c) * l.in_pixels;
        for (int64_t i = 0; i < l.in_pixels; i++) {
          const int64_t z = place.z[(size_t)(i / s.in[2] / s.in[1])];
          const int64_t y = place.y[(size_t)(i / s.in[2] % s.in[1])];
          const int64_t at = place.x[(size_t)(i % s.in[2])];
          if (z >= 0 && y >= 0 && at >= 0)
            plane[b * l.phase_size + z + y + at] = in[i];
        }
      }
    }
  });
}

void broadcast(const Side& side, const uint8_t* base, int64_t place, int64_t rows, int64_t step,
               int32_t source, Lane lane, void* out) {
  const int64_t depth = (int64_t)side.offset.size();
  for (int64_t k = 0; k < depth; k++) {
    const uint8_t* from = base + side.offset[(size_t)k] + place * unit(source);
    for (int64_t r = 0; r < rows; r++) {
      const int64_t at = k * step + r;
      if (source == DV_VALUES) {
        float value;
        memcpy(&value, from + 4 * r, 4);
        if (lane == F64)
          static_cast<double*>(out)[at] = value;
        else
          static_cast<float*>(out)[at] = value;
      } else if (source == DV_LOOKUP) {
        static_cast<int32_t*>(out)[at] = from[r];
      } else {
        const int32_t value = side.is_signed ? (int8_t)from[r] : from[r];
        if (lane == F64)
          static_cast<double*>(out)[at] = value;
        else if (lane == F32)
          static_cast<float*>(out)[at] = (float)value;
        else
          static_cast<uint32_t*>(out)[at] =
              lane == I16 ? ((uint32_t)value & 0xffff) * 0x10001u : (uint32_t)value;
      }
    }
  }
}

} // namespace dv
