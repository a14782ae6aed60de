// The loop over a tile of outputs, one template for all laws and levels.
#pragma once
#include "kernels/simd.h"
#include "kernels/wide.h"

namespace {

// Rows of a tile are as many as leave the sums, the lanes and a few temporaries in registers.
#if defined(__AVX512BW__)
constexpr int BYTES_WIDE = 64, FACTOR_ROWS = 12, WHOLE_ROWS = 8, HALVED_ROWS = 5;
#elif defined(__AVX2__)
constexpr int BYTES_WIDE = 32, FACTOR_ROWS = 6, WHOLE_ROWS = 4, HALVED_ROWS = 2;
#else
constexpr int BYTES_WIDE = 16, FACTOR_ROWS = 4, WHOLE_ROWS = 4, HALVED_ROWS = 2;
#endif

typedef uint32_t Words __attribute__((vector_size(BYTES_WIDE)));
typedef int32_t Ints __attribute__((vector_size(BYTES_WIDE)));
typedef float Floats __attribute__((vector_size(BYTES_WIDE)));

constexpr int WIDTH = BYTES_WIDE / 4, VECTORS = 2;
constexpr int64_t WIDE_LANES = WIDTH * VECTORS;

inline Words all(uint32_t x) { return x - Words{}; }

// sum + lane[0] * row[0] + lane[1] * row[1] of the 16-bit halves, modulo 2^32.
inline Words multiply_add(Words sum, Words lane, Words row) {
#if defined(__AVX512VNNI__)
  return (Words)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)lane, (__m512i)row);
#elif defined(__AVX512BW__)
  return sum + (Words)_mm512_madd_epi16((__m512i)lane, (__m512i)row);
#elif defined(__AVX2__)
  return sum + (Words)_mm256_madd_epi16((__m256i)lane, (__m256i)row);
#elif defined(__SSE2__)
  return sum + (Words)_mm_madd_epi16((__m128i)lane, (__m128i)row);
#else
  const Words low = (Words)((Ints)(lane << 16) >> 16) * (Words)((Ints)(row << 16) >> 16);
  return sum + low + (Words)((Ints)lane >> 16) * (Words)((Ints)row >> 16);
#endif
}

template <typename Law, int ROWS> void wide_rows(const dv::WideTile& t, int64_t* out) {
  const Law law(t);
  typename Law::Sum sum[ROWS][VECTORS] = {};
  memset(out, 0, ROWS * WIDE_LANES * sizeof *out);
  int64_t room = t.chunk;
  for (int64_t s = 0; s < t.segments; s++) {
    const uint8_t *row = t.rows + t.row_offset[s], *lanes = t.lanes + t.lane_offset[s];
    const bool last = s + 1 == t.segments || t.shift[s + 1] != t.shift[s];
    for (int64_t left = t.units; left > 0;) {
      const int64_t some = left < room ? left : room;
      for (int64_t u = 0; u < some; u++, row += 4, lanes += t.lane_step) {
        Words x[VECTORS];
#pragma GCC unroll 2
        for (int j = 0; j < VECTORS; j++)
          memcpy(&x[j], lanes + j * BYTES_WIDE, sizeof x[j]);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++) {
          uint32_t word;
          memcpy(&word, row + i * t.row_stride, 4);
          const Words y = all(word);
#pragma GCC unroll 2
          for (int j = 0; j < VECTORS; j++)
            law.add(sum[i][j], x[j], y);
        }
      }
      left -= some;
      room -= some;
      if (room > 0 && !(last && left == 0))
        continue;
      room = t.chunk;
#pragma GCC unroll 16
      for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 2
        for (int j = 0; j < VECTORS; j++) {
          int64_t part[WIDTH];
          Law::total(sum[i][j], part);
          int64_t* to = out + i * WIDE_LANES + j * WIDTH;
          for (int k = 0; k < WIDTH; k++)
            to[k] = (int64_t)((uint64_t)to[k] + ((uint64_t)part[k] << t.shift[s]));
          sum[i][j] = typename Law::Sum{};
        }
    }
  }
}

template <typename Law> void wide_tile(const dv::WideTile& t, int64_t rows, int64_t* out) {
  if (rows == 1)
    wide_rows<Law, 1>(t, out);
  else
    wide_rows<Law, Law::ROWS>(t, out);
}

template <typename Law> constexpr dv::WideForm form() { return {Law::ROWS, wide_tile<Law>}; }

} // namespace
