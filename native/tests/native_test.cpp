// The C interface against a plain triple loop, on every level, with buffers of the exact size, so
// that the sanitizers see any read or write outside them.
#include "mac_case.h"

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(45, 21, 39),
      linear(37, 66, 11),
      linear(20, 300, 70),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 4, 12, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
  };
  const int32_t forms[][2] = {{0, 0}, {1, 0}, {3, 0}, {1, 1}, {2, 3}}; // rank, lookups
  int failures = 0;
  each_level([&] {
    for (const auto& form : forms)
      for (int32_t high : {16000, 32767, 1 << 20})
        for (dv_shape shape : shapes) {
          if (form[0] && high != 16000)
            continue;
          shape.rank = form[0];
          shape.lookups = form[1];
          if (!mac_case(shape, high)) {
            printf("%s: rank %d, lookups %d, %d channels, linear %d, products up to %d differ\n",
                   dv_level(), form[0], form[1], (int)shape.channels, shape.linear, high);
            failures++;
          }
        }
  });
  std::vector<float> x(1001);
  for (size_t i = 0; i < x.size(); i++)
    x[i] = (float)uniform(-2000, 2000) / 8;
  std::vector<int8_t> codes(x.size());
  const float scale = 0.5f;
  const int32_t zero = 3;
  if (dv_quantize(x.data(), 1, 1, 1001, &scale, &zero, -128, 127, 1, codes.data()) != DV_OK)
    failures++;
  if (dv_set_level("nothing") != DV_BAD_LEVEL || dv_fingerprint(x.data(), 1001) == 0)
    failures++;
  return conclude(failures);
}
