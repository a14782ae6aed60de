// Layers of a floating-point multiplier against plain loops, on every level, with buffers of the
// exact size, so that the sanitizers see any read or write outside them.
#include "float_case.h"

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(15, 31, 39),
      linear(8, 300, 3),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 17, 5, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
  };
  int failures = 0;
  each_level([&] {
    for (const dv_shape& shape : shapes)
      for (int32_t form = 0; form < 3; form++)
        for (int32_t m : {0, 1, 3, 4, 7, 10}) {
          const FloatMul f(form, m);
          for (int32_t binades : {3, 70})
            if (!float_case(shape, f, binades, binades > 3)) {
              printf("%s: form %d, m %d, binades %d, %d channels, linear %d\n", dv_level(), form, m,
                     binades, (int)shape.channels, shape.linear);
              failures++;
            }
        }
  });
  return conclude(failures);
}
