// CUDA on the processor, for tests: the threads of a block are fibers that a launch runs one after
// the other, each up to the next point where it waits for others. A launch fails where a GPU might:
// on another stream than the one that is given, with a grid or a block that is too large, and where
// threads of a block wait at different points.
#ifndef CUDA_ON_CPU_H
#define CUDA_ON_CPU_H
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __CUDACC__ 1
#define __global__ static
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
typedef void* cudaStream_t;
typedef void* cudaEvent_t;
enum cudaError_t { cudaSuccess, cudaWrongStream, cudaTooLarge, cudaDivergent, cudaNotGiven };
enum { cudaStreamNonBlocking, cudaEventDisableTiming };
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice };

inline const char* cudaGetErrorString(cudaError_t error) {
  static const char* const texts[] = {
      "no error", "a launch on another stream", "a grid or a block is too large",
      "threads of a block wait at different points", "no such thing on a processor"};
  return texts[error];
}
namespace on_cpu {
inline cudaError_t last = cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return std::exchange(on_cpu::last, cudaSuccess); }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaMalloc(void** made, size_t bytes) {
  return *made = std::malloc(bytes), cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) { return std::free(memory), cudaSuccess; }
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* made, unsigned) {
  return *made = nullptr, cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }

namespace on_cpu {
enum Point { NOWHERE, BLOCK, WARP, END };
struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  Point at;
  uint64_t word;
};
inline std::vector<Fiber> fibers(1024);
inline ucontext_t scheduler;
inline unsigned current;
inline const cudaStream_t stream = reinterpret_cast<cudaStream_t>(0x5eed);

inline void wait(Point where) {
  fibers[current].at = where;
  swapcontext(&fibers[current].context, &scheduler);
}
} // namespace on_cpu

inline dim3 gridDim, blockDim, blockIdx, threadIdx;

inline void __syncthreads() { on_cpu::wait(on_cpu::BLOCK); }

template <typename T> T __shfl_xor_sync(unsigned, T value, int mask) {
  using namespace on_cpu;
  std::memcpy(&fibers[current].word, &value, sizeof value);
  wait(WARP);
  std::memcpy(&value, &fibers[current ^ unsigned(mask)].word, sizeof value);
  wait(WARP);
  return value;
}

namespace on_cpu {
template <typename Body> struct Launch {
  static inline Body* body;
  static void enter() {
    (*body)();
    wait(END);
  }
};

// One block; `backwards` runs its threads from the last to the first.
template <typename Body> cudaError_t run_block(Body& body, unsigned threads, bool backwards) {
  Launch<Body>::body = &body;
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& fiber = fibers[t];
    fiber.stack.resize(1 << 16);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, Launch<Body>::enter, 0);
  }
  for (Point all = NOWHERE; all != END;) {
    for (unsigned i = 0; i < threads; ++i) {
      const unsigned t = backwards ? threads - 1 - i : i;
      current = t;
      threadIdx = dim3(t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y);
      swapcontext(&scheduler, &fibers[t].context);
      if (i && fibers[t].at != all)
        return cudaDivergent;
      all = fibers[t].at;
    }
  }
  return cudaSuccess;
}

template <typename... A, size_t... I>
cudaError_t launch(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  static bool backwards = false;
  auto body = [&] { kernel(*static_cast<A*>(arguments[I])...); };
  backwards = !backwards;
  for (unsigned z = 0; z < gridDim.z; ++z)
    for (unsigned y = 0; y < gridDim.y; ++y)
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = dim3(x, y, z);
        const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
        if (const cudaError_t failed = run_block(body, threads, backwards))
          return failed;
      }
  return cudaSuccess;
}
} // namespace on_cpu

template <typename... A>
cudaError_t cudaLaunchKernel(void (*kernel)(A...), dim3 grid, dim3 block, void** arguments, size_t,
                             cudaStream_t stream) {
  if (stream != on_cpu::stream)
    return cudaWrongStream;
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
      block.x * block.y * block.z > 1024 || block.z > 64)
    return cudaTooLarge;
  gridDim = grid;
  blockDim = block;
  return on_cpu::launch(kernel, arguments, std::index_sequence_for<A...>());
}

namespace on_cpu {
// kernel<<<grid, block, shared, stream>>>(arguments...); its error is the last one.
template <typename... A>
auto launched(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
  return [=](A... given) {
    void* arguments[] = {&given...};
    last = cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
  };
}
} // namespace on_cpu
#endif
