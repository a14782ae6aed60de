// What one instruction-set level offers: the inner loops, as a table of functions.
//
// Every level computes the same bits. All integer arithmetic is modulo 2^32 (unsigned wrap), so
// any order of summation gives the same int32; the caller guarantees K * max|f| < 2^31, hence the
// final sum is the true one whatever the intermediate values were.
#pragma once
#include <stdint.h>

namespace dv {

// A stretch of valid output pixels: `p` is its place in the padded image, `q` its place among the
// valid pixels of the whole batch.
struct Run {
  int64_t p, q, length;
};

// The forms of one table. `row[a][w]` and its transpose `col[w][a]`, as int32, and, if all values
// lie within 65535 of each other, as signed 16-bit distances from `middle` and as two byte planes.
struct Table {
  int32_t narrow; // the 16-bit forms hold
  int32_t pairs;  // they even lie in [-16384, 16383]
  int32_t middle; // value = middle + 16-bit form
  int32_t least;  // value = least + low plane + 256 * high plane
  int32_t unused[12];
  int32_t row[256 * 256], col[256 * 256];
  int16_t row16[256 * 256], col16[256 * 256];
  uint8_t row_planes[256 * 512], col_planes[256 * 512]; // low bytes | high bytes of v - min
};

// A stretch of K: where it begins in a row and in the lanes, in bytes, and how many quads it has.
struct Span {
  int64_t row, lane, quads;
};

// C[i][j] = sum over the quads (four bytes) of all spans: rows[i] . lanes[j].
// Rows lie K-contiguous; lanes lie [quad][j][4]. One side is unsigned, the other signed.
struct Dot {
  const uint8_t* rows;
  int64_t row_stride;
  const uint8_t* lanes;
  int64_t quad_stride;
  const Span* spans;
  int64_t span_count;
  int64_t quad_step; // quads per matrix-tile step; divides those of every span, at most 16
  int32_t lanes_unsigned;
};

// C[i][j] += step * sum over taps, quads and b < 4 of entries[tap, quad][i][lanes[j][b]]: one byte
// looked up for each product. A quad's 64 entries are 16 for each of its four k, so a lane byte is
// 16 * b + class.
struct Classes {
  const uint8_t* entries; // [taps * quads][rows][64]
  int64_t rows;           // 1 or look_up_rows
  const uint8_t* lanes;   // as in Dot
  int64_t quad_stride;
  const int64_t* tap_offset;
  int64_t taps, quads;
  int32_t step; // at most 127
};

// Sums of table entries. Both sides are byte planes, one per k, `offset[k]` from the base.
struct Lookup {
  const uint8_t* rows;
  const int64_t* row_offset;
  const uint8_t* lanes;
  const int64_t* lane_offset;
  int64_t depth;
  const int32_t* lane_place; // place of each lane in its plane; null: consecutive
  // Table forms; `by_lane[lane code][row code]`, `by_row[row code][lane code]`.
  const int32_t *by_lane, *by_row;
  const int16_t* by_lane16;     // null when the table is not narrow
  const uint8_t* by_row_planes; // likewise
  int32_t middle, least;
  int32_t pairs; // two 16-bit distances sum without overflow
  // Row-add: the lanes of one k may meet several row codes, `row_offset[t * depth + k]`, each of
  // which adds into `out + out_shift[t]`, those lanes that `lane_mask[t * mask_words + lane / 32]`
  // has a bit for (null: all). Row i of the sums starts at `out + i * out_stride`.
  int64_t taps;
  const int64_t* out_shift;
  int64_t out_stride;
  const uint32_t* lane_mask;
  int64_t mask_words;

  // What the sums of one tap start from: kernels that use the 16-bit forms add only distances.
  int32_t start() const { return by_lane16 ? (int32_t)((uint32_t)depth * (uint32_t)middle) : 0; }
};

struct Kernels {
  const char* name;
  // codes = clamp(rint(x / scale) + zero_point): one float row to bytes, shorts or words
  void (*quantise)(const float* x, int64_t n, float scale, int32_t zero_point, int32_t qmin,
                   int32_t qmax, int32_t bytes, void* out);
  void (*recode)(const uint8_t* codes, int64_t n, const uint8_t* table, uint8_t* out);
  uint32_t (*sum_codes)(const uint8_t* codes, int64_t n, bool is_signed); // modulo 2^32
  bool (*any)(const uint8_t* bytes, int64_t n);                           // that is not zero
  void (*copy_rows)(const uint8_t* in, int64_t rows, int64_t width, uint8_t* out, int64_t pitch);
  void (*interleave)(const uint8_t* const rows[4], int64_t n, uint8_t* out); // -> [n][4]
  void (*transpose)(const uint8_t* in, int64_t in_stride, int64_t rows, int64_t cols, uint8_t* out,
                    int64_t out_stride);

  int64_t dot_rows, dot_lanes;          // size of one dot block
  void (*dot_begin)(int64_t quad_step); // per thread, before and after a series of blocks
  void (*dot_end)();
  // Fills `rows` rows at least of out [dot_rows][dot_lanes].
  void (*dot)(const Dot&, int64_t row, int64_t rows, int64_t lane, int32_t* out);
  // Adds to `rows` rows of such a block.
  int64_t look_up_rows; // divides dot_rows
  void (*look_up)(const Classes&, int64_t lane, int32_t* out);

  // Row-add: adds to the sums of many rows (stretches of codes) and a few lanes
  int64_t add_lanes;
  bool narrow; // uses the 16-bit forms, where there are any
  void (*add)(const Lookup&, int64_t lane, const Run* runs, int64_t run_count, int32_t* out);
  // Direct: the sums of one row against up to direct_lanes lanes
  int64_t direct_lanes;
  void (*direct)(const Lookup&, int64_t row, int64_t lane, int64_t lanes, int32_t* out);

  // float(sum - correction) * scale + bias over a stretch: of one output channel, or of many
  void (*finish_channel)(const int32_t* sum, int64_t n, int32_t correction, float scale,
                         const float* bias, float* out);
  // The same of one channel, over rows that lie `pitch` apart.
  void (*finish_rows)(const int32_t* sum, int64_t rows, int64_t width, int64_t pitch,
                      int32_t correction, float scale, const float* bias, float* out);
  void (*finish_channels)(const int32_t* sum, int64_t n, const int32_t* correction,
                          const float* scale, const float* bias, float* out);
};

} // namespace dv
