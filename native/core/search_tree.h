// A step function in the orders in which kernels look it up: a binary search's, or equal cells.
#pragma once
#include "dovetail_cast.h"
#include "kernels/casts.h"

#include <math.h>
#include <string.h>

namespace dv {

inline bool valid(const dv_steps& s) {
  return s.count >= 1 && s.shift >= 1 && s.shift <= 31 && s.halvings >= 0 && s.halvings <= 16;
}

class SearchTree {
public:
  Steps steps;

  explicit SearchTree(const dv_steps& s)
      : steps{s.key, s.value, s.find, s.count, s.shift, s.halvings, tree_, 4, nullptr, 0, 0, 0, 0} {
    divide(s);
    while (s.count > 1 << steps.levels)
      steps.levels++;
    if (steps.levels > 8) {
      steps.levels = 0;
      return;
    }
    const int32_t size = 1 << steps.levels;
    for (int32_t level = 0; level < steps.levels; level++)
      for (int32_t i = 0; i < 1 << level || i < 16; i++) {
        const int32_t place = ((2 * i + 1) << (steps.levels - level - 1)) & (size - 1);
        tree_[level * 128 + i] = place < s.count ? s.key[place] : INT32_MAX;
      }
    for (int32_t i = 0; i < size; i++)
      value_[i] = s.value[i < s.count ? i : s.count - 1];
    steps.value = value_;
  }
  SearchTree(const SearchTree&) = delete;
  SearchTree& operator=(const SearchTree&) = delete;

private:
  static float number(int32_t key) {
    const int32_t bits = key ^ ((key >> 31) & 0x7fffffff);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
  }

  // The cell of x, as kernels find it.
  int32_t cell(float x) const { return (int32_t)(fmaf(x, steps.slope, steps.origin) - 0x1.8p23f); }

  // Cells, if each key gets one of its own. They never fall as x grows: what is not above a key in
  // a lower cell lies below it, whatever x is.
  void divide(const dv_steps& s) {
    // A key at +0 would part it from -0, which are equal as numbers.
    for (int32_t i = 1; i < s.count; i++)
      if (s.key[i] == 0)
        return;
    if (s.count < 2 || s.count > CELLS + 1)
      return;
    const float first = number(s.key[1]), last = number(s.key[s.count - 1]);
    const float width = (last - first) / (CELLS - 3); // the first key lies in cell 0, 1 or 2
    if (!(first > -0x1p60f) || !(last < 0x1p60f) || (s.count > 2 && !(width > 0x1p-60f)))
      return;
    steps.low = number(s.key[1] - 1); // the largest number below all keys
    steps.high = last;
    steps.slope = s.count > 2 ? 1 / width : 0;
    if (!(fabsf(first) * steps.slope < 0x1p20f))
      return;
    steps.origin = 0x1.8p23f + rintf(1 - first * steps.slope);
    float *key = cells_, *below = cells_ + CELLS, *from = below + CELLS;
    int32_t next = 0; // the first cell without entries
    for (int32_t i = 1; i < s.count; i++) {
      const float x = number(s.key[i]);
      const int32_t place = cell(x);
      if (place < next || place >= CELLS)
        return;
      for (; next <= place; next++) {
        key[next] = x;
        below[next] = from[next] = s.value[i - 1];
      }
      from[place] = s.value[i];
    }
    for (; next < CELLS; next++) {
      key[next] = last;
      below[next] = from[next] = s.value[s.count - 1];
    }
    if (cell(steps.low) >= 0)
      steps.cells = cells_;
  }

  int32_t tree_[8 * 128];
  float value_[256], cells_[3 * CELLS];
};

} // namespace dv
