// Products of block formats against plain loops, on every level, with buffers of the exact size, so
// that the sanitizers see any read or write outside them.
#include "block_case.h"

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(45, 71, 39),
      linear(20, 300, 3),
      linear(17, 3 * 40, 3 * 9, 3),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 70, 5, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
  };
  int failures = 0;
  each_level([&] {
    for (const dv_shape& shape : shapes)
      for (const dv_block_format& format : BLOCK_FORMATS)
        for (int32_t binades : {3, 50})
          for (int32_t variant : {0, 1, 2})
            if (!block_case(shape, format, binades, variant == 1, variant == 2 ? 3 : 1)) {
              printf("%s: outputs %d, block %d, most %g, variant %d differ\n", dv_level(),
                     (int)shape.outputs, (int)format.block, format.most, variant);
              failures++;
            }
  });
  return conclude(failures);
}
