// Weights of floating-point multipliers in the kernels' order.
#include "core/float_mul.h"

#include "core/dispatch.h"
#include "core/plane.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

DV_LEVELS(FloatKernels, float_kernels);

const FloatKernels& float_kernels(int64_t level) { return *float_kernels_levels[level]; }

bool sound(const dv_float_mul& mul) {
  return mul.form >= 0 && mul.form <= 2 && mul.mantissa >= 0 && mul.mantissa <= 10 &&
         mul.offset >= 0 && mul.offset < 1 << mul.mantissa && mul.bits >= 1 && mul.bits <= 24 &&
         mul.table && (mul.form != 0 || (mul.rows && mul.lanes));
}

FloatPacking::FloatPacking(const Layout& l, const dv_float_mul& mul, int64_t level)
    : k(float_kernels(level)) {
  if (l.shape.linear) {
    parts = (l.shape.outputs + k.lanes - 1) / k.lanes;
    part_words = l.depth * k.lanes;
    words = parts * part_words;
  } else {
    parts = l.shape.outputs;
    part_words = l.depth;
    words = (parts + SPARE_ROWS) * part_words;
  }
  words = up(words, 16);
  copies = !l.shape.linear && mul.form == 1 ? 3 : 2;
}

} // namespace dv

int64_t dv_float_packed_bytes(const dv_shape* shape, const dv_float_mul* mul) {
  if (!dv::valid(*shape) || !dv::sound(*mul))
    return -1;
  const dv::Layout layout(*shape);
  return dv::FloatPacking(layout, *mul, dv::level()).bytes();
}

int32_t dv_float_pack(const dv_shape* shape, const dv_float_mul* mul, const float* weights,
                      void* out) {
  if (!dv::valid(*shape))
    return DV_BAD_SHAPE;
  if (!dv::sound(*mul))
    return DV_BAD_VALUE;
  const dv::Layout l(*shape);
  const dv::FloatHead head = {dv::level()};
  const dv::FloatPacking packing(l, *mul, head.level);
  memset(out, 0, (size_t)packing.bytes());
  memcpy(out, &head, sizeof head);
  const dv::FloatOperand o = packing.at(out);
  float* raw = const_cast<float*>(o.raw);
  const int64_t lanes = packing.k.lanes;
  dv::parallel(packing.parts, [&](int64_t begin, int64_t end) {
    const dv::ExactFloats exact;
    for (int64_t part = begin; part < end; part++) {
      const int64_t at = part * packing.part_words;
      if (l.shape.linear) {
        const int64_t n = std::min(lanes, l.shape.outputs - part * lanes);
        for (int64_t j = 0; j < n; j++)
          for (int64_t k = 0; k < l.depth; k++)
            raw[at + k * lanes + j] = weights[(part * lanes + j) * l.depth + k];
      } else {
        memcpy(raw + at, weights + at, (size_t)l.depth * sizeof(float));
      }
      o.exponents[part] = {};
      packing.k.encode(*mul, !l.shape.linear, raw + at, packing.part_words, o.words + at,
                       o.keep ? o.keep + at : nullptr, o.exponents + part);
    }
  });
  return DV_OK;
}
