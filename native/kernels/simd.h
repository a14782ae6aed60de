// Headers of the kernels. No C++ library here: its inline functions would be emitted as weak
// symbols, and the linker might keep the copy compiled for the widest instruction set.
#pragma once
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
