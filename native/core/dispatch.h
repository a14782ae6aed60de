// The level in use.
#pragma once
#include "kernels/kernels.h"

namespace dv {

const Kernels& kernels();

// Its place in lists of one entry per level.
int64_t level();

// Declares a table of functions per level, and `name_levels`, the list of them.
#if defined(__x86_64__)
#define DV_LEVELS(Type, name)                                                                      \
  extern const Type name##_scalar, name##_avx2, name##_avx512, name##_avx512vnni, name##_amx;      \
  static const Type* const name##_levels[] = {&name##_scalar, &name##_avx2, &name##_avx512,        \
                                              &name##_avx512vnni, &name##_amx}
#else
#define DV_LEVELS(Type, name)                                                                      \
  extern const Type name##_scalar;                                                                 \
  static const Type* const name##_levels[] = {&name##_scalar}
#endif

} // namespace dv
