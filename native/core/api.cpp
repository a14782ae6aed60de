// The small entries of the C interface.
#include "core/dispatch.h"
#include "core/threads.h"
#include "dovetail.h"

#include <math.h>
#include <string.h>

const char* dv_message(int32_t status) {
  switch (status) {
  case DV_OK:
    return "no error";
  case DV_BAD_SHAPE:
    return "sizes that do not fit together";
  case DV_NO_MEMORY:
    return "not enough memory for the working buffers";
  case DV_BAD_LEVEL:
    return "an instruction-set level this machine does not have";
  case DV_BAD_VALUE:
    return "a scale or code range outside what the kernels compute exactly";
  }
  return "an unknown status";
}

int32_t dv_quantize(const float* x, int64_t outer, int64_t channels, int64_t inner,
                    const float* scale, const int32_t* zero_point, int32_t qmin, int32_t qmax,
                    int32_t bytes, void* out) {
  const int32_t limit = 1 << 17;
  if (qmin > qmax || qmin < -limit || qmax > limit)
    return DV_BAD_VALUE;
  for (int64_t c = 0; c < channels; c++)
    if (!(scale[c] > 0) || isinf(scale[c]) || zero_point[c] < qmin || zero_point[c] > qmax)
      return DV_BAD_VALUE;
  const int64_t step = 16384, pieces = (inner + step - 1) / step;
  dv::parallel(outer * channels * pieces, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; task++) {
      const int64_t row = task / pieces, from = task % pieces * step, c = row % channels;
      const int64_t count = inner - from < step ? inner - from : step, at = row * inner + from;
      dv::kernels().quantise(x + at, count, scale[c], zero_point[c], qmin, qmax, bytes,
                             static_cast<uint8_t*>(out) + at * bytes);
    }
  });
  return DV_OK;
}

uint64_t dv_fingerprint(const float* x, int64_t n) {
  // Up to 1024 words and the last, mixed by multiply-xorshift. Places advance by the golden ratio
  // modulo 1, which spreads them evenly over rows and columns whatever the tensor's shape.
  const int64_t samples = n < 1024 ? n : 1024;
  uint64_t hash = 0x9e3779b97f4a7c15ull ^ (uint64_t)n, place = 0;
  for (int64_t i = 0; i <= samples && n > 0; i++) {
    int64_t at = i;
    if (i == samples)
      at = n - 1;
    else if (samples < n)
      at = (int64_t)((unsigned __int128)place * (uint64_t)n >> 64);
    uint32_t bits;
    memcpy(&bits, x + at, sizeof bits);
    hash = (hash ^ bits) * 0xff51afd7ed558ccdull;
    hash ^= hash >> 32;
    place += 0x9e3779b97f4a7c15ull;
  }
  return hash;
}
