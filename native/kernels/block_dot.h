// A tile of outputs: for each block the exact dots of integers, scaled and added to the outputs.
#pragma once
#include "kernels/block_units.h"

namespace {

constexpr int BLOCK_VECTORS = (int)(BLOCK_LANES / WordUnits::WIDTH);

// Terms that leave the range of normal floats: in double, where all of them are exact.
template <typename Dot>
inline void add_far(const Dot* dot, float row, const float* lane, int64_t lanes, float* out) {
  for (int64_t j = 0; j < lanes; j++)
    out[j] += (float)((double)dot[j] * ((double)row * (double)lane[j]));
}

inline void finish_row(float* out, float factor, const float* bias, int64_t lanes) {
  for (int64_t j = 0; j < lanes; j++) {
    const float y = out[j] * factor + bias[j];
    out[j] = y == y ? y : __builtin_nanf("");
  }
}

// The dots of one block of some rows with all lanes.
template <typename Units, int ROWS>
inline void dot_of_block(const dv::BlockDot& d, const uint8_t* row, const uint8_t* lanes,
                         const int32_t* start, typename Units::Int (&sum)[ROWS][BLOCK_VECTORS]) {
#pragma GCC unroll 4
  for (int j = 0; j < BLOCK_VECTORS; j++) {
    const auto from = Units::load((const void*)(start + j * Units::WIDTH));
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
}

// Calls use(row data, row scales, lane data, lane scales, start) for every block in order.
template <typename Use> inline void for_blocks(const dv::BlockDot& d, Use&& use) {
  const uint8_t* lanes = d.lanes;
  const float* scale = d.scale;
  const int32_t* start = d.start;
  for (int64_t t = 0; t < d.taps; t++) {
    const uint8_t* row = d.rows + d.tap[t] * d.row_stride;
    const float* row_scale = d.row_scale + d.tap[t];
    for (int64_t b = 0; b < d.blocks; b++) {
      use(row, row_scale, lanes, scale, start);
      row += d.units * 4;
      row_scale += d.scale_step;
      lanes += d.units * BLOCK_LANES * 4;
      scale += BLOCK_LANES;
      start += BLOCK_LANES;
    }
  }
}

template <typename Units, int ROWS, bool FROM_BIASED>
void near_rows(const dv::BlockDot& d, float* out, int64_t stride) {
  typename Units::Float total[ROWS][BLOCK_VECTORS];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < BLOCK_VECTORS; j++)
      total[i][j] = Units::all(0.0f);
  for_blocks(d, [&](const uint8_t* row, const float* row_scale, const uint8_t* lanes,
                    const float* scale, const int32_t* start) __attribute__((always_inline)) {
    typename Units::Int sum[ROWS][BLOCK_VECTORS];
    dot_of_block<Units, ROWS>(d, row, lanes, start, sum);
#pragma GCC unroll 4
    for (int j = 0; j < BLOCK_VECTORS; j++) {
      const auto lane = Units::load(scale + j * Units::WIDTH);
      const auto less = Units::multiply(lane, Units::all(-0x1.8p23f));
#pragma GCC unroll 8
      for (int i = 0; i < ROWS; i++) {
        const auto by = Units::all(row_scale[i]);
        if constexpr (FROM_BIASED)
          total[i][j] = Units::add_biased(total[i][j], sum[i][j], by, lane, less);
        else
          total[i][j] = Units::add_term(total[i][j], sum[i][j], by, lane);
      }
    }
  });
  const auto factor = Units::all(d.factor);
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 4
    for (int j = 0; j < BLOCK_VECTORS; j++) {
      const auto bias = Units::load(d.bias + j * Units::WIDTH);
      Units::store(out + i * stride + j * Units::WIDTH,
                   Units::one_nan(Units::add(Units::multiply(total[i][j], factor), bias)));
    }
}

template <typename Units, int ROWS>
void far_rows(const dv::BlockDot& d, float* out, int64_t stride) {
  for (int i = 0; i < ROWS; i++)
    memset(out + i * stride, 0, BLOCK_LANES * sizeof(float));
  const int32_t base = d.biased ? dv::BIASED : 0;
  for_blocks(d, [&](const uint8_t* row, const float* row_scale, const uint8_t* lanes,
                    const float* scale, const int32_t* start) {
    typename Units::Int sum[ROWS][BLOCK_VECTORS];
    dot_of_block<Units, ROWS>(d, row, lanes, start, sum);
    for (int i = 0; i < ROWS; i++) {
      int32_t dot[BLOCK_LANES];
      for (int j = 0; j < BLOCK_VECTORS; j++)
        Units::store(dot + j * Units::WIDTH, sum[i][j]);
      for (int64_t j = 0; j < BLOCK_LANES; j++)
        dot[j] -= base;
      add_far(dot, row_scale[i], scale, BLOCK_LANES, out + i * stride);
    }
  });
  for (int i = 0; i < ROWS; i++)
    finish_row(out + i * stride, d.factor, d.bias, BLOCK_LANES);
}

template <typename Units, int ROWS>
void some_rows(const dv::BlockDot& d, float* out, int64_t stride) {
  if (d.far)
    return far_rows<Units, ROWS>(d, out, stride);
  if constexpr (CAN_BIAS)
    if (d.biased)
      return near_rows<Units, ROWS, true>(d, out, stride);
  near_rows<Units, ROWS, false>(d, out, stride);
}

template <typename Units>
void block_dot(const dv::BlockDot& d, int64_t rows, float* out, int64_t stride) {
  if (rows == 1)
    some_rows<Units, 1>(d, out, stride);
  else
    some_rows<Units, BLOCK_ROWS>(d, out, stride);
}

void block_nothing(int64_t) {}
void block_nothing() {}

constexpr dv::BlockForm WORDS = {2,
                                 0,
                                 dv::Elements::INTEGERS,
                                 32768,
                                 16,
                                 INT64_MAX,
                                 CAN_BIAS,
                                 BLOCK_ROWS,
                                 1,
                                 block_nothing,
                                 block_nothing,
                                 block_dot<WordUnits>};

#if defined(__AVX512VNNI__)
constexpr dv::BlockForm BYTES = {1,
                                 128,
                                 dv::Elements::INTEGERS,
                                 128,
                                 8,
                                 INT64_MAX,
                                 CAN_BIAS,
                                 BLOCK_ROWS,
                                 1,
                                 block_nothing,
                                 block_nothing,
                                 block_dot<ByteUnits>};
#endif

} // namespace
