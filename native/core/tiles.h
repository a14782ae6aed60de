// Casts of formats whose elements share a scale in blocks: how the tensor is gone through. Memory
// is read once, and nothing is transposed: blocks along the last axis are taken many at a time,
// blocks along another axis in strips of neighbouring columns.
#pragma once
#include "core/watch.h"

namespace dv {

// Blocks next to each other in memory: `rows` stretches of `n` values, `stride` apart. With
// `run` = 0 each column is a block; else each row holds blocks of `run` values, or, if that exceeds
// CHUNK, all rows are one block, the last of them shorter.
struct Tile {
  int64_t at, n, rows, stride, run;

  int64_t length(int64_t row) const { return run > CHUNK ? smaller(CHUNK, run - row * CHUNK) : n; }
  int64_t blocks() const { return run == 0 ? n : run > CHUNK ? 1 : n / run; }
};

inline Tile tile_of_runs(int64_t at, int64_t runs, int64_t block) {
  if (block > CHUNK)
    return {at, CHUNK, (block + CHUNK - 1) / CHUNK, CHUNK, block};
  return {at, runs * block, 1, 0, block};
}

// Calls work(tile) for tiles that cover the tensor, over all threads.
template <typename Work> void tiles(const dv_tensor& t, int64_t given, Work&& work) {
  if (t.outer * t.length * t.inner == 0)
    return;
  const int64_t block = smaller(given, t.length);
  if (t.inner == 1) {
    const bool even = t.length % block == 0;
    const int64_t length = even ? t.outer * t.length : t.length, rows = even ? 1 : t.outer;
    const int64_t full = length / block, tail = length % block;
    const int64_t each = block > CHUNK ? 1 : CHUNK / block;
    const int64_t groups = (full + each - 1) / each, per_row = groups + (tail > 0);
    parallel(rows * per_row, [&](int64_t begin, int64_t end) {
      const ExactFloats exact;
      for (int64_t task = begin; task < end; task++) {
        const int64_t start = task / per_row * length, group = task % per_row;
        if (group == groups)
          work(tile_of_runs(start + full * block, 1, tail));
        else
          work(tile_of_runs(start + group * each * block, smaller(each, full - group * each),
                            block));
      }
    });
    return;
  }
  const int64_t blocks = (t.length + block - 1) / block, strips = (t.inner + CHUNK - 1) / CHUNK;
  parallel(t.outer * blocks * strips, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    for (int64_t task = begin; task < end; task++) {
      const int64_t column = task % strips * CHUNK, first = task / strips % blocks * block;
      const int64_t at = (task / strips / blocks * t.length + first) * t.inner + column;
      work(
          Tile{at, smaller(CHUNK, t.inner - column), smaller(block, t.length - first), t.inner, 0});
    }
  });
}

// Calls runs(values, count, length) for a tile's blocks, or for each row of its only one, and
// columns(values, n) for each row where every column is a block.
template <typename Float, typename Runs, typename Columns>
void survey(const Plane<Float>& plane, const Tile& tile, Float* buffer, Runs&& runs,
            Columns&& columns) {
  for (int64_t row = 0; row < tile.rows; row++) {
    const int64_t n = tile.length(row);
    const Float* x = plane.load(tile.at + row * tile.stride, n, buffer);
    if (!tile.run)
      columns(x, n);
    else if (tile.run > CHUNK)
      runs(x, 1, n);
    else
      runs(x, n / tile.run, tile.run);
  }
}

// The largest magnitude of each block of a tile.
template <typename Float> struct Largest {
  using Int = typename Of<Float>::Int;
  Int most[CHUNK];

  void find(const Plane<Float>& plane, const Tile& tile, Float* buffer) {
    const FloatCasts<Float, Int>& k = Of<Float>::casts();
    if (tile.rows > 1 || !tile.run)
      memset(most, 0, (size_t)tile.blocks() * sizeof(Int));
    survey(
        plane, tile, buffer,
        [&](const Float* x, int64_t count, int64_t length) {
          if (tile.rows == 1)
            return k.largest_of_runs(x, count, length, most);
          Int some;
          k.largest_of_runs(x, 1, length, &some);
          *most = some > *most ? some : *most;
        },
        [&](const Float* x, int64_t n) { k.largest_so_far(x, n, most); });
  }
};

