// Casts to integers with given scales.
#include "core/plane.h"

#include <float.h>

using namespace dv;

int32_t dv_cast_affine(const dv_tensor* t, int64_t channels, const float* scale,
                       const int32_t* zero_point, int32_t qmin, int32_t qmax) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || (channels != 1 && channels != t->length))
    return DV_BAD_SHAPE;
  const int32_t limit = 1 << 17;
  if (qmin > qmax || qmin < -limit || qmax > limit)
    return DV_BAD_VALUE;
  for (int64_t c = 0; c < channels; c++)
    if (!(scale[c] > 0) || scale[c] > FLT_MAX || zero_point[c] < qmin || zero_point[c] > qmax)
      return DV_BAD_VALUE;
  const Plane<float> plane(*t);
  const bool each = channels > 1 && t->inner == 1;
  // Rows of equal scale, or (channels last) rows in which each value has its own.
  const int64_t total = t->outer * t->length * t->inner;
  const int64_t row = channels == 1 ? total : each ? t->length : t->inner;
  if (total == 0)
    return DV_OK;
  const int64_t pieces = (row + CHUNK - 1) / CHUNK;
  parallel(total / row * pieces, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    float buffer[CHUNK], low[CHUNK], high[CHUNK];
    for (int64_t task = begin; task < end; task++) {
      const int64_t from = task % pieces * CHUNK, n = smaller(CHUNK, row - from);
      const int64_t at = task / pieces * row + from;
      const float* x = plane.load(at, n, buffer);
      float* out = plane.target(at, buffer);
      if (each) {
        for (int64_t i = 0; i < n; i++) {
          low[i] = (float)(qmin - zero_point[from + i]);
          high[i] = (float)(qmax - zero_point[from + i]);
        }
        casts().affines(x, n, scale + from, low, high, out);
      } else {
        const int64_t c = channels == 1 ? 0 : task / pieces % channels;
        casts().affine(x, n, scale[c], (float)(qmin - zero_point[c]), (float)(qmax - zero_point[c]),
                       out);
      }
      plane.store(at, n, out, false);
    }
  });
  return DV_OK;
}
