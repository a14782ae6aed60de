// One op whose sums pass through a register against plain loops, with buffers of the exact size.
#pragma once
#include "activations.h"
#include "dovetail_accumulate.h"

#include <string.h>

namespace {

// Products of bytes, or of numbers, and the memory that they point to.
struct Sources {
  std::vector<int32_t> entries;
  std::vector<uint8_t> recoded[2];
  void* table = nullptr;
  dv_products products;

  // Those of a table lie within -span..span; codes may be recoded.
  Sources(int32_t source, int32_t span, bool recode, bool first_signed = true,
          bool second_signed = true) {
    products = {source, first_signed, second_signed, nullptr, nullptr, nullptr, span};
    if (source == DV_LOOKUP) {
      // Aligned as dv_prepare_table wants it, and no byte longer.
      table = aligned_alloc(64, ((size_t)dv_table_bytes() + 63) / 64 * 64);
      for (int i = 0; i < 65536; i++)
        entries.push_back(uniform(-span, span));
      dv_prepare_table(entries.data(), table);
      products.table = table;
    }
    if (source != DV_CODES)
      return;
    products.bound = (first_signed ? 128 : 255) * (second_signed ? 128 : 255);
    for (int side = 0; recode && side < 2; side++) {
      for (int i = 0; i < 256; i++)
        recoded[side].push_back((uint8_t)uniform(0, 255));
      (side ? products.second : products.first) = recoded[side].data();
    }
  }
  ~Sources() { free(table); }
  Sources(const Sources&) = delete;
  Sources& operator=(const Sources&) = delete;

  double product(uint8_t first, uint8_t second) const {
    if (products.source == DV_LOOKUP)
      return entries[(size_t)first * 256 + second];
    if (products.source == DV_VALUES)
      return (int8_t)first * (int8_t)second;
    const uint8_t a = recoded[0].empty() ? first : recoded[0][first];
    const uint8_t w = recoded[1].empty() ? second : recoded[1][second];
    return (products.first_signed ? (int8_t)a : a) * (products.second_signed ? (int8_t)w : w);
  }
};

inline dv_accumulator integer_register(int32_t kind, int32_t bits, int32_t low, int64_t chunk) {
  dv_accumulator acc;
  memset(&acc, 0, sizeof acc);
  acc.kind = kind;
  acc.bits = bits;
  acc.low = low;
  acc.chunk = chunk;
  return acc;
}

inline dv_accumulator floating_register(int32_t known, int32_t mantissa, int32_t quantum,
                                        double max) {
  dv_accumulator acc = integer_register(DV_FLOATING, 0, 0, 0);
  acc.known = known;
  acc.min = -max;
  acc.max = max;
  acc.format = {DV_TIES_TO_EVEN, 0, mantissa, quantum, 0, 1, 1, 0, {max, -max}, {}, {}, 0, 0};
  for (int i = 0; i < 2; i++)
    acc.format.over[i] = acc.format.infinite[i] = i ? -INFINITY : INFINITY;
  return acc;
}

// To `digits` significant bits, ties to even; the numbers here are far from the lower end.
inline double rounded(double x, int digits) {
  if (x == 0 || !isfinite(x))
    return x;
  int exponent;
  const double fraction = frexp(x, &exponent);
  return ldexp(nearbyint(ldexp(fraction, digits)), exponent - digits);
}

// One addition of a register, and how many were beyond it. Sums of integers below 2^53 are exact.
struct Register {
  const dv_accumulator& acc;
  int32_t overflows = 0;

  double operator()(double a, double b) {
    if (acc.kind == DV_FLOATING) {
      const double sum = rounded(a + b, acc.format.mantissa + 1);
      return fabs(sum) > acc.max ? copysign(INFINITY, sum) : sum;
    }
    const double half = ldexp(1.0, acc.bits - 1), sum = a + b;
    overflows += sum < -half || sum > half - 1;
    if (acc.kind == DV_SATURATE)
      return sum < -half ? -half : sum > half - 1 ? half - 1 : sum;
    return (double)wrapped(added((int64_t)a, (int64_t)b));
  }

private:
  int64_t added(int64_t a, int64_t b) const {
    if (acc.kind == DV_WRAP)
      return a + b;
    const int64_t mask = (INT64_C(1) << acc.low) - 1, x = wrapped(a), y = wrapped(b);
    const int64_t carry = acc.kind == DV_LOA ? (x & y) >> (acc.low - 1) & 1 : 0;
    const int64_t high = ((x >> acc.low) + (y >> acc.low) + carry) * (mask + 1);
    if (acc.kind == DV_TRUNCATED)
      return high;
    if (acc.kind == DV_LOA)
      return high | ((x | y) & mask);
    int64_t ones = 0; // from the highest place below where both are one
    for (int32_t place = 0; place < acc.low; place++)
      ones = x & y & (INT64_C(1) << place) ? (INT64_C(2) << place) - 1 : ones;
    return high | (((x ^ y) | ones) & mask);
  }

