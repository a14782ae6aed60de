// A step function's keys in the order in which a binary search meets them.
#pragma once
#include "dovetail_cast.h"
#include "kernels/casts.h"

namespace dv {

inline bool valid(const dv_steps& s) {
  return s.count >= 1 && s.shift >= 1 && s.shift <= 31 && s.halvings >= 0 && s.halvings <= 16;
}

struct SearchTree {
  Steps steps;

  explicit SearchTree(const dv_steps& s)
      : steps{s.key, s.value, s.find, s.count, s.shift, s.halvings, tree_, 4} {
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
  int32_t tree_[8 * 128];
  float value_[256];
};

} // namespace dv
