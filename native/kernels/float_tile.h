// Tiles whose products are all exact in float32, so that one rounding, a fused multiply-add's, is
// the definition's: float32(sum + product). Where a level has no such instruction it multiplies,
// exactly, and adds.
//
// One template serves all levels and forms: a level gives vectors of lanes, a form the operands'
// words and one step of them.
#pragma once
#include "kernels/float_encode.h"
#include "kernels/float_lanes.h"

namespace {

// A form: `Row` is one row's operand at one k, `Lane` a vector of lanes'.
struct Values {
  using Row = Floats;
  using Lane = Floats;
  static Row row(const dv::FloatTile& t, int64_t at) { return all(as_float(t.rows[at])); }
  static Lane lane(const dv::FloatTile&, const uint32_t* p) { return floats(load(p)); }
  static Floats step(Floats sum, const Row& r, const Lane& l) { return multiply_add(r, l, sum); }
};

// The sum of words is the product's pattern; what is no product is multiplied by 0 or left out.
struct Logarithms {
  struct Row {
    Words word;
    Floats keep;
  };
  struct Lane {
    Words word;
    Mask some;
  };
  static Row row(const dv::FloatTile& t, int64_t at) { return {all(t.rows[at]), all(t.keep[at])}; }
  static Lane lane(const dv::FloatTile&, const uint32_t* p) {
    const Words word = load(p);
    return {word, even(word)};
  }
  static Floats step(Floats sum, const Row& r, const Lane& l) {
    return multiply_add_where(l.some, floats(plus(r.word, l.word)), r.keep, sum);
  }
};

inline const float* table_row(const dv::FloatTile& t, uint32_t word) {
  const int32_t m = t.mul->mantissa;
  const int64_t place = 1 + (int64_t)(word & ((1u << m) - 1));
  return t.mul->table + place * (1 + (1 << m)) + 1;
}

// A row of the table is a register, and carries the row's power of two.
struct SmallTable {
  using Row = TableRow;
  struct Lane {
    Words word;
    Floats power;
  };
  static Row row(const dv::FloatTile& t, int64_t at) {
    return scaled_row(table_row(t, t.rows[at]), as_float(t.rows[at] & SIGN_EXPONENT));
  }
  static Lane lane(const dv::FloatTile&, const uint32_t* p) {
    const Words word = load(p);
    return {word, floats(both(word, all(SIGN_EXPONENT)))};
  }
  static Floats step(Floats sum, const Row& r, const Lane& l) {
    return multiply_add(look_up(r, l.word), l.power, sum);
  }
};

struct Table {
  struct Row {
    const float* table;
    Floats power;
  };
  struct Lane {
    Words place;
    Floats power;
  };
  static Row row(const dv::FloatTile& t, int64_t at) {
    return {table_row(t, t.rows[at]), all(as_float(t.rows[at] & SIGN_EXPONENT))};
  }
  static Lane lane(const dv::FloatTile& t, const uint32_t* p) {
    const Words word = load(p);
    return {both(word, all((1u << t.mul->mantissa) - 1)), floats(both(word, all(SIGN_EXPONENT)))};
  }
  static Floats step(Floats sum, const Row& r, const Lane& l) {
    return multiply_add(times(gather(r.table, l.place), l.power), r.power, sum);
  }
};

constexpr int FLOAT_VECTORS = (int)(FLOAT_LANES / WIDTH);

template <typename Form, int ROWS> void float_rows(const dv::FloatTile& t, float* out) {
  Floats sum[ROWS][FLOAT_VECTORS];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
    for (int j = 0; j < FLOAT_VECTORS; j++)
      sum[i][j] = all(0.0f);
  for (int64_t k = 0; k < t.depth; k++) {
    const uint32_t* lanes = t.lanes + t.lane_at[k];
    typename Form::Lane lane[FLOAT_VECTORS];
#pragma GCC unroll 8
    for (int j = 0; j < FLOAT_VECTORS; j++)
      lane[j] = Form::lane(t, lanes + j * WIDTH);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
      const auto row = Form::row(t, i * t.row_stride + k);
#pragma GCC unroll 8
      for (int j = 0; j < FLOAT_VECTORS; j++)
        sum[i][j] = Form::step(sum[i][j], row, lane[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; i++)
#pragma GCC unroll 8
    for (int j = 0; j < FLOAT_VECTORS; j++)
      store(out + i * FLOAT_LANES + j * WIDTH, sum[i][j]);
}

template <typename Form> constexpr int rows_of() { return FLOAT_ROWS; }
template <> constexpr int rows_of<Table>() { return TABLE_ROWS; }
template <> constexpr int rows_of<SmallTable>() { return TABLE_ROWS; }

template <typename Form> void float_tile(const dv::FloatTile& t, int64_t rows, float* out) {
  rows == 1 ? float_rows<Form, 1>(t, out) : float_rows<Form, rows_of<Form>()>(t, out);
}

} // namespace
