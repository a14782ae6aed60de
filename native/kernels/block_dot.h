// A tile of outputs: for each block the exact dots of integers, scaled and added to the outputs.
//
// One template serves all levels; a level gives it vectors of lanes and one multiply-add of units
// (two 16-bit integers or four bytes per lane, summed into 32 bits without saturation). Terms are
// float(dot) * (row's scale * lane's scale): the second product is exact, a power of two.
#pragma once
#include "kernels/block.h"
#include "kernels/simd.h"

namespace {

#if defined(__AVX512BW__)

constexpr int64_t BLOCK_LANES = 32, BLOCK_ROWS = 6;

struct Vector {
  static constexpr int64_t WIDTH = 16;
  using Int = __m512i;
  using Float = __m512;
  static Int load(const void* p) { return _mm512_loadu_si512(p); }
  static Int all(int32_t x) { return _mm512_set1_epi32(x); }
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static Float all(float x) { return _mm512_set1_ps(x); }
  static void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static void store(int32_t* p, Int x) { _mm512_storeu_si512(p, x); }
  static Float add_term(Float sum, Int dot, Float row, Float lane) {
    return _mm512_add_ps(sum, _mm512_mul_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(row, lane)));
  }
};

struct WordUnits : Vector {
  static constexpr bool OFFSET = false;
  static Int multiply_add(Int sum, Int lane, Int row) {
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(sum, lane, row);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(lane, row));
#endif
  }
};

#if defined(__AVX512VNNI__) && !defined(__AMX_INT8__)
struct ByteUnits : Vector {
  static constexpr bool OFFSET = true; // rows are unsigned: 128 too much, which `start` takes off
  static Int multiply_add(Int sum, Int lane, Int row) {
    return _mm512_dpbusd_epi32(sum, row, lane);
  }
};
#endif

#elif defined(__AVX2__)

constexpr int64_t BLOCK_LANES = 16, BLOCK_ROWS = 3;

struct WordUnits {
  static constexpr bool OFFSET = false;
  static constexpr int64_t WIDTH = 8;
  using Int = __m256i;
  using Float = __m256;
  static Int load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Int all(int32_t x) { return _mm256_set1_epi32(x); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static Float all(float x) { return _mm256_set1_ps(x); }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  static void store(int32_t* p, Int x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
  static Float add_term(Float sum, Int dot, Float row, Float lane) {
    return _mm256_add_ps(sum, _mm256_mul_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(row, lane)));
  }
  static Int multiply_add(Int sum, Int lane, Int row) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(lane, row));
  }
};

#else

constexpr int64_t BLOCK_LANES = 8, BLOCK_ROWS = 2;

struct WordUnits {
  static constexpr bool OFFSET = false;
  static constexpr int64_t WIDTH = 4;
  struct Int {
    int32_t at[WIDTH];
  };
  struct Float {
    float at[WIDTH];
  };
  static Int load(const void* p) {
    Int x;
    memcpy(&x, p, sizeof x);
    return x;
  }
  static Int all(int32_t x) { return {{x, x, x, x}}; }
  static Float load(const float* p) {
    Float x;
    memcpy(&x, p, sizeof x);
    return x;
  }
  static Float all(float x) { return {{x, x, x, x}}; }
  static void store(float* p, Float x) { memcpy(p, &x, sizeof x); }
  static void store(int32_t* p, Int x) { memcpy(p, &x, sizeof x); }
  static Float add_term(Float sum, Int dot, Float row, Float lane) {
    for (int i = 0; i < WIDTH; i++)
      sum.at[i] += (float)dot.at[i] * (row.at[i] * lane.at[i]);
    return sum;
  }
  static Int multiply_add(Int sum, Int lane, Int row) {
    int16_t x[2 * WIDTH], y[2 * WIDTH];
    memcpy(x, &lane, sizeof x);
    memcpy(y, &row, sizeof y);
    for (int i = 0; i < WIDTH; i++)
      sum.at[i] += x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
    return sum;
  }
};

#endif

constexpr int BLOCK_VECTORS = (int)(BLOCK_LANES / WordUnits::WIDTH);

// Terms whose scales' product is no normal float: in double, where all of them are exact.
inline void add_far(const int32_t* dot, float row, const float* lane, int64_t lanes, float* out) {
  for (int64_t j = 0; j < lanes; j++)
    out[j] += (float)((double)dot[j] * ((double)row * (double)lane[j]));
}

