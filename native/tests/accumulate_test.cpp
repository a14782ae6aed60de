// Sums through an accumulator against plain loops, on every level, with buffers of the exact size,
// so that the sanitizers see any read or write outside them.
#include "dovetail_accumulate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <string>
#include <vector>

namespace {

uint32_t state = 1;
int failures = 0;

int32_t uniform(int32_t low, int32_t high) {
  state = state * 1664525u + 1013904223u;
  return low + (int32_t)((state >> 8) % (uint32_t)(high - low + 1));
}

// Aligned as dv_prepare_table wants it, and no byte longer.
struct Prepared {
  void* data = aligned_alloc(64, (size_t)(dv_table_bytes() + 63) / 64 * 64);
  std::vector<int32_t> entries;

  explicit Prepared(int32_t span) {
    for (int i = 0; i < 65536; i++)
      entries.push_back(uniform(-span, span));
    dv_prepare_table(entries.data(), data);
  }
  ~Prepared() { free(data); }
};

// To `digits` significant bits, ties to even; the numbers here are far from the lower end.
double rounded(double x, int digits) {
  if (x == 0 || isinf(x))
    return x;
  int exponent;
  const double fraction = frexp(x, &exponent);
  return ldexp(nearbyint(ldexp(fraction, digits)), exponent - digits);
}

struct Case {
  dv_products products;
  dv_accumulator acc;
};

// One output's terms, in order, through the register.
double through(const std::vector<double>& terms, const dv_accumulator& acc) {
  double sum = 0;
  for (const double term : terms) {
    sum += term; // exact: of integers below 2^53
    if (acc.kind == DV_SATURATE) {
      const double half = ldexp(1.0, acc.bits - 1);
      sum = sum < -half ? -half : sum > half - 1 ? half - 1 : sum;
    } else if (acc.kind == DV_LOA) {
      const int32_t s = (int32_t)(sum - term), t = (int32_t)term, mask = (1 << acc.low) - 1;
      const int32_t high = (s >> acc.low) + (t >> acc.low) + ((s & t) >> (acc.low - 1) & 1);
      const uint32_t word = (uint32_t)high << acc.low | (uint32_t)((s | t) & mask);
      sum = (int32_t)(word << (32 - acc.bits)) >> (32 - acc.bits);
    } else {
      sum = rounded(sum, acc.format.mantissa + 1);
      sum = fabs(sum) > acc.max ? copysign(INFINITY, sum) : sum;
    }
  }
  return sum;
}

bool run(const dv_shape& s, const Case& c, const int32_t* table) {
  const int64_t in = s.in[1] * s.in[2], taps = s.kernel[1] * s.kernel[2];
  const int64_t channels = s.channels / s.groups, outputs = s.outputs / s.groups;
  const int64_t height = (s.in[1] + s.low[1] + s.high[1] - s.kernel[1]) / s.stride[1] + 1;
  const int64_t width = (s.in[2] + s.low[2] + s.high[2] - s.kernel[2]) / s.stride[2] + 1;
  const bool values = c.products.source == DV_VALUES;
  std::vector<uint8_t> a((size_t)(s.batch * s.channels * in)),
      w((size_t)(s.outputs * channels * taps));
  for (uint8_t& code : a)
    code = (uint8_t)uniform(0, 255);
  for (uint8_t& code : w)
    code = (uint8_t)uniform(0, 255);
  std::vector<float> x, y;
  for (const uint8_t code : a)
    x.push_back((int8_t)code);
  for (const uint8_t code : w)
    y.push_back((int8_t)code);
  const void* weights = values ? (const void*)y.data() : w.data();

  std::vector<uint8_t> packed((size_t)dv_accumulate_packed_bytes(&s, c.products.source));
  const size_t size = (size_t)(s.batch * s.outputs * height * width);
  std::vector<int32_t> found(size), counts(size);
  const uint8_t pad = values ? 0 : 3;
  const dv_input input = {values ? (const void*)x.data() : a.data(), 1, 1.0f, 0, 0, 0, pad};
  const dv_totals plain = {{found.data(), 0, 0, nullptr, nullptr}, 0, nullptr, nullptr};
  if (dv_accumulate_pack(&s, &c.products, weights, packed.data()) ||
      dv_accumulate_run(&s, &c.products, &c.acc, packed.data(), &input, &plain))
    return false;
  std::vector<int32_t> again(size);
  const dv_totals counted = {{again.data(), 0, 0, nullptr, nullptr}, 0, nullptr, counts.data()};
  if (dv_accumulate_run(&s, &c.products, &c.acc, packed.data(), &input, &counted) ||
      memcmp(again.data(), found.data(), size * 4))
    return false;

  for (size_t i = 0; i < size; i++) {
    const int64_t px = (int64_t)i % width, py = (int64_t)i / width % height;
    const int64_t n = (int64_t)i / width / height % s.outputs;
    const int64_t image = (int64_t)i / width / height / s.outputs;
    std::vector<double> terms;
    for (int64_t k = 0; k < channels * taps; k++) {
      const int64_t t = k % taps, channel = n / outputs * channels + k / taps;
      const int64_t ay = py * s.stride[1] + t / s.kernel[2] - s.low[1];
      const int64_t ax = px * s.stride[2] + t % s.kernel[2] - s.low[2];
      const bool inside = ay >= 0 && ax >= 0 && ay < s.in[1] && ax < s.in[2];
      const uint8_t first =
          inside ? a[(size_t)((image * s.channels + channel) * in + ay * s.in[2] + ax)] : pad;
      const uint8_t second = w[(size_t)(n * channels * taps + k)];
      const double product = c.products.source == DV_LOOKUP
                                 ? table[first * 256 + second]
                                 : (double)((int8_t)first * (int8_t)second);
      const int64_t chunk = c.acc.chunk ? c.acc.chunk : 1;
      if (k % chunk == 0)
        terms.push_back(0);
      terms.back() += product;
    }
    const double wanted = through(terms, c.acc);
    float number;
    memcpy(&number, &found[i], 4);
    if ((c.acc.kind == DV_FLOATING ? (double)number : (double)found[i]) != wanted)
      return false;
  }
  return true;
}

dv_shape conv(int64_t batch, int64_t channels, int64_t outputs, int64_t groups, int64_t side,
              int64_t kernel, int64_t stride, int64_t pad) {
  return {batch,
          channels,
          outputs,
          groups,
          {1, side, side + 1},
          {1, kernel, kernel},
          {1, stride, stride},
          {1, 1, 1},
          {0, pad, 0},
          {0, pad, pad},
          0,
          0,
          0};
}

dv_shape linear(int64_t batch, int64_t channels, int64_t outputs) {
  return {batch,     channels,  outputs,   1, {1, 1, 1}, {1, 1, 1}, {1, 1, 1},
          {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, 1, 0,         0};
}

dv_accumulator integer(int32_t kind, int32_t bits, int32_t low, int64_t chunk) {
  dv_accumulator acc;
  memset(&acc, 0, sizeof acc);
  acc.kind = kind;
  acc.bits = bits;
  acc.low = low;
  acc.chunk = chunk;
  return acc;
}

dv_accumulator floating(int32_t known, int32_t mantissa, int32_t quantum, double max) {
  dv_accumulator acc = integer(DV_FLOATING, 0, 0, 0);
  acc.known = known;
  acc.min = -max;
  acc.max = max;
  acc.format = {DV_TIES_TO_EVEN, 0, mantissa, quantum, 0, 1, 1, 0, {max, -max}, {}, {}, 0, 0};
  for (int i = 0; i < 2; i++)
    acc.format.over[i] = acc.format.infinite[i] = i ? -INFINITY : INFINITY;
  return acc;
}

} // namespace

int main() {
  const dv_shape shapes[] = {
      linear(1, 7, 130),
      linear(45, 31, 39),
      linear(20, 90, 3),
      conv(2, 5, 13, 1, 7, 3, 1, 1),
      conv(1, 6, 10, 2, 9, 3, 2, 1),
      conv(3, 40, 5, 1, 4, 1, 1, 0),
      conv(2, 9, 9, 9, 6, 3, 1, 2),
  };
  const dv_accumulator accumulators[] = {
      integer(DV_SATURATE, 16, 0, 0),    integer(DV_SATURATE, 12, 0, 0),
      integer(DV_SATURATE, 19, 0, 0),    integer(DV_SATURATE, 17, 0, 4),
      integer(DV_LOA, 24, 6, 0),         floating(DV_SINGLE, 23, -149, 0x1.fffffep127),
      floating(DV_HALF, 10, -24, 65504), floating(DV_BRAIN, 7, -133, 0x1.fep127),
  };
  const Prepared narrow(300), wide(1 << 16);
  const dv_products sources[] = {
      {DV_CODES, 1, 1, nullptr, nullptr, nullptr, 16384},
      {DV_LOOKUP, 1, 1, nullptr, nullptr, narrow.data, 300},
      {DV_LOOKUP, 1, 1, nullptr, nullptr, wide.data, 1 << 16},
      {DV_VALUES, 1, 1, nullptr, nullptr, nullptr, 0},
  };
  const std::string levels = dv_levels();
  for (size_t from = 0; from < levels.size();) {
    const size_t space = levels.find(' ', from);
    const std::string level =
        levels.substr(from, space == std::string::npos ? space : space - from);
    from = space == std::string::npos ? levels.size() : space + 1;
    if (dv_set_level(level.c_str()) != DV_OK)
      failures++;
    for (const dv_shape& shape : shapes)
      for (const dv_accumulator& acc : accumulators)
        for (const dv_products& products : sources) {
          if (products.source == DV_VALUES && acc.kind != DV_FLOATING)
            continue;
          const int32_t* table =
              products.table == wide.data ? wide.entries.data() : narrow.entries.data();
          if (!run(shape, {products, acc}, table)) {
            printf("%s: outputs %d, kind %d of %d bits, known %d, source %d, bound %d differ\n",
                   level.c_str(), (int)shape.outputs, acc.kind, acc.bits, acc.known,
                   products.source, (int)products.bound);
            failures++;
          }
        }
  }
  printf("%s: %d failures\n", levels.c_str(), failures);
  return failures != 0;
}
