// Sums through an accumulator against plain loops, on every level, with buffers of the exact size,
// so that the sanitizers see any read or write outside them.
#include "accumulate_case.h"

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(45, 31, 39),
      linear(20, 90, 3),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 40, 5, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
  };
  const dv_accumulator accumulators[] = {
      integer_register(DV_SATURATE, 16, 0, 0),
      integer_register(DV_SATURATE, 12, 0, 0),
      integer_register(DV_SATURATE, 19, 0, 0),
      integer_register(DV_SATURATE, 17, 0, 4),
      integer_register(DV_WRAP, 17, 0, 0),
      integer_register(DV_LOA, 24, 6, 0),
      floating_register(DV_SINGLE, 23, -149, 0x1.fffffep127),
      floating_register(DV_HALF, 10, -24, 65504),
      floating_register(DV_BRAIN, 7, -133, 0x1.fep127),
  };
  const Sources codes(DV_CODES, 0, false), narrow(DV_LOOKUP, 300, false),
      wide(DV_LOOKUP, 1 << 16, false), values(DV_VALUES, 0, false);
  int failures = 0;
  each_level([&] {
    for (const dv_shape& shape : shapes)
      for (const dv_accumulator& acc : accumulators)
        for (const Sources* sources : {&codes, &narrow, &wide, &values}) {
          if (sources == &values && acc.kind != DV_FLOATING)
            continue;
          if (!accumulate_case(shape, *sources, acc)) {
            printf("%s: outputs %d, kind %d of %d bits, known %d, source %d, bound %d differ\n",
                   dv_level(), (int)shape.outputs, acc.kind, acc.bits, acc.known,
                   sources->products.source, (int)sources->products.bound);
            failures++;
          }
        }
  });
  return conclude(failures);
}