template <typename Units, int ROWS, bool FAR> void block_rows(const dv::BlockDot& d, float* out) {
  typename Units::Int sum[ROWS][BLOCK_VECTORS];
  typename Units::Float total[ROWS][BLOCK_VECTORS];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < BLOCK_VECTORS; j++)
      total[i][j] = Units::all(0.0f);
  if (FAR)
    memset(out, 0, ROWS * BLOCK_LANES * sizeof(float));
  const uint8_t* lanes = d.lanes;
  const float* scale = d.scale;
  const int32_t* start = d.start;
  for (int64_t t = 0; t < d.taps; t++) {
    const uint8_t* row = d.rows + d.tap[t] * d.row_stride;
    const float* row_scale = d.row_scale + d.tap[t];
    for (int64_t b = 0; b < d.blocks; b++) {
#pragma GCC unroll 4
      for (int j = 0; j < BLOCK_VECTORS; j++) {
        const auto from =
            Units::OFFSET ? Units::load((const void*)(start + j * Units::WIDTH)) : Units::all(0);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++)
          sum[i][j] = from;
      }
      for (int64_t u = 0; u < d.units; u++, lanes += BLOCK_LANES * 4, row += 4) {
        typename Units::Int x[BLOCK_VECTORS];
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK_VECTORS; j++)
          x[j] = Units::load((const void*)(lanes + j * Units::WIDTH * 4));
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
          int32_t word;
          memcpy(&word, row + i * d.row_stride, 4);
          const auto y = Units::all(word);
#pragma GCC unroll 4
          for (int j = 0; j < BLOCK_VECTORS; j++)
            sum[i][j] = Units::multiply_add(sum[i][j], x[j], y);
        }
      }
      if (FAR) {
        int32_t dot[BLOCK_LANES];
        for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 4
          for (int j = 0; j < BLOCK_VECTORS; j++)
            Units::store(dot + j * Units::WIDTH, sum[i][j]);
          add_far(dot, row_scale[b * d.scale_step + i], scale, BLOCK_LANES, out + i * BLOCK_LANES);
        }
      } else {
#pragma GCC unroll 4
        for (int j = 0; j < BLOCK_VECTORS; j++) {
          const auto lane = Units::load(scale + j * Units::WIDTH);
#pragma GCC unroll 8
          for (int i = 0; i < ROWS; i++)
            total[i][j] = Units::add_term(total[i][j], sum[i][j],
                                          Units::all(row_scale[b * d.scale_step + i]), lane);
        }
      }
      scale += BLOCK_LANES;
      start += BLOCK_LANES;
    }
  }
  if (FAR)
    return;
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < BLOCK_VECTORS; j++)
      Units::store(out + i * BLOCK_LANES + j * Units::WIDTH, total[i][j]);
}

template <typename Units>
void block_dot(const dv::BlockDot& d, int64_t rows, bool far, float* out) {
  if (far)
    rows == 1 ? block_rows<Units, 1, true>(d, out) : block_rows<Units, BLOCK_ROWS, true>(d, out);
  else
    rows == 1 ? block_rows<Units, 1, false>(d, out) : block_rows<Units, BLOCK_ROWS, false>(d, out);
}

void block_nothing(int64_t) {}
void block_nothing() {}

constexpr int64_t ANY_STEP = 1;
constexpr dv::BlockForm WORDS = {
    2, 0, BLOCK_ROWS, ANY_STEP, block_nothing, block_nothing, block_dot<WordUnits>};

#if defined(__AMX_INT8__)

// Matrix tiles: 16 rows by 16 lanes of dots, stored and then added with the totals in registers.
constexpr int64_t TILE = 16, TILE_UNITS = 16;

struct alignas(64) BlockTileConfig {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};

// Tiles 0 and 3 hold dots, 1 rows and 2 lanes of one step.
void tiles_begin(int64_t units) {
  BlockTileConfig c;
  memset(&c, 0, sizeof c);
  c.palette = 1;
  c.rows[0] = c.rows[3] = TILE, c.bytes[0] = c.bytes[3] = 64;
  c.rows[1] = TILE, c.bytes[1] = (uint16_t)(units * 4);
  c.rows[2] = (uint8_t)units, c.bytes[2] = 64;
  // The intrinsic claims to read eight bytes only; this keeps the stores to the rest.
  __asm__ volatile("" : : "r"(&c) : "memory");
  _tile_loadconfig(&c);
}

void tiles_end() { _tile_release(); }

struct Place {
  const uint8_t *row, *lanes;
  const float *row_scale, *scale;
};

template <int ROWS>
inline void add_tile(const Place& p, const int32_t* dot, __m512 (&total)[ROWS]) {
  const __m512 lane = _mm512_loadu_ps(p.scale);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
    total[i] = Vector::add_term(total[i], _mm512_load_si512(dot + i * TILE),
                                _mm512_set1_ps(p.row_scale[i]), lane);
}

