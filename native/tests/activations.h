// The activations of an op: codes, or numbers that the op quantises to them.
#pragma once
#include "support.h"

#include <math.h>
#include <vector>

namespace {

// The code of a number, by its definition.
inline int32_t quantised(float x, float scale, int32_t zero, int32_t least, int32_t most) {
  const float code = nearbyintf(x / scale) + (float)zero; // clamped below: infinities too
  return code != code ? zero : code<(float)least ? least : code>(float) most ? most : (int32_t)code;
}

template <typename Code> struct Activations {
  std::vector<float> x;
  std::vector<Code> codes;
  dv_input input;

  // Codes are any, or (`floats`) those of numbers, clamped to least..most.
  Activations(size_t n, bool floats, int32_t least, int32_t most) : x(n), codes(n) {
    const int32_t zero = uniform(least > -100 ? least : -100, most < 100 ? most : 100);
    const float unit = ldexpf((float)uniform(100, 300), -12);
    for (size_t i = 0; i < n; i++) {
      const int32_t kind = uniform(0, 40);
      x[i] = (float)uniform(-999, 999) / 64;
      x[i] = kind == 0 ? NAN : kind == 1 ? -INFINITY : kind == 2 ? (float)(i % 8) * unit / 2 : x[i];
      codes[i] = (Code)(floats ? quantised(x[i], unit, zero, least, most) : uniform(-65536, 65535));
    }
    input = {floats ? (const void*)x.data() : codes.data(),    !floats, unit, zero, least, most,
             sizeof(Code) == 1 ? (int32_t)(uint8_t)zero : zero};
  }
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  Code at(int64_t place) const { return place < 0 ? (Code)input.zero_point : codes[(size_t)place]; }
};

// How a layer finishes its sums: a scale and a bias for each output.
struct Finish {
  std::vector<float> scale, bias;

  explicit Finish(int64_t outputs) {
    for (int64_t n = 0; n < outputs; n++) {
      scale.push_back(ldexpf((float)uniform(1, 999), -10));
      bias.push_back((float)uniform(-999, 999) / 8);
    }
  }
  float operator()(float sum, int64_t n) const {
    const volatile float product = sum * scale[(size_t)n];
    return product + bias[(size_t)n];
  }
};

} // namespace
