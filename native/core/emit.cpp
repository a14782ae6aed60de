#include "core/emit.h"

#include "core/dispatch.h"

#include <algorithm>

namespace dv {

namespace {

constexpr int64_t BLOCK = 64;

int32_t minus(int32_t a, int32_t b) { return (int32_t)((uint32_t)a - (uint32_t)b); }

} // namespace

void Emitter::one_channel(const int32_t* sum, int64_t n, int64_t q, int64_t pixels) const {
  const int64_t size = layout.out_pixels;
  q += first_pixel;
  while (pixels > 0) {
    const int64_t image = q / size, at = q % size, count = std::min(pixels, size - at);
    const int64_t place = (image * layout.shape.outputs + n) * size + at;
    if (output.fused) {
      kernels().finish_channel(sum, count, correction[n], output.scale[n],
                               output.bias ? output.bias + n : nullptr,
                               static_cast<float*>(output.data) + place);
    } else {
      int32_t* y = static_cast<int32_t*>(output.data) + place;
      for (int64_t i = 0; i < count; i++)
        y[i] = minus(sum[i], correction[n]);
    }
    sum += count;
    q += count;
    pixels -= count;
  }
}

void Emitter::one_pixel(const int32_t* sum, int64_t q, int64_t n, int64_t channels) const {
  const int64_t place = (q + first_pixel) * layout.shape.outputs + n;
  if (output.fused) {
    kernels().finish_channels(sum, channels, correction + n, output.scale + n,
                              output.bias ? output.bias + n : nullptr,
                              static_cast<float*>(output.data) + place);
    return;
  }
  int32_t* y = static_cast<int32_t*>(output.data) + place;
  for (int64_t i = 0; i < channels; i++)
    y[i] = minus(sum[i], correction[n + i]);
}

void Emitter::channel_rows(const int32_t* sum, int64_t stride, int64_t n, int64_t channels,
                           int64_t q, int64_t pixels) const {
  if (layout.out_pixels > 1) {
    for (int64_t i = 0; i < channels; i++)
      one_channel(sum + i * stride, n + i, q, pixels);
    return;
  }
  int32_t turned[BLOCK];
  for (int64_t i = 0; i < channels; i += BLOCK)
    for (int64_t j = 0; j < pixels; j++) {
      const int64_t count = std::min(BLOCK, channels - i);
      for (int64_t b = 0; b < count; b++)
        turned[b] = sum[(i + b) * stride + j];
      one_pixel(turned, q + j, n + i, count);
    }
}

void Emitter::pixel_rows(const int32_t* sum, int64_t stride, int64_t q, int64_t pixels, int64_t n,
                         int64_t channels) const {
  if (layout.out_pixels == 1) {
    for (int64_t j = 0; j < pixels; j++)
      one_pixel(sum + j * stride, q + j, n, channels);
    return;
  }
  int32_t turned[BLOCK];
  for (int64_t j = 0; j < pixels; j += BLOCK)
    for (int64_t i = 0; i < channels; i++) {
      const int64_t count = std::min(BLOCK, pixels - j);
      for (int64_t b = 0; b < count; b++)
        turned[b] = sum[(j + b) * stride + i];
      one_channel(turned, n + i, q + j, count);
    }
}

void Emitter::places(const std::vector<Run>& runs, const int32_t* sum, int64_t stride, int64_t n,
                     int64_t channels, int64_t p, int64_t count) const {
  auto run = std::upper_bound(runs.begin(), runs.end(), p,
                              [](int64_t at, const Run& r) { return at < r.p + r.length; });
  for (; run != runs.end() && run->p < p + count; ++run) {
    const int64_t from = std::max(p, run->p), to = std::min(p + count, run->p + run->length);
    channel_rows(sum + (from - p), stride, n, channels, run->q + (from - run->p), to - from);
  }
}

} // namespace dv