// The intrinsics take a tile's number as it is written, so `odd` chooses between two lines.
inline void tile_dot(const dv::BlockDot& d, int64_t step, bool odd, Place& p) {
  if (odd)
    _tile_zero(3);
  else
    _tile_zero(0);
  for (int64_t u = 0; u < d.units; u += step) {
    _tile_loadd(1, p.row, d.row_stride);
    _tile_loadd(2, p.lanes, BLOCK_LANES * 4);
    if (odd)
      _tile_dpbssd(3, 1, 2);
    else
      _tile_dpbssd(0, 1, 2);
    p.row += step * 4;
    p.lanes += step * BLOCK_LANES * 4;
  }
}

// A pipeline of three blocks, because a tile's dots are late: one is multiplied, the dots of the
// one before are stored, and those of the one before that are added.
template <int ROWS> void tile_half(const dv::BlockDot& d, int64_t half, int64_t step, float* out) {
  alignas(64) int32_t dot[2][TILE * TILE];
  __m512 total[ROWS];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
    total[i] = _mm512_setzero_ps();
  Place now = {nullptr, d.lanes + half * 64, nullptr, d.scale + half * TILE};
  Place last = now, earlier = now;
  int64_t turn = 0;
  for (int64_t t = 0; t < d.taps; t++) {
    now.row = d.rows + d.tap[t] * d.row_stride;
    now.row_scale = d.row_scale + d.tap[t];
    for (int64_t b = 0; b < d.blocks; b++, turn++) {
      if (turn & 1) {
        tile_dot(d, step, true, now);
        _tile_stored(0, dot[0], TILE * 4);
      } else {
        tile_dot(d, step, false, now);
        if (turn > 0)
          _tile_stored(3, dot[1], TILE * 4);
      }
      if (turn > 1)
        add_tile(earlier, dot[turn & 1], total);
      earlier = last;
      last = now;
      now.row_scale += d.scale_step;
      now.scale += BLOCK_LANES;
    }
  }
  if (turn & 1)
    _tile_stored(0, dot[0], TILE * 4);
  else
    _tile_stored(3, dot[1], TILE * 4);
  if (turn > 1)
    add_tile(earlier, dot[turn & 1], total);
  add_tile(last, dot[(turn - 1) & 1], total);
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; i++)
    _mm512_storeu_ps(out + i * BLOCK_LANES + half * TILE, total[i]);
}

void tile_far(const dv::BlockDot& d, int64_t half, int64_t step, float* out) {
  alignas(64) int32_t dot[TILE * TILE];
  for (int64_t i = 0; i < TILE; i++)
    memset(out + i * BLOCK_LANES + half * TILE, 0, TILE * sizeof(float));
  const uint8_t* lanes = d.lanes + half * 64;
  const float* scale = d.scale + half * TILE;
  for (int64_t t = 0; t < d.taps; t++) {
    const uint8_t* row = d.rows + d.tap[t] * d.row_stride;
    const float* row_scale = d.row_scale + d.tap[t];
    for (int64_t b = 0; b < d.blocks; b++, scale += BLOCK_LANES) {
      _tile_zero(0);
      for (int64_t u = 0; u < d.units; u += step) {
        _tile_loadd(1, row, d.row_stride);
        _tile_loadd(2, lanes, BLOCK_LANES * 4);
        _tile_dpbssd(0, 1, 2);
        row += step * 4;
        lanes += step * BLOCK_LANES * 4;
      }
      _tile_stored(0, dot, TILE * 4);
      for (int64_t i = 0; i < TILE; i++)
        add_far(dot + i * TILE, row_scale[b * d.scale_step + i], scale, TILE,
                out + i * BLOCK_LANES + half * TILE);
    }
  }
}

void tiles(const dv::BlockDot& d, int64_t rows, bool far, float* out) {
  const int64_t steps = (d.units + TILE_UNITS - 1) / TILE_UNITS, step = d.units / steps;
  for (int64_t half = 0; half < 2; half++)
    if (far)
      tile_far(d, half, step, out);
    else if (rows == 1)
      tile_half<1>(d, half, step, out);
    else
      tile_half<TILE>(d, half, step, out);
}

constexpr dv::BlockForm BYTES = {1, 0, TILE, TILE_UNITS, tiles_begin, tiles_end, tiles};

#elif defined(__AVX512VNNI__)
constexpr dv::BlockForm BYTES = {
    1, 128, BLOCK_ROWS, ANY_STEP, block_nothing, block_nothing, block_dot<ByteUnits>};
#else
constexpr dv::BlockForm BYTES = WORDS; // no multiply-add of bytes without saturation
#endif

} // namespace
