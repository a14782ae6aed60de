// How the weights of a floating-point multiplier lie in memory.
//
// A linear layer's inputs are rows and its weights panels of lanes; a convolution's weights are
// rows, and its lanes are places of the padded image.
#pragma once
#include "core/layout.h"
#include "kernels/float_mul.h"

namespace dv {

bool sound(const dv_float_mul&);

// The kernels of a level.
const FloatKernels& float_kernels(int64_t level);

inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// More rows than any tile has: what tiles may read beyond the last row.
constexpr int64_t SPARE_ROWS = 8;

// One operand: floats as they were, words of them, what rows keep, and exponents of its parts.
struct FloatOperand {
  const float* raw = nullptr;
  uint32_t* words = nullptr;
  float* keep = nullptr;
  ExponentSpan* exponents = nullptr;
};

struct FloatHead {
  int64_t level;
};

// Sizes of packed weights; of a linear layer panels [k][lane], else rows [k], each operand twice or
// (rows of logarithms) three times.
struct FloatPacking {
  const FloatKernels& k;
  int64_t parts, part_words, words, copies;

  FloatPacking(const Layout& l, const dv_float_mul& mul, int64_t level);

  int64_t bytes() const {
    return 64 + copies * words * 4 + parts * (int64_t)sizeof(ExponentSpan) + 64;
  }

  FloatOperand at(const void* packed) const {
    float* data = static_cast<float*>(const_cast<void*>(packed)) + 16;
    FloatOperand o;
    o.raw = data;
    o.words = reinterpret_cast<uint32_t*>(data + words);
    o.keep = copies == 3 ? data + 2 * words : nullptr;
    o.exponents = reinterpret_cast<ExponentSpan*>(data + copies * words);
    return o;
  }
};

} // namespace dv
