// What generated CUDA needs besides CUDA itself: the part of DaCe's runtime that it uses (the whole
// of it takes a compiler ten times as long), the stream, and how threads that share a row fold what
// each of them has.
#ifndef DOVETAIL_DEVICE_H
#define DOVETAIL_DEVICE_H
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "dovetail_math.h"

// Where this thread's call runs: one GPU, and the stream that torch is working on.
inline thread_local int dovetail_device = 0;
inline thread_local cudaStream_t dovetail_stream = nullptr;

#ifdef DOVETAIL_WHOLE_RUNTIME // a transformation has put in what is not here
#include <dace/dace.h>
#else
#define DACE_EXPORTED extern "C"
#define DACE_ALIGN(bytes)
#define DACE_GPU_CHECK(call)                                                                       \
  do {                                                                                             \
    const cudaError_t failed = (call);                                                             \
    if (failed != cudaSuccess && __state->gpu_context)                                             \
      __state->gpu_context->record_error(failed);                                                  \
  } while (0)
#define DACE_KERNEL_LAUNCH_CHECK(failed, ...)                                                      \
  do {                                                                                             \
    if ((failed) != cudaSuccess)                                                                   \
      __state->gpu_context->record_error(failed);                                                  \
  } while (0)

typedef cudaStream_t gpuStream_t;
typedef cudaEvent_t gpuEvent_t;
typedef cudaError_t gpuError_t;
#define gpuGetErrorString cudaGetErrorString

namespace dace {
typedef __half half;
typedef int64_t int64;

namespace cuda {
struct Context {
  gpuStream_t *streams, *internal_streams;
  gpuEvent_t* events;
  gpuError_t lasterror = cudaSuccess;
  Context(int streams_, int events_)
      : streams(new gpuStream_t[streams_]), internal_streams(new gpuStream_t[streams_]),
        events(new gpuEvent_t[events_]) {}
  ~Context() {
    delete[] streams;
    delete[] internal_streams;
    delete[] events;
  }
  // The first error is kept: the later ones are its consequences.
  void record_error(gpuError_t error) {
    if (lasterror == cudaSuccess)
      lasterror = error;
  }
};
} // namespace cuda

enum class ReductionType { Sum, Product, Max, Min };

// How a thread adds to what is its own.
template <typename T> struct wcr_custom {
  template <typename F> __device__ static T reduce(F combine, T* into, const T& value) {
    return *into = combine(*into, value);
  }
};
template <ReductionType kind, typename T> struct wcr_fixed {
  __device__ static T reduce(T* into, const T& value) {
    const T old = *into;
    if constexpr (kind == ReductionType::Sum)
      return *into = old + value;
    else if constexpr (kind == ReductionType::Product)
      return *into = old * value;
    else if constexpr (kind == ReductionType::Max)
      return *into = value > old ? value : old;
    else
      return *into = value < old ? value : old;
  }
};
} // namespace dace

// The quotient of an index and a size: both are positive or zero.
template <typename A, typename B> __host__ __device__ constexpr auto int_floor(A a, B b) {
  return a / b;
}
template <typename A, typename B> __host__ __device__ constexpr auto int_ceil(A a, B b) {
  return (a + b - 1) / b;
}
// The remainder has the sign of the divisor.
template <typename A, typename B>
__host__ __device__ constexpr std::common_type_t<A, B> py_mod(A a, B b) {
  const std::common_type_t<A, B> rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}
// The quotient, rounded down.
template <typename A, typename B>
__host__ __device__ constexpr std::common_type_t<A, B> py_floor(A a, B b) {
  const std::common_type_t<A, B> quotient = a / b;
  if constexpr (std::is_integral_v<A> && std::is_integral_v<B>)
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
  else
    return std::floor(quotient);
}
// What tasklets and indices call by these names; no number among them is NaN.
#define DV_EXTREME(name, sign)                                                                     \
  template <typename A, typename B>                                                                \
  __host__ __device__ constexpr std::common_type_t<A, B> name(A a, B b) {                          \
    return a sign b ? a : b;                                                                       \
  }
DV_EXTREME(min, <)
DV_EXTREME(max, >)
DV_EXTREME(Min, <)
DV_EXTREME(Max, >)
#undef DV_EXTREME
#endif

#ifdef __CUDACC__
constexpr int dv_warp = 32;

// The value that the lane with the other value of the bit `mask` has.
template <typename T> __device__ inline T dv_other(T x, int mask) {
  if constexpr (sizeof(T) == 8) {
    long long bits;
    std::memcpy(&bits, &x, 8);
    bits = __shfl_xor_sync(0xffffffffu, bits, mask);
    std::memcpy(&x, &bits, 8);
  } else {
    static_assert(sizeof(T) <= 4);
    int bits = 0;
    std::memcpy(&bits, &x, sizeof(T));
    bits = __shfl_xor_sync(0xffffffffu, bits, mask);
    std::memcpy(&x, &bits, sizeof(T));
  }
  return x;
}

// Every thread gets the same bits: at each step the lower lane's value comes first.
template <typename T, typename Combine> __device__ inline T dv_over_warp(T x, Combine combine) {
  const int lane = threadIdx.x % dv_warp;
  for (int mask = 1; mask < dv_warp; mask *= 2) {
    const T other = dv_other(x, mask);
    x = lane & mask ? combine(other, x) : combine(x, other);
  }
  return x;
}

// A block of one row: its warps leave their parts in shared memory.
template <typename T, typename Combine> __device__ inline T dv_over_block(T x, Combine combine) {
  __shared__ T part[dv_warp];
  x = dv_over_warp(x, combine);
  __syncthreads(); // what was read of it before has been read
  if (threadIdx.x % dv_warp == 0)
    part[threadIdx.x / dv_warp] = x;
  __syncthreads();
  x = part[0];
  for (int warp = 1; warp < int(blockDim.x) / dv_warp; ++warp)
    x = combine(x, part[warp]);
  return x;
}

// A block of 32 rows, one per lane: its warps have parts of each.
template <typename T, typename Combine> __device__ inline T dv_over_columns(T x, Combine combine) {
  __shared__ T part[dv_warp][dv_warp];
  __syncthreads();
  part[threadIdx.y][threadIdx.x] = x;
  __syncthreads();
  x = part[0][threadIdx.x];
  for (int warp = 1; warp < int(blockDim.y); ++warp)
    x = combine(x, part[warp][threadIdx.x]);
  return x;
}

#define DV_FOLDS(kind, value)                                                                      \
  template <typename T> struct dv_combine_##kind {                                                 \
    __device__ T operator()(T a, T b) const { return value; }                                      \
  };                                                                                               \
  template <typename T> __device__ inline T dv_warp_##kind(T x) {                                  \
    return dv_over_warp(x, dv_combine_##kind<T>());                                                \
  }                                                                                                \
  template <typename T> __device__ inline T dv_block_##kind(T x) {                                 \
    return dv_over_block(x, dv_combine_##kind<T>());                                               \
  }                                                                                                \
  template <typename T> __device__ inline T dv_columns_##kind(T x) {                               \
    return dv_over_columns(x, dv_combine_##kind<T>());                                             \
  }
DV_FOLDS(sum, a + b)
DV_FOLDS(prod, a* b)
DV_FOLDS(max, dv_max(a, b))
DV_FOLDS(min, dv_min(a, b))
#undef DV_FOLDS
#endif

#endif
