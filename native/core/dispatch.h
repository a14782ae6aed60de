// The level in use.
#pragma once
#include "kernels/kernels.h"

#include <stddef.h>
#include <string.h>

namespace dv {

const Kernels& kernels();

// Its place in a list of one entry per level.
template <typename K, size_t N> int64_t level_in(const K* const (&levels)[N]) {
  for (size_t i = 0; i < N; i++)
    if (!strcmp(levels[i]->name, kernels().name))
      return (int64_t)i;
  return 0;
}

} // namespace dv