  int64_t wrapped(int64_t x) const {
    return acc.bits == 64 ? x : (int64_t)((uint64_t)x << (64 - acc.bits)) >> (64 - acc.bits);
  }
};

// The terms of one output, in the register's order.
inline double through(std::vector<double> terms, Register& add) {
  if (add.acc.order == DV_TREE) {
    if (terms.size() == 1)
      terms.insert(terms.begin(), 0.0);
    while (terms.size() > 1) {
      std::vector<double> above;
      for (size_t i = 0; i + 1 < terms.size(); i += 2)
        above.push_back(add(terms[i], terms[i + 1]));
      if (terms.size() % 2)
        above.push_back(terms.back());
      terms = above;
    }
    return terms[0];
  }
  const size_t run = add.acc.order == DV_RUNS ? (size_t)add.acc.run : terms.size();
  double total = 0;
  for (size_t from = 0; from < terms.size(); from += run) {
    double part = 0;
    for (size_t i = from; i < terms.size() && i < from + run; i++)
      part = add(part, terms[i]);
    total = add.acc.order == DV_RUNS ? add(total, part) : part;
  }
  return total;
}

// Where results go, wide ones in two halves.
struct Found {
  std::vector<int32_t> lower, upper, overflows;
  dv_totals totals;

  Found(size_t size, bool wide, bool counted)
      : lower(size), upper(wide ? size : 0), overflows(counted ? size : 0),
        totals{{lower.data(), 0, 0, nullptr, nullptr},
               wide,
               wide ? upper.data() : nullptr,
               counted ? overflows.data() : nullptr} {}
  Found(const Found&) = delete;
  Found& operator=(const Found&) = delete;

  double operator()(size_t i, bool floating) const {
    float number;
    memcpy(&number, &lower[i], 4);
    if (upper.empty())
      return floating ? (double)number : (double)lower[i];
    const uint64_t bits = (uint64_t)(uint32_t)upper[i] << 32 | (uint32_t)lower[i];
    double wide;
    memcpy(&wide, &bits, 8);
    return floating ? wide : (double)(int64_t)bits;
  }
};

// The inputs are codes, or (`floats`) numbers that the op quantises; overflows may be counted.
bool accumulate_case(const dv_shape& s, const Sources& sources, const dv_accumulator& acc,
                     bool floats = false, bool counted = true) {
  const dv_products& products = sources.products;
  const Loops loops(s);
  const int64_t depth = loops.channels * loops.taps;
  const bool values = products.source == DV_VALUES;
  const Activations<uint8_t> a(loops.inputs(), floats && !values, -128, 127);
  std::vector<uint8_t> w(loops.weights());
  for (uint8_t& code : w)
    code = (uint8_t)uniform(0, 255);
  std::vector<float> x, y;
  for (const uint8_t code : a.codes)
    x.push_back((int8_t)code);
  for (const uint8_t code : w)
    y.push_back((int8_t)code);
  dv_input input = a.input;
  if (values)
    input = {x.data(), 1, 1.0f, 0, 0, 0, 0};
  std::vector<uint8_t> packed((size_t)dv_accumulate_packed_bytes(&s, products.source));
  const bool wide = acc.bits > 32;
  Found found(loops.results(), wide, false), again(loops.results(), wide, counted);
  if (dv_accumulate_pack(&s, &products, values ? (const void*)y.data() : w.data(), packed.data()) ||
      (acc.kind != DV_WRAP &&
       dv_accumulate_run(&s, &products, &acc, packed.data(), &input, &found.totals)) ||
      ((counted || acc.kind == DV_WRAP) &&
       dv_accumulate_run(&s, &products, &acc, packed.data(), &input, &again.totals)))
    return false;
  for (size_t i = 0; i < loops.results(); i++) {
    const int64_t n = loops.output(i), chunk = acc.chunk ? acc.chunk : 1;
    std::vector<double> terms;
    for (int64_t k = 0; k < depth; k++) {
      if (k % chunk == 0)
        terms.push_back(0);
      const int64_t at = loops.input(i, k);
      const uint8_t code = values && at < 0 ? 0 : a.at(at);
      terms.back() += sources.product(code, w[(size_t)(n * depth + k)]);
    }
    Register add{acc};
    const double wanted = through(terms, add);
    const bool floating = acc.kind == DV_FLOATING;
    const auto right = [&](const Found& f) {
      const double y = f(i, floating);
      return y == wanted || (y != y && wanted != wanted);
    };
    if ((acc.kind != DV_WRAP && !right(found)) || (counted && !right(again)))
      return false;
    const bool exact = acc.kind == DV_WRAP || acc.kind == DV_SATURATE;
    if (counted && exact && again.overflows[i] != add.overflows)
      return false;
  }
  return true;
}

} // namespace
