// Products of wide operands against plain loops, on every level, with buffers of the exact size, so
// that the sanitizers see any read or write outside them.
#include "dovetail_wide.h"
#include "support.h"

#include <string.h>
#include <vector>

namespace {

// Tables of factors, or of the words of Mitchell's law, for codes of some bits.
struct Tables {
  std::vector<int16_t> factor[2];
  std::vector<uint32_t> word[2];
  std::vector<int64_t> constant;
  std::vector<dv_wide_segment> segments;
  dv_wide wide;

  Tables(int32_t first_bits, int32_t second_bits) {
    memset(&wide, 0, sizeof wide);
    wide.first_bits = first_bits;
    wide.second_bits = second_bits;
    wide.is_signed = 1;
  }

  void factors(int32_t first_words, int32_t second_words, int32_t span) {
    const int32_t words[2] = {first_words, second_words};
    const int32_t bits[2] = {wide.first_bits, wide.second_bits};
    for (int side = 0; side < 2; side++)
      for (int32_t i = 0; i < words[side] << bits[side]; i++)
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
    const int32_t bits[2] = {wide.first_bits, wide.second_bits};
    for (int side = 0; side < 2; side++)
      for (int32_t i = 0; i < 1 << bits[side]; i++) {
        const uint32_t exponent = (uint32_t)uniform(0, bits[side] - 2);
        const uint32_t number =
            (exponent + (side ? 0 : 127)) << 23 | (uint32_t)uniform(0, 0x7fffff);
        word[side].push_back(number | (uint32_t)uniform(0, 1) << 31);
      }
    wide.law = law;
    wide.low = law == DV_WIDE_LOG_OR ? 0x3fff : 0;
    wide.first_words = wide.second_words = wide.segments = 1;
    wide.first = word[0].data();
    wide.second = word[1].data();
    wide.most = INT64_C(1) << (wide.first_bits + wide.second_bits - 2);
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
    const uint32_t high = (x & ~wide.low) + (y & ~wide.low) +
                          ((x & y & wide.low & ~(wide.low >> 1)) != 0 ? wide.low + 1 : 0);
    const uint32_t bits = wide.law == DV_WIDE_LOG ? x + y : high | ((x | y) & wide.low);
    float value;
    memcpy(&value, &bits, 4);
    return (int64_t)value;
  }
};

std::vector<int16_t> codes(size_t n) {
  std::vector<int16_t> x(n);
  for (int16_t& code : x)
    code = (int16_t)uniform(-32768, 32767);
  return x;
}

bool wide_case(const dv_shape& s, const Tables& tables) {
  const Loops loops(s);
  const int64_t depth = loops.channels * loops.taps;
  const auto a = codes(loops.inputs()), w = codes(loops.weights());
  const int16_t pad = 5;
  std::vector<uint8_t> packed((size_t)dv_wide_packed_bytes(&s, &tables.wide));
  std::vector<int64_t> found(loops.results());
  const dv_input input = {a.data(), 1, 1.0f, 0, 0, 0, pad};
  const dv_output output = {found.data(), 0, 0, nullptr, nullptr};
  if (dv_wide_pack(&s, &tables.wide, w.data(), packed.data()) ||
      dv_wide_run(&s, &tables.wide, packed.data(), &input, &output))
    return false;
  for (size_t i = 0; i < found.size(); i++) {
    int64_t wanted = 0;
    for (int64_t k = 0; k < depth; k++) {
      const int64_t at = loops.input(i, k);
      wanted +=
          tables.product(at < 0 ? pad : a[(size_t)at], w[(size_t)(loops.output(i) * depth + k)]);
    }
    if (found[i] != wanted)
      return false;
  }
  return true;
}

} // namespace

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(45, 31, 39),
      linear(20, 90, 3),
      linear(3, 2000, 5),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 40, 5, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
  };
  Tables small(12, 9), split(16, 16), large(16, 16), log(16, 16), narrow(10, 12), ored(16, 15);
  small.factors(1, 1, 300);
  split.factors(2, 3, 2047);
  large.factors(1, 2, 30000);
  log.logarithms(DV_WIDE_LOG);
  narrow.logarithms(DV_WIDE_LOG);
  ored.logarithms(DV_WIDE_LOG_OR);
  int failures = 0;
  each_level([&] {
    for (const dv_shape& shape : shapes)
      for (const Tables* tables : {&small, &split, &large, &log, &narrow, &ored})
        if (!wide_case(shape, *tables)) {
          printf("%s: outputs %d, channels %d, law %d, %d segments differ\n", dv_level(),
                 (int)shape.outputs, (int)shape.channels, tables->wide.law, tables->wide.segments);
          failures++;
        }
  });
  return conclude(failures);
}
