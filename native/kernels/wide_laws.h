// How two units become a product, and how products are summed: in vectors of the level's width.
//
// Arithmetic is modulo 2^32 on unsigned vectors; conversions and shifts that want a sign have one.
#pragma once
#include "kernels/wide_tile.h"

namespace {

// Pairs of 16-bit factors.
struct Factors {
  static constexpr int ROWS = FACTOR_ROWS;
  struct Sum {
    Words sum;
  };
  explicit Factors(const dv::WideTile&) {}
  void add(Sum& s, Words lane, Words row) const { s.sum = multiply_add(s.sum, lane, row); }
  static void total(const Sum& s, int64_t* out) {
    int32_t sum[WIDTH];
    memcpy(sum, &s.sum, sizeof sum);
    for (int i = 0; i < WIDTH; i++)
      out[i] = sum[i];
  }
};

// Zero operands have an exponent so small that every law's float is below one.
struct Log {
  explicit Log(const dv::WideTile& t) : low(all(t.low)) {}
  Floats value(Words lane, Words row) const { return (Floats)((lane + row) | low); }
  Words low;
};

// x + y - (x & y) is x | y; the carry out of `low` adds twice its highest bit. With v = x & y & low
// that is x + y - v + 2 (v & bit) = x + y + bit - (v ^ bit), v having no bit above.
struct LogOr {
  explicit LogOr(const dv::WideTile& t) : low(all(t.low)), bit(all(t.low & ~(t.low >> 1))) {}
  Floats value(Words lane, Words row) const {
    return (Floats)(lane + row + bit - ((lane & row & low) ^ bit));
  }
  Words low, bit;
};

// The sum is exact: with p >= q the leading ones, Mitchell's product has no bit below 2^q, the
// correction none below 2^(p+q-6), and neither one above 2^(p+q+1), p <= 15.
struct LogMean {
  explicit LogMean(const dv::WideTile&) : power(all(0xff800000u)) {}
  Floats value(Words lane, Words row) const {
    const Floats ones = (Floats)((lane & power) + (row & power));
    return (Floats)(lane + row) + ones * (5.0f / 64);
  }
  Words power;
};

// Upper parts are multiplied; below, every bit from the leading one of the ORed lower parts down is
// set. If both upper parts are zero the lower ones are multiplied instead.
struct ErrorTolerant {
  explicit ErrorTolerant(const dv::WideTile& t)
      : ones(all((1u << t.low) - 1)), places(all((t.low + 1) << 23)) {}
  Words product(Words lane, Words row) const {
    const Words x = lane & MAGNITUDE, y = row & MAGNITUDE;
    // 2^(split + leading one + 1), from the exponent of the float; below one where there is none.
    const Words low = (x | y) & ones;
    const Floats value = __builtin_convertvector((Ints)low, Floats);
    const Words power = ((Words)value & 0x7f800000u) + places;
    const Words filled = (Words) __builtin_convertvector((Floats)power, Ints) + (Words)(low != 0u);
    const Words small = (Words)(((x | y) & ~ones) == 0u);
    const Words magnitude = (x & ~ones) * (y & ~ones) + ((small & (x * y)) | (~small & filled));
    const Words sign = (Words)((Ints)(lane ^ row) >> 31);
    return (magnitude ^ sign) - sign;
  }
  static constexpr uint32_t MAGNITUDE = 0xffff;
  Words ones, places;
};

// The integer that a law's float rounds to, towards zero; it fits 32 bits.
template <bool SIGNED, typename Law>
auto integer(const Law& law, Words lane, Words row) -> decltype((Words)law.value(lane, row)) {
  const Floats value = law.value(lane, row);
  return SIGNED ? (Words) __builtin_convertvector(value, Ints)
                : __builtin_convertvector(value, Words);
}
template <bool SIGNED> Words integer(const ErrorTolerant& law, Words lane, Words row) {
  return law.product(lane, row);
}

// Whole products in 32 bits, as many as surely fit.
template <typename Law> struct Summed {
  static constexpr int ROWS = WHOLE_ROWS;
  struct Sum {
    Words sum;
  };
  explicit Summed(const dv::WideTile& t) : law(t) {}
  void add(Sum& s, Words lane, Words row) const { s.sum += integer<true>(law, lane, row); }
  static void total(const Sum& s, int64_t* out) {
    int32_t sum[WIDTH];
    memcpy(sum, &s.sum, sizeof sum);
    for (int i = 0; i < WIDTH; i++)
      out[i] = sum[i];
  }
  Law law;
};

// Sums modulo 2^32, and sums of what lies above bit 15. Each product is v = 2^16 (v >> 16) + r with
// 0 <= r < 2^16, so the r of up to 32768 products sum below 2^31: they are `sum - 2^16 high`
// modulo 2^32, and `high` itself does not overflow.
template <typename Law, bool SIGNED> struct Halved {
  static constexpr int ROWS = HALVED_ROWS;
  struct Sum {
    Words sum, high;
  };
  explicit Halved(const dv::WideTile& t) : law(t) {}
  void add(Sum& s, Words lane, Words row) const {
    const Words product = integer<SIGNED>(law, lane, row);
    s.sum += product;
    s.high += SIGNED ? (Words)((Ints)product >> 16) : product >> 16;
  }
  static void total(const Sum& s, int64_t* out) {
    uint32_t sum[WIDTH], high[WIDTH];
    memcpy(sum, &s.sum, sizeof sum);
    memcpy(high, &s.high, sizeof high);
    for (int i = 0; i < WIDTH; i++) {
      const int64_t upper = SIGNED ? (int64_t)(int32_t)high[i] : (int64_t)high[i];
      out[i] = upper * 65536 + (int64_t)(sum[i] - (high[i] << 16));
    }
  }
  Law law;
};

} // namespace
