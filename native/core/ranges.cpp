// What is found of a tensor before it is cast: ranges of its values, and its largest magnitude.
#include "core/tiles.h"

#include <atomic>
#include <limits.h>
#include <math.h>
#include <vector>

namespace dv {

namespace {

// Takes `value` where it is larger. Whatever the order of the threads, the largest remains.
void raise(std::atomic<int32_t>& most, int32_t value) {
  int32_t seen = most.load(std::memory_order_relaxed);
  while (value > seen && !most.compare_exchange_weak(seen, value)) {
  }
}

// Floats as integers in the same order, and back.
int32_t in_order(float x) {
  const int32_t bits = bits_of(x);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
float from_order(int32_t key) {
  const int32_t bits = key ^ ((key >> 31) & 0x7fffffff);
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

// Ends that several threads widen.
class Shared {
public:
  explicit Shared(int64_t n) : low_((size_t)n), high_((size_t)n) {
    for (int64_t i = 0; i < n; i++) {
      low_[(size_t)i] = INT32_MIN;
      high_[(size_t)i] = INT32_MIN;
    }
  }
  void widen(int64_t i, float low, float high) {
    raise(low_[(size_t)i], ~in_order(low)); // ~ turns the order round
    raise(high_[(size_t)i], in_order(high));
  }
  void write(float* low, float* high) const {
    for (size_t i = 0; i < low_.size(); i++) {
      low[i] = from_order(~low_[i].load());
      high[i] = from_order(high_[i].load());
    }
  }

private:
  std::vector<std::atomic<int32_t>> low_, high_;
};

// Stretches of memory of which each belongs to one index of `length`.
void ends_of_rows(const dv_tensor& t, Shared& ends) {
  const Plane<float> plane(t);
  const int64_t total = t.outer * t.length * t.inner, row = t.length == 1 ? total : t.inner;
  const int64_t piece = 16 * CHUNK, pieces = (row + piece - 1) / piece;
  parallel(total / row * pieces, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    float buffer[CHUNK];
    for (int64_t task = begin; task < end; task++) {
      const int64_t first = task / pieces * row, from = first + task % pieces * piece;
      const int64_t last = smaller(from + piece, first + row);
      float low = INFINITY, high = -INFINITY;
      for (int64_t at = from; at < last; at += CHUNK) {
        const int64_t n = smaller(CHUNK, last - at);
        float least, most;
        plane.prefetch(at + CHUNK, n);
        casts().extremes_of_runs(plane.load(at, n, buffer), 1, n, &least, &most);
        low = least < low ? least : low;
        high = most > high ? most : high;
      }
      ends.widen(task / pieces % t.length, low, high);
    }
  });
}

// Rows in which each place has an index of its own.
void ends_of_columns(const dv_tensor& t, Shared& ends) {
  const Plane<float> plane(t);
  constexpr int64_t ROWS = 8; // at a time
  const int64_t strips = (t.length + CHUNK - 1) / CHUNK, rows = 256;
  const int64_t parts = (t.outer + rows - 1) / rows;
  parallel(strips * parts, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    float buffer[CHUNK], low[CHUNK], high[CHUNK];
    for (int64_t task = begin; task < end; task++) {
      const int64_t column = task % strips * CHUNK, n = smaller(CHUNK, t.length - column);
      const int64_t first = task / strips * rows, last = smaller(first + rows, t.outer);
      for (int64_t i = 0; i < n; i++) {
        low[i] = INFINITY;
        high[i] = -INFINITY;
      }
      for (int64_t row = first, some; row < last; row += some) {
        some = plane.direct() ? smaller(ROWS, last - row) : 1;
        const float* x = plane.load(row * t.length + column, n, buffer);
        casts().extremes_so_far(x, some, t.length, n, low, high);
      }
      for (int64_t i = 0; i < n; i++)
        ends.widen(column + i, low[i] + 0.0f, high[i] + 0.0f); // +0, not -0
    }
  });
}

// The bits of the largest magnitude of all; those of infinity or NaN where there are such.
int32_t largest_of_all(const dv_tensor& t) {
  std::atomic<int32_t> found{0};
  const Plane<float> plane(t);
  const int64_t total = t.outer * t.length * t.inner, piece = 16 * CHUNK;
  parallel((total + piece - 1) / piece, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    float buffer[CHUNK];
    const int64_t last = smaller(end * piece, total);
    int32_t most = 0;
    for (int64_t at = begin * piece; at < last; at += CHUNK) {
      const int64_t n = smaller(CHUNK, last - at);
      int32_t some;
      plane.prefetch(at + CHUNK, n);
      casts().f32.largest_of_runs(plane.load(at, n, buffer), 1, n, &some);
      most = some > most ? some : most;
    }
    raise(found, most);
  });
  return found.load();
}

// The same of the blocks that are finite throughout.
int32_t largest_of_finite(const dv_tensor& t, int64_t block) {
  std::atomic<int32_t> found{0};
  const Plane<float> plane(t);
  tiles(t, block, [&](const Tile& tile) {
    float buffer[CHUNK];
    Largest<float> largest;
    largest.find(plane, tile, buffer);
    raise(found, casts().largest_finite(largest.most, tile.blocks()));
  });
  return found.load();
}

} // namespace
} // namespace dv

using namespace dv;

int32_t dv_largest(const dv_tensor* t, int64_t block, double* out) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || block < 1)
    return DV_BAD_SHAPE;
  int32_t bits = largest_of_all(*t);
  if (bits >= 0x7f800000)
    bits = largest_of_finite(*t, block);
  *out = from_order(bits);
  return DV_OK;
}

int32_t dv_extremes(const dv_tensor* t, float* low, float* high) {
  if (!valid(*t) || t->dtype == DV_FLOAT64 || t->outer * t->length * t->inner == 0)
    return DV_BAD_SHAPE;
  Shared ends(t->length);
  if (t->inner == 1 && t->length > 1)
    ends_of_columns(*t, ends);
  else
    ends_of_rows(*t, ends);
  ends.write(low, high);
  return DV_OK;
}
