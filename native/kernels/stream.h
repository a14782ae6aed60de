// Results on their way to memory, past the caches.
#pragma once
#include "kernels/lanes.h"

namespace {

// The hardware writes whole lines so: what lies before the first one takes the common way.
void stream(const float* x, int64_t n, float* out) {
  int64_t i = 0;
#if defined(__SSE2__)
  const int64_t before = (int64_t)(-(uintptr_t)out / sizeof *out % 16);
  for (; i < before && i < n; i++)
    out[i] = x[i];
  for (; i + 16 <= n; i += 16)
    for (int64_t j = i; j < i + 16; j += LANES) {
#if defined(__AVX512F__)
      _mm512_stream_ps(out + j, (__m512)load(x + j));
#elif defined(__AVX2__)
      _mm256_stream_ps(out + j, (__m256)load(x + j));
#else
      _mm_stream_ps(out + j, (__m128)load(x + j));
#endif
    }
#endif
  for (; i < n; i++)
    out[i] = x[i];
}

} // namespace
