// The C interface against a plain triple loop, on every level, with buffers of the exact size, so
// that the sanitizers see any read or write outside them.
#include "dovetail.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

namespace {

uint32_t state = 1;
int32_t uniform(int32_t low, int32_t high) {
  state = state * 1664525u + 1013904223u;
  return low + (int32_t)((state >> 8) % (uint32_t)(high - low + 1));
}

struct Case {
  dv_shape shape;
  int32_t low, high; // range of the table's values
};

Case linear(int64_t batch, int64_t channels, int64_t outputs, int32_t rank, int32_t lookups,
            int32_t high) {
  Case c = {{batch,
             channels,
             outputs,
             1,
             {1, 1, 1},
             {1, 1, 1},
             {1, 1, 1},
             {1, 1, 1},
             {0, 0, 0},
             {0, 0, 0},
             1,
             rank,
             lookups},
            -high,
            high};
  return c;
}

Case conv(int64_t batch, int64_t channels, int64_t outputs, int64_t groups, int64_t side,
          int64_t kernel, int64_t stride, int64_t pad, int32_t rank, int32_t lookups,
          int32_t high) {
  Case c = {{batch,
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
             rank,
             lookups},
            -high,
            high};
  return c;
}

int64_t out_size(const dv_shape& s, int i) {
  return (s.in[i] + s.low[i] + s.high[i] - s.dilation[i] * (s.kernel[i] - 1) - 1) / s.stride[i] + 1;
}

bool run(const Case& c) {
  const dv_shape& s = c.shape;
  const int32_t second_unsigned = uniform(0, 1);
  std::vector<uint8_t> first((size_t)s.rank * 256), second((size_t)s.rank * 256);
  std::vector<uint8_t> entry((size_t)s.lookups * 4096), classes((size_t)s.lookups * 256);
  std::vector<uint8_t> step((size_t)s.lookups);
  std::vector<int32_t> table(65536), constant(256);
  for (auto* bytes : {&first, &second, &entry})
    for (auto& x : *bytes)
      x = (uint8_t)uniform(0, 255);
  for (auto& x : classes)
    x = (uint8_t)uniform(0, 15);
  for (auto& x : step)
    x = (uint8_t)uniform(1, 127);
  for (auto& x : constant)
    x = s.rank ? uniform(-1000, 1000) : 0;
  for (size_t a = 0; a < 256; a++)
    for (size_t w = 0; w < 256; w++) {
      int32_t& v = table[a * 256 + w];
      v = s.rank ? constant[w] : uniform(c.low, c.high);
      for (size_t r = 0; r < (size_t)s.rank; r++) {
        const uint8_t g = first[r * 256 + a], h = second[r * 256 + w];
        v += second_unsigned ? (int8_t)g * h : g * (int8_t)h;
      }
      const size_t row = s.linear ? a : w, lane = s.linear ? w : a;
      for (size_t i = 0; i < (size_t)s.lookups; i++)
        v += step[i] * entry[(i * 256 + row) * 16 + classes[i * 256 + lane]];
    }
  void* prepared = aligned_alloc(64, ((size_t)dv_table_bytes() + 63) / 64 * 64);
  dv_prepare_table(table.data(), prepared);
  const dv_multiplier m = {first.data(),   second.data(), constant.data(), entry.data(),
                           classes.data(), step.data(),   prepared,        second_unsigned};

  const int64_t in = s.in[0] * s.in[1] * s.in[2], per_group = s.channels / s.groups;
  const int64_t taps = s.kernel[0] * s.kernel[1] * s.kernel[2], depth = per_group * taps;
  const int64_t od = out_size(s, 0), oh = out_size(s, 1), ow = out_size(s, 2);
  std::vector<uint8_t> a((size_t)(s.batch * s.channels * in)), w((size_t)(s.outputs * depth));
  for (auto& x : a)
    x = (uint8_t)uniform(0, 255);
  for (auto& x : w)
    x = (uint8_t)uniform(0, 255);
  std::vector<uint8_t> packed((size_t)dv_packed_bytes(&s));
  std::vector<int32_t> y((size_t)(s.batch * s.outputs * od * oh * ow));
  const dv_input input = {a.data(), 1, 1, 0, 0, 0, 77};
  const dv_output output = {y.data(), 0, 0, nullptr, nullptr};
  bool ok = dv_pack(&s, &m, w.data(), 1, packed.data()) == DV_OK &&
            dv_run(&s, &m, packed.data(), &input, &output) == DV_OK;

  size_t at = 0;
  for (int64_t b = 0; b < s.batch; b++)
    for (int64_t n = 0; n < s.outputs; n++)
      for (int64_t o = 0; o < od * oh * ow; o++) {
        uint32_t sum = 0;
        const int64_t z = o / oh / ow, yy = o / ow % oh, x = o % ow;
        for (int64_t c0 = 0; c0 < per_group; c0++)
          for (int64_t t = 0; t < taps; t++) {
            const int64_t kz = t / s.kernel[2] / s.kernel[1], ky = t / s.kernel[2] % s.kernel[1];
            const int64_t iz = z * s.stride[0] + kz * s.dilation[0] - s.low[0];
            const int64_t iy = yy * s.stride[1] + ky * s.dilation[1] - s.low[1];
            const int64_t ix = x * s.stride[2] + t % s.kernel[2] * s.dilation[2] - s.low[2];
            const int64_t channel = n / (s.outputs / s.groups) * per_group + c0;
            const bool inside =
                iz >= 0 && iz < s.in[0] && iy >= 0 && iy < s.in[1] && ix >= 0 && ix < s.in[2];
            const int64_t place =
                ((b * s.channels + channel) * s.in[0] + iz) * s.in[1] * s.in[2] + iy * s.in[2] + ix;
            const uint8_t code = inside ? a[(size_t)place] : 77;
            sum += (uint32_t)table[(size_t)(code * 256 + w[(size_t)(n * depth + c0 * taps + t)])];
          }
        ok = ok && y[at++] == (int32_t)sum;
      }
  free(prepared);
  return ok;
}

} // namespace

