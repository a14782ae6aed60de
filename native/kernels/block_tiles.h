// Matrix tiles of bfloat16: 16 rows by 16 lanes of dots, stored and then added to the totals.
//
// Elements are folded (see BlockForm): a dot of a block is then its term. It is exact whatever the
// order in which a tile sums it, because all products are multiples of one unit, the product of
// both blocks' scales, and no partial sum exceeds 2^24 of them (BlockForm::bound).
#pragma once
#include "kernels/block_dot.h"

#if defined(__AMX_BF16__)

namespace {

constexpr int64_t TILE = 16, TILE_UNITS = 16;

struct alignas(64) BlockTileConfig {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};

// Tiles 0 and 3 hold dots, 1 and 4 rows, 2 and 5 lanes of one step.
void tiles_begin(int64_t units) {
  BlockTileConfig c;
  memset(&c, 0, sizeof c);
  c.palette = 1;
  for (int i = 0; i < 6; i += 3) {
    c.rows[i] = TILE, c.bytes[i] = 64;
    c.rows[i + 1] = TILE, c.bytes[i + 1] = (uint16_t)(units * 4);
    c.rows[i + 2] = (uint8_t)units, c.bytes[i + 2] = 64;
  }
  // The intrinsic claims to read eight bytes only; this keeps the stores to the rest.
  __asm__ volatile("" : : "r"(&c) : "memory");
  _tile_loadconfig(&c);
}

void tiles_end() { _tile_release(); }

// One block's dots into tile 0 or 3: the intrinsics take a tile's number as it is written.
inline void tile_dot(const dv::BlockDot& d, int64_t step, bool odd, const uint8_t* row,
                     const uint8_t* lanes) {
  if (odd)
    _tile_zero(3);
  else
    _tile_zero(0);
  for (int64_t u = 0; u < d.units; u += step) {
    if (odd) {
      _tile_loadd(4, row, d.row_stride);
      _tile_loadd(5, lanes, BLOCK_LANES * 4);
      _tile_dpbf16ps(3, 4, 5);
    } else {
      _tile_loadd(1, row, d.row_stride);
      _tile_loadd(2, lanes, BLOCK_LANES * 4);
      _tile_dpbf16ps(0, 1, 2);
    }
    row += step * 4;
    lanes += step * BLOCK_LANES * 4;
  }
}

inline void add_tile(const float* dot, __m512 (&total)[TILE]) {
#pragma GCC unroll 16
  for (int i = 0; i < TILE; i++)
    total[i] = _mm512_add_ps(total[i], _mm512_load_ps(dot + i * TILE));
}

// A pipeline of three blocks, because a tile's dots are late: one is multiplied, the dots of the
// one before are stored, and those of the one before that are added.
void near_tile(const dv::BlockDot& d, int64_t half, int64_t step, float* out, int64_t stride) {
  alignas(64) float dot[2][TILE * TILE];
  __m512 total[TILE];
#pragma GCC unroll 16
  for (int i = 0; i < TILE; i++)
    total[i] = _mm512_setzero_ps();
  const uint8_t* lanes = d.lanes + half * 64;
  int64_t turn = 0;
  for (int64_t t = 0; t < d.taps; t++) {
    const uint8_t* row = d.rows + d.tap[t] * d.row_stride;
    for (int64_t b = 0; b < d.blocks; b++, turn++) {
      if (turn & 1) {
        tile_dot(d, step, true, row, lanes);
        _tile_stored(0, dot[0], TILE * 4);
        if (turn > 1)
          add_tile(dot[1], total);
      } else {
        tile_dot(d, step, false, row, lanes);
        if (turn > 0) {
          _tile_stored(3, dot[1], TILE * 4);
          add_tile(dot[0], total);
        }
      }
      row += d.units * 4;
      lanes += d.units * BLOCK_LANES * 4;
    }
  }
  if (turn & 1) {
    _tile_stored(0, dot[0], TILE * 4);
    if (turn > 1)
      add_tile(dot[1], total);
    add_tile(dot[0], total);
  } else {
    _tile_stored(3, dot[1], TILE * 4);
    add_tile(dot[0], total);
    add_tile(dot[1], total);
  }
  const __m512 factor = _mm512_set1_ps(d.factor);
  const __m512 bias = _mm512_loadu_ps(d.bias + half * TILE);
#pragma GCC unroll 16
  for (int i = 0; i < TILE; i++)
    Vector::store(out + i * stride + half * TILE,
                  Vector::one_nan(_mm512_add_ps(_mm512_mul_ps(total[i], factor), bias)));
}

void far_tile(const dv::BlockDot& d, int64_t half, int64_t step, float* out, int64_t stride) {
  alignas(64) float dot[TILE * TILE];
  out += half * TILE;
  for (int64_t i = 0; i < TILE; i++)
    memset(out + i * stride, 0, TILE * sizeof(float));
  for_blocks(d, [&](const uint8_t* row, const float* row_scale, const uint8_t* lanes,
                    const float* scale, const int32_t*) {
    tile_dot(d, step, false, row, lanes + half * 64);
    _tile_stored(0, dot, TILE * 4);
    for (int64_t i = 0; i < TILE; i++)
      add_far(dot + i * TILE, row_scale[i], scale + half * TILE, TILE, out + i * stride);
  });
  for (int64_t i = 0; i < TILE; i++)
    finish_row(out + i * stride, d.factor, d.bias + half * TILE, TILE);
}

void tiles(const dv::BlockDot& d, int64_t, float* out, int64_t stride) {
  const int64_t steps = (d.units + TILE_UNITS - 1) / TILE_UNITS, step = d.units / steps;
  for (int64_t half = 0; half < 2; half++)
    if (d.far)
      far_tile(d, half, step, out, stride);
    else
      near_tile(d, half, step, out, stride);
}

constexpr dv::BlockForm TILES = {2,     0,    dv::Elements::FOLDED, 32768,       8,         1 << 24,
                                 false, TILE, TILE_UNITS,           tiles_begin, tiles_end, tiles};

} // namespace

#endif
