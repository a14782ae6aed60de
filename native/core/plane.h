// Stretches of a tensor as floats, and the loop over them.
#pragma once
#include "core/rounder.h"
#include "core/threads.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace dv {

// The longest stretch that is worked on at a time: a few of them fit the first cache.
constexpr int64_t CHUNK = 1024;
// What single values are worked on by at a time, and how far ahead of it memory is fetched. The
// hardware follows a stream, but not over the end of a page: this took a third of the time.
constexpr int64_t STRETCH = 256, AHEAD = 1024;

// Rounding to nearest and subnormal numbers, whatever the thread was set to; restored at the end.
class ExactFloats {
public:
#if defined(__SSE2__)
  ExactFloats() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~ExactFloats() { _mm_setcsr(before_); }

private:
  unsigned before_;
#elif defined(__aarch64__)
  ExactFloats() : before_(get()) { set(0); }
  ~ExactFloats() { set(before_); }

private:
  static uint64_t get() {
    uint64_t state;
    asm volatile("mrs %0, fpcr" : "=r"(state));
    return state;
  }
  static void set(uint64_t state) { asm volatile("msr fpcr, %0" : : "r"(state)); }

  uint64_t before_;
#else
  ExactFloats() {}
  ~ExactFloats() {}
#endif
};

// A tensor's stretches as `Float`s: where they lie, or converted in a buffer of CHUNK values.
template <typename Float> class Plane {
public:
  explicit Plane(const dv_tensor& t)
      : in_(static_cast<const uint8_t*>(t.x)), out_(static_cast<uint8_t*>(t.out)), dtype_(t.dtype) {
  }

  const Float* load(int64_t at, int64_t n, Float* buffer) const;
  Float* target(int64_t at, Float* buffer) const {
    return direct() ? reinterpret_cast<Float*>(out_) + at : buffer;
  }
  // After the result was written to the target: to its place, if that was a buffer.
  void store(int64_t at, int64_t n, Float* result, bool finite) const;

  // Starts fetching values from..from+n: the hardware follows a stream of its own accord, but not
  // while a stretch is worked on a second time. Places behind the tensor do no harm.
  void prefetch(int64_t from, int64_t n) const {
    const int64_t size = dtype_ == DV_FLOAT64 ? 8 : dtype_ == DV_FLOAT32 ? 4 : 2;
    for (int64_t byte = from * size; byte < (from + n) * size; byte += 64)
      __builtin_prefetch(in_ + byte);
  }

  // Whether stretches are used where they lie.
  bool direct() const { return dtype_ == (sizeof(Float) == 4 ? DV_FLOAT32 : DV_FLOAT64); }

private:
  const uint8_t* in_;
  uint8_t* out_;
  int32_t dtype_;
};

// The words of elements from..from+n; null if the mode is not stochastic. `buffer` has CHUNK + 8.
inline const uint32_t* random_words(const dv_tensor& t, int mode, int64_t from, int64_t n,
                                    uint32_t* buffer) {
  if (mode != DV_STOCHASTIC)
    return nullptr;
  const int64_t first = from >> 2, last = (from + n + 3) >> 2;
  casts().philox(t.seed, (uint64_t)first, last - first, buffer);
  return buffer + (from & 3);
}

// Shapes and dtypes that the casts take.
bool valid(const dv_tensor&);

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Calls work(at, n) for stretches of at most STRETCH neighbours, over all threads.
template <typename Work> void stretches(int64_t total, Work&& work) {
  const int64_t piece = 16 * CHUNK;
  parallel((total + piece - 1) / piece, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    const int64_t last = smaller(end * piece, total);
    for (int64_t at = begin * piece; at < last; at += STRETCH)
      work(at, smaller(STRETCH, last - at));
  });
}

} // namespace dv