int main() {
  const int32_t highs[] = {16000, 32767, 1 << 20};
  std::vector<Case> cases;
  const int32_t forms[][2] = {{0, 0}, {1, 0}, {3, 0}, {1, 1}, {2, 3}}; // rank, lookups
  for (const auto& form : forms)
    for (int32_t high : highs) {
      const int32_t rank = form[0], more = form[1];
      if (rank && high != highs[0])
        continue;
      cases.push_back(linear(1, 7, 130, rank, more, high));
      cases.push_back(linear(45, 21, 39, rank, more, high));
      cases.push_back(linear(37, 66, 11, rank, more, high));
      cases.push_back(conv(2, 5, 13, 1, 7, 3, 1, 1, rank, more, high));
      cases.push_back(conv(1, 6, 10, 2, 9, 3, 2, 1, rank, more, high));
      cases.push_back(conv(3, 4, 12, 1, 4, 1, 1, 0, rank, more, high));
      cases.push_back(conv(2, 9, 9, 9, 6, 3, 1, 2, rank, more, high));
    }
  std::string levels = dv_levels();
  int failures = 0;
  for (size_t from = 0; from < levels.size();) {
    const size_t to =
        levels.find(' ', from) == std::string::npos ? levels.size() : levels.find(' ', from);
    const std::string level = levels.substr(from, to - from);
    from = to + 1;
    if (dv_set_level(level.c_str()) != DV_OK)
      return 1;
    for (size_t i = 0; i < cases.size(); i++)
      if (!run(cases[i])) {
        printf("%s: case %zu differs\n", level.c_str(), i);
        failures++;
      }
  }
  std::vector<float> x(1001);
  for (size_t i = 0; i < x.size(); i++)
    x[i] = (float)uniform(-2000, 2000) / 8;
  std::vector<int8_t> codes(x.size());
  const float scale = 0.5f;
  const int32_t zero = 3;
  if (dv_quantize(x.data(), 1, 1, 1001, &scale, &zero, -128, 127, 1, codes.data()) != DV_OK)
    failures++;
  if (dv_set_level("nothing") != DV_BAD_LEVEL || dv_fingerprint(x.data(), 1001) == 0)
    failures++;
  printf("%s: %d failures\n", levels.c_str(), failures);
  return failures != 0;
}
