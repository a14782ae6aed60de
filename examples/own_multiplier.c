// An 8-bit multiplier of one's own: the four lowest columns of partial products are left out, and
// a constant makes up for their mean.
#include <stdint.h>

int16_t no_low_columns(int8_t input, int8_t weight) {
  int sum = 0;
  for (int i = 0; i < 8; ++i) {
    for (int j = 0; j < 8; ++j) {
      if (i + j < 4) continue;
      int sign = (i == 7) != (j == 7) ? -1 : 1;
      sum += sign * (((input >> i) & 1) * ((weight >> j) & 1) << (i + j));
    }
  }
  return (int16_t)(sum + 12);
}
