// One op of a multiplier of wide operands against plain loops, with buffers of the exact size.
#pragma once
#include "activations.h"
#include "dovetail_wide.h"

#include <string.h>

namespace {

// Tables of factors, or of the words of Mitchell's law, for codes of some bits.
struct Tables {
  std::vector<int16_t> factor[2];
  std::vector<uint32_t> word[2];
  std::vector<int64_t> constant;
  std::vector<dv_wide_segment> segments;
  dv_wide wide;

  Tables(int32_t first_bits, int32_t second_bits, int32_t is_signed = 1) {
    memset(&wide, 0, sizeof wide);
    wide.first_bits = first_bits;
    wide.second_bits = second_bits;
    wide.is_signed = is_signed;
  }

  void factors(int32_t first_words, int32_t second_words, int32_t span) {
    const int32_t words[2] = {first_words, second_words};
    for (int side = 0; side < 2; side++)
      for (int32_t i = 0; i < words[side] << bits(side); i++)
        factor[side].push_back((int16_t)uniform(-span, span));
    for (int32_t i = 0; i < 1 << wide.second_bits; i++)
      constant.push_back(uniform(-9999, 9999) * (int64_t)99999);
    for (int32_t f = 0; f < first_words; f++)
      for (int32_t s = 0; s < second_words; s++)
        segments.push_back({f, s, f * 7});
    wide.law = DV_WIDE_FACTORS;
    wide.first_words = first_words;
    wide.second_words = second_words;
    wide.segments = (int32_t)segments.size();
    wide.first = factor[0].data();
    wide.second = factor[1].data();
    wide.segment = segments.data();
    wide.constant = constant.data();
  }

  // Words of floats of random magnitudes, the second ones less float32's bias.
  void logarithms(int32_t law) {
    for (int side = 0; side < 2; side++)
      for (int32_t i = 0; i < 1 << bits(side); i++) {
        const int32_t most = bits(side) > 2 ? bits(side) - 2 : 0;
        const uint32_t exponent = (uint32_t)(uniform(0, most) + (side ? 0 : 127));
        word[side].push_back(exponent << 23 | (uint32_t)uniform(0, 0x7fffff) | sign());
      }
    one_word_each(law, law == DV_WIDE_LOG_OR ? 0x3fff : 0);
  }

  // Signs and magnitudes.
  void magnitudes(uint32_t split) {
    for (int side = 0; side < 2; side++)
      for (int32_t i = 0; i < 1 << bits(side); i++)
        word[side].push_back((uint32_t)uniform(0, (1 << (bits(side) - 1)) - 1) | sign());
    one_word_each(DV_WIDE_ERROR_TOLERANT, split);
  }

  int64_t product(int16_t a, int16_t w) const {
    const size_t i = (uint16_t)a & ((1u << wide.first_bits) - 1);
    const size_t j = (uint16_t)w & ((1u << wide.second_bits) - 1);
    if (wide.law == DV_WIDE_FACTORS) {
      int64_t sum = constant[j];
      for (const dv_wide_segment& s : segments)
        sum += ((int64_t)factor[0][i * (size_t)wide.first_words + (size_t)s.first] *
                factor[1][j * (size_t)wide.second_words + (size_t)s.second]) *
               (INT64_C(1) << s.shift);
      return sum;
    }
    const uint32_t x = word[0][i], y = word[1][j];
    if (wide.law == DV_WIDE_ERROR_TOLERANT)
      return (x ^ y) >> 31 ? -tolerant(x & 0xffff, y & 0xffff) : tolerant(x & 0xffff, y & 0xffff);
    const uint32_t high = (x & ~wide.low) + (y & ~wide.low) +
                          ((x & y & wide.low & ~(wide.low >> 1)) != 0 ? wide.low + 1 : 0);
    const uint32_t sum = wide.law == DV_WIDE_LOG_OR ? high | ((x | y) & wide.low) : x + y;
    const volatile float mean = number((x & 0xff800000) + (y & 0xff800000)) * (5.0f / 64);
    return (int64_t)(wide.law == DV_WIDE_LOG_MEAN ? number(sum) + mean : number(sum));
  }

  // What a weight's code stands for in the correction for a zero point.
  int64_t value(int16_t w) const { return wide.is_signed ? (int64_t)w : (int64_t)(uint16_t)w; }

private:
  int32_t bits(int side) const { return side ? wide.second_bits : wide.first_bits; }
  uint32_t sign() const { return wide.is_signed ? (uint32_t)uniform(0, 1) << 31 : 0; }

  // Products stay below 2^(bits together - 1): of magnitudes of a bit less each, with a correction.
  void one_word_each(int32_t law, uint32_t low) {
    wide.law = law;
    wide.low = low;
    wide.first_words = wide.second_words = wide.segments = 1;
    wide.first = word[0].data();
    wide.second = word[1].data();
    const int32_t together = wide.first_bits + wide.second_bits - 1;
    wide.most = together < 31 ? INT64_C(1) << together : INT32_MAX;
  }

  static float number(uint32_t pattern) {
    float value;
    memcpy(&value, &pattern, 4);
    return value;
  }

  int64_t tolerant(int64_t x, int64_t y) const {
    const int64_t lower = (INT64_C(1) << wide.low) - 1, both = (x | y) & lower;
    if (((x | y) & ~lower) == 0)
      return x * y;
    int64_t filled = 0;
    for (int64_t bit = 1; both >= bit; bit *= 2)
      filled = (bit << (wide.low + 1)) - 1;
    return (x & ~lower) * (y & ~lower) + filled;
  }
};

// The inputs are codes, or (`floats`) numbers that the op quantises; the results sums, or (`fused`)
// numbers.
bool wide_case(const dv_shape& s, const Tables& tables, bool floats = false, bool fused = false) {
  const Loops loops(s);
  const int64_t depth = loops.channels * loops.taps;
  const int32_t half = 1 << (tables.wide.first_bits - 1);
  const Activations<int16_t> a(loops.inputs(), floats, -half, half - 1);
  std::vector<int16_t> w(loops.weights());
  for (int16_t& code : w)
    code = (int16_t)uniform(-32768, 32767);
  const Finish finish(s.outputs);
  const int32_t zero = fused ? a.input.zero_point : 0;
  std::vector<uint8_t> packed((size_t)dv_wide_packed_bytes(&s, &tables.wide));
  std::vector<int64_t> sums(loops.results());
  std::vector<float> numbers(sums.size());
  const dv_output output = {fused ? (void*)numbers.data() : sums.data(), fused, zero,
                            finish.scale.data(), finish.bias.data()};
  if (dv_wide_pack(&s, &tables.wide, w.data(), packed.data()) ||
      dv_wide_run(&s, &tables.wide, packed.data(), &a.input, &output))
    return false;
  for (size_t y = 0; y < sums.size(); y++) {
    const int64_t n = loops.output(y);
    int64_t sum = 0;
    for (int64_t k = 0; k < depth; k++) {
      const int16_t weight = w[(size_t)(n * depth + k)];
      sum += tables.product(a.at(loops.input(y, k)), weight) - zero * tables.value(weight);
    }
    if (fused ? numbers[y] != finish((float)sum, n) : sums[y] != sum)
      return false;
  }
  return true;
}

} // namespace
