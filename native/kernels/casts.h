// What one instruction-set level offers for casts: inner loops over stretches that fit the cache.
//
// Every level computes the same bits. Inputs and outputs may be the same memory.
#pragma once
#include "dovetail_cast.h"

#include <float.h>
#include <stdint.h>

namespace dv {

// An element format in the words of one float type; magnitudes are given as their bits.
template <typename Int> struct Grid {
  Int least_drop; // fraction bits of a normal value that the format has not
  Int quantum;    // of a value with exponent code e, quantum - e bits lie below the smallest step
  Int unit;       // the smallest step
  // The largest magnitude, what lies beyond it becomes, and what infinities become: on the positive
  // side, and the bits that differ on the negative one (`over` and `infinite` hold signs).
  Int max, over, infinite;
  Int max_flip, over_flip, infinite_flip;
  Int flush;          // smaller magnitudes are zero before rounding
  Int floor;          // the least result
  Int bare;           // all bits if there are no mantissa bits
  Int parity;         // then: an exponent code of even parity
  Int is_signed;      // all bits if the format has signs
  Int negative_zero;  // all bits if it has -0
  Int clamp_negative; // all bits if negative values become `floor`
  Int random_bits, random_shift;
};

// A float32 format that nearest.h rounds to; magnitudes are given as bits.
struct Nearest {
  enum Form : int32_t {
    CLAMPED, // what lies beyond the largest magnitude becomes it
    OPEN,    // or anything else: `over`, and `infinite` what infinities become
    CUT,     // the same, for formats with the exponents of float32: `cut` bits are dropped
    FIXED,   // multiples of one step between `low` and `max`; no -0
    FORMS
  };
  Form form;
  int32_t first; // the smallest normal value
  int32_t add;   // what leads from a value's exponent to that of the magic number
  int32_t magic; // FIXED: the magic number, 1.5 * 2^23 steps
  int32_t cut;
  int32_t max, top; // the largest value; its exponent alone
  int32_t low;      // FIXED: the lowest value (its sign too)
  int32_t over, infinite;
  int32_t negative_zero; // all bits if it has -0
};

// Posits of `width` bits with `es` exponent bits; magnitudes as bits.
struct Posit {
  int32_t width, es;
  int32_t min, max;
};

// A function of the mantissa within octaves: with m a magnitude's mantissa and i its leading bits,
// above[i] if m >= least[i], else below[i], added to the octave's power of two as bits. Magnitudes
// below `least_magnitude` become 0, others lie between `min` and `max`. No -0.
struct Octaves {
  const int32_t *least, *below, *above; // [1 << bits], and at least 16
  int32_t bits;
  int32_t least_magnitude, min, max;
  int32_t is_signed; // all bits, or none: negative values become 0
};

// How a block's exponent follows from its largest magnitude, and where the easy way is exact.
template <typename Int> struct Exponents {
  Int round;     // added to the magnitude's bits before its exponent is read
  Int emax;      // subtracted from that exponent
  Int low, high; // the exponent's range
  Int easy_low, easy_high;
};

template <typename Float, typename Int> struct FloatCasts {
  // by rounding mode and kind (see round.h); `random` is read by the stochastic mode only
  void (*element[DV_MODES][3])(const Float* x, int64_t n, const uint32_t* random, const Grid<Int>&,
                               Float* out);
  void (*scaled[DV_MODES][3])(const Float* x, const Int* exponent, int64_t n,
                              const uint32_t* random, const Grid<Int>&, Float* out);
  // bits of the largest magnitude: of each of `runs` blocks; of each column so far and `x`
  void (*largest_of_runs)(const Float* x, int64_t runs, int64_t block, Int* out);
  void (*largest_so_far)(const Float* x, int64_t n, Int* out);
  // returns how many need the slow way (they get exponent 0)
  int64_t (*exponents)(const Int* largest, int64_t n, const Exponents<Int>&, Int* out);
  void (*repeat)(const Int* values, int64_t runs, int64_t block, Int* out);
  // see inside.h
  void (*inside)(const Float* x, int64_t n, int64_t run, const Float* low, const Float* high,
                 uint8_t* out);
  void (*tally)(const Float* x, const uint8_t* inside, int64_t n, int64_t* counts);
};

constexpr int32_t CELLS = 32;

// A step function: with the ordered bits of x (see casts.cpp), the value of the last of `count`
// ascending keys that is not above it. `find` holds, for each leading part of the bits, the last
// key not above the least number of that part; fewer than 2^halvings further keys lie within any
// part.
struct Steps {
  const int32_t* key;  // [count + 2^halvings], the rest INT32_MAX; key[0] is the least number's
  const float* value;  // likewise
  const int32_t* find; // [1 << (32 - shift)]
  int32_t count, shift, halvings;
  // With `levels` (0: too many keys): a binary search's keys by level, 128 places each; then
  // `value` holds 2^levels.
  const int32_t* tree;
  int32_t levels;
  // If not null, cells of equal width with at most one key each: CELLS keys as numbers, CELLS
  // values below them, CELLS from them on. With x held between `low` and `high`, fl(x * slope +
  // origin), rounded once, ends in the number of x's cell: the last place of `origin` is 1.
  const float* cells;
  float low, high, slope, origin;
};

// The exponent of a block, within its range.
template <typename Float, typename Int>
static inline Int exponent_of(Int largest, const Exponents<Int>& e) {
  const int fraction = sizeof(Float) == 4 ? 23 : 52;
  const Int bias = sizeof(Float) == 4 ? 127 : 1023;
  Int s = ((largest + e.round) >> fraction) - bias - e.emax;
  s = s > e.low ? s : e.low;
  return s < e.high ? s : e.high;
}

// How values of blocks with real scales are taken to the range of elements, and back by * times.
enum Scaling : int32_t {
  MULTIPLIED,      // x * by
  DIVIDED,         // x / by, with the help of `inverse`
  MULTIPLIED_HELD, // x * by, and results held within the largest float
  DIVIDED_HELD,    // x / by, likewise
  SCALINGS
};

// What such blocks are divided by (or multiplied with) and multiplied with, as arrays; `inverse` is
// 1 / by.
struct Factors {
  const float *by, *inverse, *times;
};

// How such scales follow from largest magnitudes: relative to `whole`, and to the largest element.
// No element is larger than `reach` in magnitude; `coarse`: those below 2^-30 all round alike.
struct ScaleRule {
  float whole, element, reach;
  bool coarse;
};
// What `factors` finds among some blocks: that some may not be taken by the quicker ways, that some
// have the scale 0.
constexpr int32_t CAREFUL = 1, ZEROS = 2;

// Parameters of integers, as arrays. `inverse` is 1 / scale, or NaN where that is not to be used.
struct Affine {
  float *scale, *inverse, *low, *high;
};

// How a scale and a zero point follow from a range.
struct Ranges {
  bool affine, is_signed, po2;
  float qmin, qmax, span; // `span` steps cover the range
  float limit, widest;    // of the range's ends, and of the scale
  int32_t widest_power;   // the bits of the largest power of two that a scale may be
};

struct Casts {
  const char* name;
  int32_t lanes; // the functions for `runs` take blocks of multiples of this
  void (*nearest[Nearest::FORMS])(const float* x, int64_t n, const Nearest&, float* out);
  // CLAMPED and FIXED only: by exponents, one per value or per run of `block` values. Arrays of
  // exponents or scales can be read up to the next multiple of `lanes`.
  void (*nearest_scaled[Nearest::FORMS])(const float* x, const int32_t* exponent, int64_t n,
                                         const Nearest&, float* out);
  void (*nearest_runs[Nearest::FORMS])(const float* x, const int32_t* exponent, int64_t runs,
                                       int64_t block, const Nearest&, float* out);
  // Real scales: the quicker ways for CLAMPED and FIXED only.
  void (*nearest_real[Nearest::FORMS][SCALINGS])(const float* x, const Factors&, int64_t n,
                                                 const Nearest&, float* out);
  void (*nearest_real_runs[Nearest::FORMS][SCALINGS])(const float* x, const Factors&, int64_t runs,
                                                      int64_t block, const Nearest&, float* out);
  void (*posit[DV_STOCHASTIC])(const float* x, int64_t n, const Posit&, float* out); // by mode
  void (*octaves)(const float* x, int64_t n, const Octaves&, float* out);
  FloatCasts<float, int32_t> f32;
  FloatCasts<double, int64_t> f64;
  // Blocks with real scales: x / by (or x * by), rounded, * times, at most the largest float
  void (*real_scaled[DV_MODES][3])(const float* x, const float* by, const float* times, int64_t n,
                                   bool divide, const uint32_t* random, const Grid<int32_t>&,
                                   float* out);
  void (*repeat)(const float* values, int64_t runs, int64_t block, float* out);
  int32_t (*largest_finite)(const int32_t* largest, int64_t n); // 0 if there is none
  // by [whether there are two levels]
  void (*ratios[2])(const int32_t* largest, int64_t n, const ScaleRule&, float* out);
  int32_t (*factors[2])(const int32_t* largest, const float* step, int64_t n, const ScaleRule&,
                        float* by, float* inverse, float* times);
  void (*steps)(const float* x, int64_t n, const Steps&, float* out);
  // x / by, its step function, * times; by [whether to be CAREFUL]
  void (*steps_real[2])(const float* x, const Factors&, int64_t n, const Steps&, float* out);
  void (*steps_real_runs[2])(const float* x, const Factors&, int64_t runs, int64_t block,
                             const Steps&, float* out);
  // clamp(round(x / scale), low, high) * scale, one of each per run of values (0: per value); by
  // mode, `random` is read by the stochastic one only
  void (*affine[DV_MODES])(const float* x, int64_t n, int64_t run, const uint32_t* random,
                           int32_t random_bits, const Affine&, float* out);
  // table[clamp(rint(x / scale), low, high) - low], times the scale if `scaled`
  void (*affine_lookup)(const float* x, int64_t n, int64_t run, const Affine&, const float* table,
                        bool scaled, float* out);
  void (*affine_limits)(int64_t n, const int32_t* zero_point, int32_t qmin, int32_t qmax,
                        const Affine&); // from scales and zero points
  void (*affine_ranges)(const float* low, const float* high, int64_t n, const Ranges&, float* scale,
                        int32_t* zero_point);
  // the smallest and largest value of each block; of each column so far and `rows` more, `stride`
  // apart; what is not finite counts as 0
  void (*extremes_of_runs)(const float* x, int64_t runs, int64_t block, float* low, float* high);
  void (*extremes_so_far)(const float* x, int64_t rows, int64_t stride, int64_t n, float* low,
                          float* high);
  // the same of each block and 0, faster; false for blocks that it does not take, or with
  // infinities
  bool (*spans_of_runs)(const float* x, int64_t runs, int64_t block, float* low, float* high);
  // see inside.h
  void (*inside_real)(const float* x, int64_t n, int64_t run, const float* by, const float* times,
                      bool divide, float low, float high, uint8_t* out);
  void (*inside_affine)(const float* x, int64_t n, int64_t run, const Affine&, uint8_t* out);
  // the words of Philox4x32-10 with key `seed` for counters from `counter`, four each
  void (*philox)(uint64_t seed, uint64_t counter, int64_t counters, uint32_t* out);
  void (*widen_half)(const uint16_t* x, int64_t n, float* out);
  void (*widen_bfloat)(const uint16_t* x, int64_t n, float* out);
  void (*narrow_half)(const float* x, int64_t n, uint16_t* out);
  void (*narrow_bfloat)(const float* x, int64_t n, uint16_t* out);
  void (*widen)(const float* x, int64_t n, double* out);
  void (*narrow)(const double* x, int64_t n, float* out);
  void (*clamp)(const float* x, float most, int64_t n, float* out);
};

} // namespace dv