// The range of the finite values of each block of a tile, and zero; with `Symmetric` one as wide on
// both sides, which is found faster.
template <bool Symmetric> struct Ends {
  float low[CHUNK], high[CHUNK];

  void find(const Plane<float>& plane, const Tile& tile, float* buffer) {
    const Casts& k = casts();
    if (Symmetric && mirrored(plane, tile, buffer))
      return;
    if (tile.rows > 1 || !tile.run)
      for (float* ends : {low, high})
        memset(ends, 0, (size_t)tile.blocks() * sizeof(float));
    survey(
        plane, tile, buffer,
        [&](const float* x, int64_t count, int64_t length) {
          if (tile.rows == 1) {
            if (!k.spans_of_runs(x, count, length, low, high))
              k.extremes_of_runs(x, count, length, low, high);
            return;
          }
          float least, most;
          k.extremes_of_runs(x, 1, length, &least, &most);
          *low = least < *low ? least : *low;
          *high = most > *high ? most : *high;
        },
        [&](const float* x, int64_t n) { k.extremes_so_far(x, 1, 0, n, low, high); });
  }

private:
  // From magnitudes, unless some are not finite.
  bool mirrored(const Plane<float>& plane, const Tile& tile, float* buffer) {
    Largest<float> largest;
    largest.find(plane, tile, buffer);
    bool finite = true;
    for (int64_t i = 0; i < tile.blocks(); i++) {
      finite &= largest.most[i] < 0x7f800000;
      memcpy(&high[i], &largest.most[i], sizeof(float));
      low[i] = -high[i];
    }
    return finite;
  }
};

// The blocks of a tile: `lanes` values next to each other belong to each; 0: each value of a row
// has a block of its own.
struct Blocks {
  int64_t count, lanes;

  void begin(int64_t blocks, int64_t each) {
    count = blocks;
    lanes = each;
  }
  int64_t of(int64_t i) const { return lanes ? i / lanes : i; }
  // The length of the runs that `n` values of a row consist of, if kernels take such runs, else 0.
  int64_t run(int64_t n) const {
    const int64_t length = smaller(lanes, n);
    return length > 0 && length % casts().lanes == 0 && n % length == 0 ? length : 0;
  }
  // One value for each of `n` of a row.
  template <typename T, typename Repeat>
  const T* spread(const T* values, int64_t n, Repeat&& repeat, T* buffer) const {
    if (!lanes)
      return values;
    repeat(values, (n + lanes - 1) / lanes, lanes, buffer);
    return buffer;
  }
};

// Rounds every block by a method: prepare(what was found of each block) once per tile, then
// apply(values) row by row, or also mark(values) where they do not clip. Its Found looks at a
// tile's values; its State is a Blocks. FINITE: no finite value becomes infinite in narrower types.
template <typename Float, typename Method>
void cast_blocks(const dv_tensor& t, int64_t block, int mode, const Method& method) {
  const Plane<Float> plane(t);
  const Watch<Float> watch(t);
  tiles(t, block, [&](const Tile& tile) {
    Float buffer[CHUNK];
    typename Method::Found found;
    uint32_t words[CHUNK + 8];
    typename Method::State state;
    found.find(plane, tile, buffer);
    if (tile.run)
      plane.prefetch(tile.at + tile.n, tile.n);
    state.begin(tile.blocks(), smaller(tile.run, CHUNK));
    method.prepare(found, state);
    for (int64_t row = 0; row < tile.rows; row++) {
      const int64_t at = tile.at + row * tile.stride, n = tile.length(row);
      const uint32_t* random = random_words(t, mode, at, n, words);
      Float* out = plane.target(at, buffer);
      const Float* x = plane.load(at, n, buffer);
      if (watch)
        watch.note(x, at, n, [&](uint8_t* inside) { method.mark(x, n, watch, state, inside); });
      method.apply(x, n, random, state, out);
      plane.store(at, n, out, Method::FINITE);
    }
  });
}

} // namespace dv
