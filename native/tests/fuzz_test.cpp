// One op of the native core for any string of bytes: its shape, strides, paddings, types and
// formats are read from them, and its numbers follow from them. Layers are compared with plain
// loops, casts on every level with those on the first, and the sanitizers see any read or write
// outside buffers of the exact size.
//
// With libFuzzer (clang, DOVETAIL_FUZZ) it looks for such strings; by itself it tries some hundreds
// of pseudo-random ones, or as many as its argument says.
#include "accumulate_case.h"
#include "block_case.h"
#include "dovetail_cast.h"
#include "float_case.h"
#include "mac_case.h"
#include "wide_case.h"

#include <string.h>

namespace {

// Reads a string as choices; where it has ended, the least of each.
class Choices {
public:
  Choices(const uint8_t* data, size_t size) : at_(data), left_(size) {}

  int32_t in(int32_t low, int32_t high) {
    uint32_t value = 0;
    for (int32_t i = 0; i < (high - low > 255 ? 4 : 1) && left_; i++, left_--)
      value = value << 8 | *at_++;
    return low + (int32_t)(value % (uint32_t)(high - low + 1));
  }

  template <typename T, size_t N> const T& of(const T (&list)[N]) {
    return list[(size_t)in(0, (int32_t)N - 1)];
  }

private:
  const uint8_t* at_;
  size_t left_;
};

dv_shape any_linear(Choices& c) { return linear(c.in(1, 40), c.in(1, 300), c.in(1, 150)); }

// At most three dimensions, and some 10^5 products, so that thousands of ops take seconds.
dv_shape any_conv(Choices& c) {
  const int32_t dimensions = c.in(1, 3), depthwise = c.in(0, 2);
  dv_shape s = linear(c.in(1, 3), 1, 1);
  s.linear = 0;
  s.groups = depthwise ? c.in(1, 20) : c.in(1, 3);
  s.channels = s.groups * (depthwise ? 1 : c.in(1, 12));
  s.outputs = s.groups * (depthwise ? c.in(1, 2) : c.in(1, 12));
  for (int i = 3 - dimensions; i < 3; i++) {
    s.kernel[i] = c.in(1, dimensions == 1 ? 9 : 4);
    s.stride[i] = c.in(1, 4);
    s.dilation[i] = c.in(1, 3);
    s.low[i] = c.in(0, 4);
    s.high[i] = c.in(0, 4);
    const int64_t span = s.dilation[i] * (s.kernel[i] - 1) + 1 - s.low[i] - s.high[i];
    s.in[i] = (span > 1 ? span : 1) + c.in(0, dimensions == 3 ? 3 : 9);
  }
  return s;
}

dv_shape any_shape(Choices& c) { return c.in(0, 1) ? any_conv(c) : any_linear(c); }

bool mac(Choices& c) {
  dv_shape s = any_shape(c);
  s.rank = c.in(0, 5);
  s.lookups = s.rank ? c.in(0, 3) : 0;
  const int32_t highs[] = {1, 127, 128, 255, 256, 16000, 32767, 32768, 65025, 1 << 20};
  const int32_t high = c.of(highs);
  return mac_case(s, high, c.in(0, 1), c.in(0, 1));
}

bool blocks(Choices& c) {
  const dv_shape s = any_shape(c);
  dv_block_format f = c.of(BLOCK_FORMATS);
  // Two parts of a split row are enough for 32 products of two E5M2.
  f.block = c.in(0, 1) ? f.block : c.in(1, f.most > 0x1p30 ? 32 : 80);
  const int32_t binades = c.in(1, 60), few = c.in(0, 1);
  return block_case(s, f, binades, few, c.in(1, 3));
}

bool floats(Choices& c) {
  const dv_shape s = any_shape(c);
  const FloatMul f(c.in(0, 2), c.in(0, 10));
  return float_case(s, f, c.in(1, 70), c.in(0, 1));
}

bool wide_operands(Choices& c) {
  const dv_shape s = any_shape(c);
  Tables tables(c.in(2, 16), c.in(2, 16), c.in(0, 1));
  const int32_t law = c.in(DV_WIDE_FACTORS, DV_WIDE_ERROR_TOLERANT), first = c.in(1, 3);
  if (law == DV_WIDE_FACTORS)
    tables.factors(first, c.in(1, 3), c.in(1, 32767));
  else if (law == DV_WIDE_ERROR_TOLERANT)
    tables.magnitudes((uint32_t)c.in(1, 15));
  else
    tables.logarithms(law);
  return wide_case(s, tables, c.in(0, 1), c.in(0, 1));
}

dv_accumulator any_register(Choices& c) {
  const int32_t kind = c.in(DV_WRAP, DV_FLOATING), bits = c.in(8, 40);
  dv_accumulator acc = integer_register(kind, bits, c.in(1, bits - 1), 0);
  if (kind == DV_FLOATING) {
    const int32_t known = c.in(DV_OTHER, DV_BRAIN);
    acc = known == DV_SINGLE ? floating_register(known, 23, -149, 0x1.fffffep127)
          : known == DV_HALF ? floating_register(known, 10, -24, 65504)
                             : floating_register(known, 7, -133, 0x1.fep127);
  }
  acc.order = c.in(DV_SEQUENTIAL, DV_RUNS);
  acc.run = c.in(1, 40);
  acc.chunk = c.in(0, 40);
  return acc;
}

bool registers(Choices& c) {
  const dv_shape s = any_shape(c);
  const dv_accumulator acc = any_register(c);
  const int32_t source = c.in(DV_CODES, acc.kind == DV_FLOATING ? DV_VALUES : DV_LOOKUP);
  const int32_t spans[] = {1, 300, 16384, 32767, 65025, 1 << 20};
  const int32_t span = c.of(spans), floats = c.in(0, 1), recoded = c.in(0, 1);
  const int32_t first_signed = c.in(0, 1);
  const Sources sources(source, span, recoded, first_signed, c.in(0, 1));
  return accumulate_case(s, sources, acc, floats, acc.kind == DV_WRAP || c.in(0, 1));
}

bool quantise(Choices& c) {
  const int64_t outer = c.in(0, 4), channels = c.in(1, 9), inner = c.in(0, 1000);
  const int32_t bytes = 1 << c.in(0, 2), bits = c.in(1, bytes == 1 ? 8 : 16);
  const int32_t least = c.in(0, 1) ? 0 : -(1 << (bits - 1)), most = least + (1 << bits) - 1;
  const Activations<int32_t> a((size_t)(outer * channels * inner), false, least, most);
  std::vector<float> scale;
  std::vector<int32_t> zero;
  for (int64_t i = 0; i < channels; i++) {
    scale.push_back(ldexpf((float)uniform(1, 999), uniform(-60, 10)));
    zero.push_back(uniform(least, most));
  }
  std::vector<uint8_t> found(a.x.size() * (size_t)bytes);
  if (dv_quantize(a.x.data(), outer, channels, inner, scale.data(), zero.data(), least, most, bytes,
                  found.data()))
    return false;
  for (size_t i = 0; i < a.x.size(); i++) {
    const size_t n = i / (size_t)inner % (size_t)channels;
    const int32_t wanted = quantised(a.x[i], scale[n], zero[n], least, most);
    if (memcmp(&found[i * (size_t)bytes], &wanted, (size_t)bytes)) // the lowest bytes come first
      return false;
  }
  return true;
}

// A tensor of random bits, its copy to be cast in place, and how the two are cast.
struct Tensor {
  int32_t dtype;
  std::vector<uint8_t> x;
  int64_t outer, length, inner;
  uint64_t seed;

