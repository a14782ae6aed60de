// What one instruction-set level offers for casts: inner loops over stretches that fit the cache.
//
// Every level computes the same bits. Inputs and outputs may be the same memory.
#pragma once
#include "dovetail_cast.h"

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
};

// A step function: with the ordered bits of x (see casts.cpp), the value of the last of `count`
// ascending keys that is not above it. `find` holds, for each leading part of the bits, the last
// key not above the least number of that part; fewer than 2^halvings further keys lie within any
// part.
struct Steps {
  const int32_t* key;  // [count + 2^halvings], the rest INT32_MAX; key[0] is the least number's
  const float* value;  // likewise
  const int32_t* find; // [1 << (32 - shift)]
  int32_t count, shift, halvings;
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

struct Casts {
  const char* name;
  FloatCasts<float, int32_t> f32;
  FloatCasts<double, int64_t> f64;
  // Blocks with real scales: x / by (or x * by), rounded, * times, at most the largest float
  void (*real_scaled[DV_MODES][3])(const float* x, const float* by, const float* times, int64_t n,
                                   bool divide, const uint32_t* random, const Grid<int32_t>&,
                                   float* out);
  void (*repeat)(const float* values, int64_t runs, int64_t block, float* out);
  int32_t (*largest_finite)(const int32_t* largest, int64_t n); // 0 if there is none
  void (*ratios)(const int32_t* largest, int64_t n, float element, bool two_level, float whole,
                 float* out);
  void (*factors)(const int32_t* largest, const float* step, int64_t n, bool two_level, float whole,
                  float* by, float* times);
  void (*steps)(const float* x, int64_t n, const Steps&, float* out);
  // clamp(rint(x / scale), low, high) * scale, all one or one per value
  void (*affine)(const float* x, int64_t n, float scale, float low, float high, float* out);
  void (*affines)(const float* x, int64_t n, const float* scale, const float* low,
                  const float* high, float* out);
  // the words of Philox4x32-10 with key `seed` for counters from `counter`, four each
  void (*philox)(uint64_t seed, uint64_t counter, int64_t counters, uint32_t* out);
  void (*widen_half)(const uint16_t* x, int64_t n, float* out);
  void (*widen_bfloat)(const uint16_t* x, int64_t n, float* out);
  void (*narrow_half)(const float* x, int64_t n, uint16_t* out);
  void (*narrow_bfloat)(const float* x, int64_t n, uint16_t* out);
  void (*widen)(const float* x, int64_t n, double* out);
  void (*narrow)(const double* x, int64_t n, float* out);
  void (*divide)(const float* x, const float* by, int64_t n, float* out);
  void (*multiply)(const float* x, const float* by, int64_t n, float* out);
  // x * by, at most `most`; NaN stays
  void (*rescale)(const float* x, const float* by, float most, int64_t n, float* out);
  void (*clamp)(const float* x, float most, int64_t n, float* out);
};

} // namespace dv
