#include "core/block_rows.h"

#include "core/plane.h"
#include "core/prepare.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

void BlockRows::fill(const float* x, uint8_t* memory) {
  data = memory;
  scale = reinterpret_cast<float*>(memory + count() * sizes.row_bytes);
  if (l.shape.linear)
    fill_linear(x);
  else
    fill_images(x);
}

ScaleRange BlockRows::range() const {
  const int64_t n = count() * sizes.row_scales, pieces = thread_count();
  std::vector<ScaleRange> part((size_t)pieces);
  parallel(pieces, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
      for (int64_t j = n * i / pieces; j < n * (i + 1) / pieces; j++)
        part[(size_t)i].add(scale[j]);
  });
  ScaleRange all;
  for (const ScaleRange& r : part)
    all.add(r);
  return all;
}

void BlockRows::zero(int64_t from, int64_t to) {
  memset(data + from * sizes.row_bytes, sizes.f.offset, (size_t)((to - from) * sizes.row_bytes));
  for (int64_t b = 0; b < sizes.row_scales; b++)
    std::fill(scale + b * count() + from, scale + b * count() + to, 1.0f);
}

void BlockRows::row(const float* channels, int64_t place) {
  for (int64_t g = 0; g < l.shape.groups; g++)
    sizes.k.quantise(channels + g * l.group_channels, l.group_channels, format, sizes.f, sizes.row,
                     data + place * sizes.row_bytes + g * sizes.blocks * sizes.units * 4,
                     scale + g * sizes.blocks * count() + place, count());
}

void BlockRows::fill_linear(const float* x) {
  zero(batch, count());
  parallel(batch, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    for (int64_t m = begin; m < end; m++)
      row(x + m * l.shape.channels, m);
  });
}

// Pixels are turned channels last in stretches that stay in the cache, then rounded.
void BlockRows::fill_images(const float* x) {
  const dv_shape& s = l.shape;
  const Places place(l, batch);
  std::vector<int64_t> target; // of each pixel of an image; -1 where no tap reads it
  for (int64_t z : place.z)
    for (int64_t y : place.y)
      for (int64_t at : place.x)
        target.push_back(z < 0 || y < 0 || at < 0 ? -1 : z + y + at);
  const int64_t some = std::clamp<int64_t>(8192 / s.channels / 4 * 4, 16, 64);
  const int64_t pieces = (l.in_pixels + some - 1) / some;
  const int64_t padded = (s.channels + 3) / 4 * 4;
  parallel(count(), [&](int64_t begin, int64_t end) { zero(begin, end); });
  parallel(batch * pieces, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    std::vector<float> pixels((size_t)(some * padded));
    for (int64_t task = begin; task < end; task++) {
      const int64_t b = task / pieces, from = task % pieces * some;
      const int64_t n = std::min(some, l.in_pixels - from);
      const float* source = x + b * s.channels * l.in_pixels + from;
      turn_pixels(source, n, pixels.data(), padded);
      for (int64_t i = 0; i < n; i++)
        if (target[(size_t)(from + i)] >= 0)
          row(pixels.data() + i * padded, b * l.phase_size + target[(size_t)(from + i)]);
    }
  });
}

// `n` pixels of all channels, channels last, `pitch` floats apart.
void BlockRows::turn_pixels(const float* source, int64_t n, float* pixels, int64_t pitch) const {
  const int64_t channels = l.shape.channels, whole_n = n / 4 * 4, whole = channels / 4 * 4;
  sizes.k.turn(source, l.in_pixels, whole, whole_n, pixels, pitch);
  for (int64_t c = 0; c < channels; c++)
    for (int64_t i = c < whole ? whole_n : 0; i < n; i++)
      pixels[i * pitch + c] = source[c * l.in_pixels + i];
}

} // namespace dv
