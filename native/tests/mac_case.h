// One op of an 8-bit multiplier against a plain loop, with buffers of the exact size.
#pragma once
#include "activations.h"

namespace {

std::vector<uint8_t> bytes(size_t n, int32_t low, int32_t high) {
  std::vector<uint8_t> x(n);
  for (uint8_t& v : x)
    v = (uint8_t)uniform(low, high);
  return x;
}

// A multiplier that a shape's rank and lookups allow, and its products.
struct Products {
  std::vector<uint8_t> first, second, entry, classes, step;
  std::vector<int32_t> constant, table;
  void* prepared;
  dv_multiplier mul;

  // Those of a table lie within -high..high.
  Products(const dv_shape& s, int32_t high)
      : first(bytes((size_t)s.rank * 256, 0, 255)), second(bytes((size_t)s.rank * 256, 0, 255)),
        entry(bytes((size_t)s.lookups * 4096, 0, 255)),
        classes(bytes((size_t)s.lookups * 256, 0, 15)), step(bytes((size_t)s.lookups, 1, 127)),
        constant(256), table(65536),
        prepared(aligned_alloc(64, ((size_t)dv_table_bytes() + 63) / 64 * 64)) {
    const int32_t second_unsigned = uniform(0, 1);
    for (size_t r = 0; r < (size_t)s.rank; r++) // what the kernels may pass over
      second[r * 256] = 0;
    for (int32_t& x : constant)
      x = s.rank ? uniform(-1000, 1000) : 0;
    for (size_t a = 0; a < 256; a++)
      for (size_t w = 0; w < 256; w++) {
        int32_t& v = table[a * 256 + w];
        v = s.rank ? constant[w] : uniform(-high, high);
        for (size_t r = 0; r < (size_t)s.rank; r++) {
          const uint8_t g = first[r * 256 + a], h = second[r * 256 + w];
          v += second_unsigned ? (int8_t)g * h : g * (int8_t)h;
        }
        const size_t row = s.linear ? a : w, lane = s.linear ? w : a;
        for (size_t i = 0; i < (size_t)s.lookups; i++)
          v += step[i] * entry[(i * 256 + row) * 16 + classes[i * 256 + lane]];
      }
    dv_prepare_table(table.data(), prepared);
    mul = {first.data(),   second.data(), constant.data(), entry.data(),
           classes.data(), step.data(),   prepared,        second_unsigned};
  }
  ~Products() { free(prepared); }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;
};

// The inputs are codes, or (`floats`) numbers that the op quantises; the results sums, or (`fused`)
// numbers.
bool mac_case(const dv_shape& s, int32_t high, bool floats = false, bool fused = false) {
  const Products products(s, high);
  const Loops loops(s);
  const int64_t depth = loops.channels * loops.taps;
  const Activations<uint8_t> a(loops.inputs(), floats, -128, 127);
  std::vector<uint8_t> w = bytes(loops.weights(), 0, 255);
  const bool sparse = uniform(0, 1) != 0; // stretches of zeros
  for (size_t i = 0; sparse && i < w.size(); i++)
    if ((i / (size_t)depth / 16 + i % (size_t)depth / 64) % 2)
      w[i] = 0;
  const Finish finish(s.outputs);
  const int32_t zero = fused ? a.input.zero_point : 0;
  std::vector<uint8_t> packed((size_t)dv_packed_bytes(&s));
  std::vector<int32_t> sums(loops.results());
  std::vector<float> numbers(sums.size());
  const dv_output output = {fused ? (void*)numbers.data() : sums.data(), fused, zero,
                            finish.scale.data(), finish.bias.data()};
  if (dv_pack(&s, &products.mul, w.data(), 1, packed.data()) ||
      dv_run(&s, &products.mul, packed.data(), &a.input, &output))
    return false;
  for (size_t y = 0; y < sums.size(); y++) {
    const int64_t n = loops.output(y);
    uint32_t sum = 0, weights = 0;
    for (int64_t k = 0; k < depth; k++) {
      const uint8_t weight = w[(size_t)(n * depth + k)];
      sum += (uint32_t)products.table[(size_t)a.at(loops.input(y, k)) * 256 + weight];
      weights += (uint32_t)(int8_t)weight;
    }
    const int32_t corrected = (int32_t)(sum - (uint32_t)zero * weights);
    if (fused ? numbers[y] != finish((float)corrected, n) : sums[y] != corrected)
      return false;
  }
  return true;
}

} // namespace
