// Transposition of floats, four by four.
#pragma once
#include "kernels/simd.h"

namespace {

void turn(const float* in, int64_t in_stride, int64_t rows, int64_t columns, float* out,
          int64_t out_stride) {
  for (int64_t j = 0; j < columns; j += 4)
    for (int64_t i = 0; i < rows; i += 4) {
      const float* from = in + i * in_stride + j;
      float* to = out + j * out_stride + i;
#if defined(__SSE2__)
      __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + in_stride);
      __m128 c = _mm_loadu_ps(from + 2 * in_stride), d = _mm_loadu_ps(from + 3 * in_stride);
      _MM_TRANSPOSE4_PS(a, b, c, d);
      _mm_storeu_ps(to, a);
      _mm_storeu_ps(to + out_stride, b);
      _mm_storeu_ps(to + 2 * out_stride, c);
      _mm_storeu_ps(to + 3 * out_stride, d);
#else
      for (int64_t y = 0; y < 4; y++)
        for (int64_t x = 0; x < 4; x++)
          to[x * out_stride + y] = from[y * in_stride + x];
#endif
    }
}

} // namespace
