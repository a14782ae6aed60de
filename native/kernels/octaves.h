// Formats that repeat in every octave: a table of the mantissa's leading bits and one comparison.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"
#include "kernels/lanes.h"
#include "kernels/steps.h"

namespace {

#if defined(__AVX2__)
template <int BITS>
void octaves_in_registers(const float* x, int64_t n, const dv::Octaves& format, float* out) {
  constexpr int SIZE = 1 << BITS, REGISTERS = SIZE < LANES ? 1 : SIZE / LANES;
  const dv::Octaves f = format;
  Ints least[REGISTERS], below[REGISTERS], above[REGISTERS];
  for (int i = 0; i < REGISTERS; i++) {
    least[i] = load(f.least + LANES * i);
    below[i] = load(f.below + LANES * i);
    above[i] = load(f.above + LANES * i);
  }
  lane_by_lane(x, n, out, [&](Floats v, int64_t) {
    const Ints given = bits(v), u = given & 0x7fffffff, sign = given & ~0x7fffffff;
    const Ints held = smaller(u, every(f.max)), mantissa = held & 0x7fffff;
    const Ints part = mantissa >> (23 - BITS);
    const Ints bound = look_up<SIZE>(least, part), low = look_up<SIZE>(below, part);
    const Ints high = look_up<SIZE>(above, part);
    Ints y = held - mantissa + (mantissa >= bound ? high : low);
    y = u < f.least_magnitude ? Ints{} : larger(y, every(f.min));
    y = sign != 0 ? (y == 0 ? y : y | sign) & f.is_signed : y;
    return floats(u > 0x7f800000 ? given | 0x400000 : y);
  });
}
#endif

void octaves(const float* x, int64_t n, const dv::Octaves& format, float* out) {
#if defined(__AVX2__)
  if (format.bits <= 4)
    return format.bits == 4 ? octaves_in_registers<4>(x, n, format, out)
                            : octaves_in_registers<3>(x, n, format, out);
  if (format.bits == 5)
    return octaves_in_registers<5>(x, n, format, out);
  if (format.bits == 6)
    return octaves_in_registers<6>(x, n, format, out);
#endif
  const dv::Octaves f = format;
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++) {
    int32_t given;
    memcpy(&given, &x[i], sizeof given);
    const int32_t u = given & 0x7fffffff, sign = given & ~0x7fffffff;
    const int32_t held = u < f.max ? u : f.max, mantissa = held & 0x7fffff;
    const int32_t part = mantissa >> (23 - f.bits);
    const int32_t low = f.below[part], high = f.above[part];
    int32_t y = held - mantissa + (mantissa >= f.least[part] ? high : low);
    y = y > f.min ? y : f.min;
    y = u < f.least_magnitude ? 0 : y;
    y = sign != 0 ? (y == 0 ? 0 : y | sign) & f.is_signed : y;
    y = u > 0x7f800000 ? given | 0x400000 : y;
    memcpy(&out[i], &y, sizeof y);
  }
}

} // namespace
