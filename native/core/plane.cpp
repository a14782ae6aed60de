#include "core/plane.h"

namespace dv {

bool valid(const dv_tensor& t) {
  return t.outer >= 0 && t.length >= 0 && t.inner >= 0 && t.dtype >= DV_FLOAT32 &&
         t.dtype <= DV_BFLOAT16;
}

template <> const float* Plane<float>::load(int64_t at, int64_t n, float* buffer) const {
  if (dtype_ == DV_FLOAT32)
    return reinterpret_cast<const float*>(in_) + at;
  const uint16_t* x = reinterpret_cast<const uint16_t*>(in_) + at;
  (dtype_ == DV_FLOAT16 ? casts().widen_half : casts().widen_bfloat)(x, n, buffer);
  return buffer;
}

template <> void Plane<float>::store(int64_t at, int64_t n, float* result, bool finite) const {
  if (dtype_ == DV_FLOAT32)
    return;
  uint16_t* out = reinterpret_cast<uint16_t*>(out_) + at;
  if (finite)
    casts().clamp(result, dtype_ == DV_FLOAT16 ? 65504.0f : 0x1.fep127f, n, result);
  (dtype_ == DV_FLOAT16 ? casts().narrow_half : casts().narrow_bfloat)(result, n, out);
}

template <> const double* Plane<double>::load(int64_t at, int64_t n, double* buffer) const {
  if (dtype_ == DV_FLOAT64)
    return reinterpret_cast<const double*>(in_) + at;
  float half[CHUNK];
  const float* x = reinterpret_cast<const float*>(in_) + at;
  if (dtype_ != DV_FLOAT32) {
    const uint16_t* narrow = reinterpret_cast<const uint16_t*>(in_) + at;
    (dtype_ == DV_FLOAT16 ? casts().widen_half : casts().widen_bfloat)(narrow, n, half);
    x = half;
  }
  casts().widen(x, n, buffer);
  return buffer;
}

template <> void Plane<double>::store(int64_t at, int64_t n, double* result, bool) const {
  if (dtype_ == DV_FLOAT64)
    return;
  if (dtype_ == DV_FLOAT32) {
    casts().narrow(result, n, reinterpret_cast<float*>(out_) + at);
    return;
  }
  float half[CHUNK];
  uint16_t* out = reinterpret_cast<uint16_t*>(out_) + at;
  casts().narrow(result, n, half);
  (dtype_ == DV_FLOAT16 ? casts().narrow_half : casts().narrow_bfloat)(half, n, out);
}

} // namespace dv