  explicit Tensor(Choices& c, int32_t dtypes)
      : dtype(c.in(0, dtypes - 1)), outer(c.in(0, 5)), length(c.in(0, 70)),
        inner(c.in(0, 1) ? 1 : c.in(1, 40)), seed((uint64_t)c.in(0, 255)) {
    static const size_t widths[] = {4, 8, 2, 2};
    x.resize((size_t)(outer * length * inner) * widths[dtype]);
    // Bits of one exponent, near it, or any.
    const int32_t spread = c.in(0, 3);
    for (size_t i = 0; i < x.size(); i++)
      x[i] = (uint8_t)(next() >> 24);
    for (size_t i = 0; i < x.size() && spread; i += widths[dtype]) {
      uint8_t* high = &x[i + widths[dtype] - 1];
      *high = (uint8_t)((*high & 0x80) | (0x3f + uniform(0, spread)));
    }
  }

  // Whether `cast` gives the same bits on every level, in place or not; any NaN is a NaN.
  template <typename F> bool same_on_all_levels(F cast) const {
    std::vector<uint8_t> first;
    int32_t status = 0;
    bool same = true;
    each_level([&] {
      std::vector<uint8_t> out(x.size()), place = x;
      dv_tensor t{};
      t.x = x.data();
      t.out = out.data();
      t.outer = outer;
      t.length = length;
      t.inner = inner;
      t.dtype = dtype;
      t.seed = seed;
      const int32_t found = cast(t);
      if (first.empty()) {
        status = found;
        first = out;
      }
      t.x = t.out = place.data();
      same = same && found == status && cast(t) == status && equal(first, out);
      same = same && (status || equal(first, place));
    });
    return same;
  }

private:
  bool equal(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) const {
    if (dtype != DV_FLOAT32 || a.size() != b.size())
      return a == b;
    for (size_t i = 0; i < a.size(); i += 4) {
      float u, v;
      memcpy(&u, &a[i], 4);
      memcpy(&v, &b[i], 4);
      if (memcmp(&u, &v, 4) && !(isnan(u) && isnan(v)))
        return false;
    }
    return true;
  }
};

struct Element : dv_element {
  int32_t emax; // of the largest value
};

Element any_element(Choices& c) {
  Element e{};
  e.mode = c.in(0, DV_MODES - 1);
  e.random_bits = e.mode == DV_STOCHASTIC ? c.in(1, 24) : 0;
  e.mantissa = c.in(-1, 10);
  const int32_t first = c.in(-20, 0);
  e.emax = c.in(1, 20);
  e.quantum = first - (e.mantissa < 0 ? 0 : e.mantissa);
  e.bias = 1 - first;
  e.is_signed = c.in(0, 3) > 0;
  e.negative_zero = c.in(0, 1);
  const double most = ldexp(2 - ldexp(1, e.mantissa < 0 ? -5 : -e.mantissa), e.emax);
  const bool saturates = c.in(0, 1);
  for (int side = 0; side < 2; side++)
    e.max[side] = e.over[side] = e.infinite[side] = side ? -most : most;
  if (!saturates)
    for (int side = 0; side < 2; side++)
      e.over[side] = e.infinite[side] = side ? -INFINITY : INFINITY;
  return e;
}

bool elements(Choices& c) {
  const Tensor x(c, 4);
  const Element e = any_element(c);
  return x.same_on_all_levels([&](const dv_tensor& t) { return dv_cast_element(&t, &e); });
}

bool shared_powers(Choices& c) {
  const Tensor x(c, 4);
  const Element e = any_element(c);
  const dv_blocks b = {c.in(1, 90), c.in(0, 3), e.emax, e.mantissa < 0 ? 0 : e.mantissa, -127, 127};
  return x.same_on_all_levels([&](const dv_tensor& t) { return dv_cast_blocks(&t, &e, &b); });
}

bool shared_scales(Choices& c) {
  const Tensor x(c, 1);
  const Element e = any_element(c), scale = any_element(c);
  const dv_scaled b = {c.in(1, 90), (float)c.in(1, 448), c.in(0, 1), ldexpf(1, c.in(-9, 9))};
  return x.same_on_all_levels(
      [&](const dv_tensor& t) { return dv_cast_scaled(&t, &e, nullptr, &scale, &b); });
}

bool posits(Choices& c) {
  const Tensor x(c, 4);
  const dv_posit p = {c.in(0, DV_STOCHASTIC - 1), c.in(3, 16), c.in(0, 3)};
  return x.same_on_all_levels([&](const dv_tensor& t) { return dv_cast_posit(&t, &p); });
}

bool integers(Choices& c) {
  Tensor x(c, 1);
  const int64_t channels = c.in(0, 1) && x.length ? x.length : 1;
  std::vector<float> scale;
  std::vector<int32_t> zero;
  const int32_t least = -c.in(0, 255), most = c.in(1, 255), mode = c.in(0, DV_MODES - 1);
  const dv_integers codes = {mode, mode == DV_STOCHASTIC ? c.in(1, 24) : 0, least, most, 0, 1, 0};
  for (int64_t i = 0; i < channels; i++) {
    scale.push_back(ldexpf((float)uniform(1, 999), uniform(-20, 10)));
    zero.push_back(uniform(least, most));
  }
  return x.same_on_all_levels([&](const dv_tensor& t) {
    return dv_cast_affine(&t, channels, scale.data(), zero.data(), &codes);
  });
}

struct Op {
  bool (*run)(Choices&);
  bool each_level; // else it passes over the levels itself
};
constexpr Op OPS[] = {
    {mac, true},           {blocks, true},         {floats, true},
    {wide_operands, true}, {registers, true},      {quantise, true},
    {elements, false},     {shared_powers, false}, {shared_scales, false},
    {posits, false},       {integers, false},
};

bool one(const uint8_t* data, size_t size) {
  Choices c(data, size);
  const Op op = c.of(OPS);
  state = (uint32_t)c.in(0, 65535);
  if (!op.each_level)
    return op.run(c);
  bool right = true;
  each_level([&] {
    Choices again = c;
    right = right && op.run(again);
  });
  return right;
}

} // namespace

#if defined(DOVETAIL_FUZZ)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (!one(data, size))
    abort();
  return 0;
}

#else

int main(int argc, char** argv) {
  const int32_t count = argc > 1 ? atoi(argv[1]) : 300;
  int failures = 0;
  for (int32_t i = 0; i < count; i++) {
    uint8_t data[96];
    state = (uint32_t)i * 2654435761u + 1;
    for (uint8_t& byte : data)
      byte = (uint8_t)(next() >> 24);
    if (!one(data, sizeof data)) {
      printf("input %d, op %d, differs on %s\n", i, data[0] % (int)(sizeof OPS / sizeof *OPS),
             dv_level());
      failures++;
    }
  }
  return conclude(failures);
}

#endif
