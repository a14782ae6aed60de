// The largest pixel of each window and where it lies, as torch's own kernel finds them: pixel by
// pixel of the window, a later one only where it is larger, or NaN. Here the innermost loop is over
// neighbouring windows, so that a compiler makes vectors of it.
#ifndef DOVETAIL_POOLS_H
#define DOVETAIL_POOLS_H
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace dovetail_pools {

struct Axis {
  int64_t size, count, kernel, stride, padding, dilation;
  // The first pixel of a window that is one of the image.
  int64_t first(int64_t window) const {
    int64_t at = window * stride - padding;
    while (at < 0)
      at += dilation;
    return at;
  }
  // Of the windows from `begin` to `end`, those whose pixel `k` is one of the image.
  int64_t low(int64_t k, int64_t begin) const {
    const int64_t off = padding - k * dilation;
    return std::max(begin, off > 0 ? (off + stride - 1) / stride : 0);
  }
  int64_t high(int64_t k, int64_t end) const {
    const int64_t last = size - 1 + padding - k * dilation;
    return last < 0 ? 0 : std::min(end, last / stride + 1);
  }
};

template <Axis Y, Axis X, typename T> void plane(const T *x, T *y, int64_t *where) {
  constexpr int64_t SOME = 256; // windows of a row at a time
  T best[SOME];
  int32_t at[SOME];
  for (int64_t oy = 0; oy < Y.count; ++oy)
    for (int64_t begin = 0; begin < X.count; begin += SOME) {
      const int64_t end = std::min(begin + SOME, X.count);
      for (int64_t ox = begin; ox < end; ++ox) {
        best[ox - begin] = -INFINITY;
        at[ox - begin] = int32_t(Y.first(oy) * X.size + X.first(ox));
      }
      for (int64_t ky = 0; ky < Y.kernel; ++ky) {
        const int64_t iy = oy * Y.stride + ky * Y.dilation - Y.padding;
        if (iy < 0 || iy >= Y.size)
          continue;
        for (int64_t kx = 0; kx < X.kernel; ++kx) {
          const int64_t move = iy * X.size + kx * X.dilation - X.padding;
          const int64_t low = X.low(kx, begin), high = X.high(kx, end);
#pragma GCC ivdep
          for (int64_t ox = low; ox < high; ++ox) {
            const T value = x[move + ox * X.stride];
            const bool larger = value > best[ox - begin] || value != value;
            best[ox - begin] = larger ? value : best[ox - begin];
            at[ox - begin] = larger ? int32_t(move + ox * X.stride) : at[ox - begin];
          }
        }
      }
      for (int64_t ox = begin; ox < end; ++ox) {
        y[oy * X.count + ox] = best[ox - begin];
        if (where)
          where[oy * X.count + ox] = at[ox - begin];
      }
    }
}

template <Axis Y, Axis X, typename T>
void largest(const T *x, int64_t planes, T *y, int64_t *where) {
  constexpr int64_t pixels = Y.count * X.count;
#pragma omp parallel for if (planes * pixels * Y.kernel * X.kernel > 20000)
  for (int64_t p = 0; p < planes; ++p)
    plane<Y, X>(x + p * Y.size * X.size, y + p * pixels, where ? where + p * pixels : nullptr);
}

} // namespace dovetail_pools
#endif
