// Products of wide operands against plain loops, on every level, with buffers of the exact size, so
// that the sanitizers see any read or write outside them.
#include "wide_case.h"

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(45, 31, 39),
      linear(20, 90, 3),
      linear(3, 2000, 5),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 40, 5, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
  };
  Tables small(12, 9), split(16, 16), large(16, 16), log(16, 16), narrow(10, 12), ored(16, 15);
  small.factors(1, 1, 300);
  split.factors(2, 3, 2047);
  large.factors(1, 2, 30000);
  log.logarithms(DV_WIDE_LOG);
  narrow.logarithms(DV_WIDE_LOG);
  ored.logarithms(DV_WIDE_LOG_OR);
  int failures = 0;
  each_level([&] {
    for (const dv_shape& shape : shapes)
      for (const Tables* tables : {&small, &split, &large, &log, &narrow, &ored})
        if (!wide_case(shape, *tables)) {
          printf("%s: outputs %d, channels %d, law %d, %d segments differ\n", dv_level(),
                 (int)shape.outputs, (int)shape.channels, tables->wide.law, tables->wide.segments);
          failures++;
        }
  });
  return conclude(failures);
}
