// Layers of a floating-point multiplier: laying out activations, and the tiles. A convolution's
// image lies as in layout.h, one plane per channel, so results are stored as they come.
#include "core/float_mul.h"

#include "core/dispatch.h"
#include "core/plane.h"
#include "core/prepare.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <math.h>
#include <string.h>

namespace dv {

namespace {

// Where words are right and products exact: their unit is 2^(e_row + e_lane - 2m), at least 2^-149,
// and they stay below 2^(e_row + e_lane - 2m + bits), at most 2^128. Sums of patterns must be
// patterns of normal numbers; so must be the powers of two 2^(e - m) that words hold.
struct Limits {
  ExponentSpan row, lane, sum;

  explicit Limits(const dv_float_mul& mul) {
    const int32_t m = mul.mantissa;
    row = lane = {m - 126, 128 + m - mul.bits};
    sum = {2 * m - 149, 128 + 2 * m - mul.bits};
    if (mul.form == 1) {
      row = lane = {-126, 127};
      sum.least = -126;
    } else if (mul.form == 0) {
      row.most = 128 + m - width(mul.rows, m);
      lane.most = 128 + m - width(mul.lanes, m);
    }
  }

  bool near(const ExponentSpan& r, const ExponentSpan& l) const {
    return r.least >= row.least && r.most <= row.most && l.least >= lane.least &&
           l.most <= lane.most && r.least + l.least >= sum.least && r.most + l.most <= sum.most;
  }

private:
  // All values are below 2^width.
  static int32_t width(const float* values, int32_t m) {
    int32_t exponent = 0;
    frexpf(*std::max_element(values, values + (1 << m)), &exponent);
    return exponent;
  }
};

// The padded images of a convolution, one plane per channel.
struct Images {
  const Layout& l;
  int64_t batch, plane;

  Images(const Layout& layout, int64_t images, int64_t lanes)
      : l(layout), batch(images), plane(up(layout.places(images) + lanes, 16)) {}

  void fill(const float* x, float* out) const {
    const dv_shape& s = l.shape;
    const Places places(l, batch);
    parallel(s.channels, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; c++) {
        float* to = out + c * plane;
        memset(to, 0, (size_t)plane * sizeof(float));
        for (int64_t b = 0; b < batch; b++)
          for (int64_t z = 0; z < s.in[0]; z++)
            for (int64_t y = 0; y < s.in[1]; y++) {
              const int64_t start = places.z[(size_t)z] + places.y[(size_t)y] + b * l.phase_size;
              if (places.z[(size_t)z] < 0 || places.y[(size_t)y] < 0)
                continue;
              const float* row =
                  x + (b * s.channels + c) * l.in_pixels + (z * s.in[1] + y) * s.in[2];
              for (int64_t i = 0; i < s.in[2]; i++)
                if (places.x[(size_t)i] >= 0)
                  to[start + places.x[(size_t)i]] = row[i];
            }
      }
    });
  }
};

// All tiles of one call. Outputs: row `i` of group g and place p of lanes.
struct Tiles {
  const dv_float_mul& mul;
  const FloatKernels& k;
  const FloatForm& form;
  const Limits limits;
  FloatOperand rows, lanes;
  int64_t row_stride, depth;
  const int64_t* lane_at;

  Tiles(const dv_float_mul& m, const FloatKernels& kernels)
      : mul(m), k(kernels),
        form(kernels.forms[m.form == 2 && m.mantissa <= kernels.small_mantissa ? FLOAT_SMALL_TABLE
                                                                               : m.form]),
        limits(m) {}

  // `row` and `lane` say where the tile starts, the latter in words.
  void run(int64_t row, int64_t count, int64_t lane, const ExponentSpan& lane_range,
           float* out) const {
    ExponentSpan range;
    for (int64_t i = row; i < row + count; i++)
      range.add(rows.exponents[i]);
    if (limits.near(range, lane_range)) {
      const int64_t at = row * row_stride;
      const FloatTile t = {rows.words + at,
                           rows.keep + (rows.keep ? at : 0),
                           row_stride,
                           lanes.words + lane,
                           lane_at,
                           depth,
                           &mul};
      form.tile(t, count, out);
    } else {
      const FloatTileFar t = {
          rows.raw + row * row_stride, row_stride, lanes.raw + lane, lane_at, depth, &mul};
      k.far(t, count, out);
    }
  }
};

float finish(float sum, const float* bias, int64_t n) {
  const float y = bias ? sum + bias[n] : sum;
  return y == y ? y : NAN;
}

int32_t run_linear(const Layout& l, const dv_float_mul& mul, const FloatPacking& packing,
                   const void* packed, const float* x, const float* bias, int64_t batch,
                   float* out) {
  const int64_t depth = l.depth, outputs = l.shape.outputs;
  const int64_t words = up((batch + SPARE_ROWS) * depth, 16);
  static thread_local Scratch memory;
  uint8_t* buffer = memory.take(words * 8 + batch * (int64_t)sizeof(ExponentSpan) + depth * 8 + 64);
  if (!buffer)
    return DV_NO_MEMORY;
  Tiles tiles(mul, packing.k);
  tiles.rows.raw = x;
  tiles.rows.words = reinterpret_cast<uint32_t*>(buffer);
  tiles.rows.keep = mul.form == 1 ? reinterpret_cast<float*>(buffer) + words : nullptr;
  int64_t* lane_at = reinterpret_cast<int64_t*>(buffer + words * 8);
  tiles.rows.exponents = reinterpret_cast<ExponentSpan*>(lane_at + depth);
  for (int64_t k = 0; k < depth; k++)
    lane_at[k] = k * packing.k.lanes;
  tiles.lanes = packing.at(packed);
  tiles.row_stride = tiles.depth = depth;
  tiles.lane_at = lane_at;
  memset(tiles.rows.words + batch * depth, 0, (size_t)(SPARE_ROWS * depth) * 4);
  if (tiles.rows.keep)
    memset(tiles.rows.keep + batch * depth, 0, (size_t)(SPARE_ROWS * depth) * 4);
  parallel(batch, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    for (int64_t i = begin; i < end; i++) {
      tiles.rows.exponents[i] = {};
      packing.k.encode(mul, true, x + i * depth, depth, tiles.rows.words + i * depth,
                       tiles.rows.keep ? tiles.rows.keep + i * depth : nullptr,
                       tiles.rows.exponents + i);
    }
  });
  const int64_t some = tiles.form.rows, row_tiles = (batch + some - 1) / some;
  parallel(packing.parts * row_tiles, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    alignas(64) float sum[SPARE_ROWS * 64];
    for (int64_t task = begin; task < end; task++) {
      // A panel of weights is the outer loop: it stays in the cache while the rows pass.
      const int64_t panel = task / row_tiles, row = task % row_tiles * some;
      const int64_t count = std::min(some, batch - row), from = panel * packing.k.lanes;
      const int64_t n = std::min(packing.k.lanes, outputs - from);
      tiles.run(row, count, panel * packing.part_words, tiles.lanes.exponents[panel], sum);
      for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < n; j++)
          out[(row + i) * outputs + from + j] =
              finish(sum[i * packing.k.lanes + j], bias, from + j);
    }
  });
  return DV_OK;
}

// Where each place's output goes, or -1; in words of one output channel.
std::vector<int64_t> targets(const Layout& l, int64_t batch) {
  std::vector<int64_t> target;
  for (const Run& run : l.runs(batch)) {
    target.resize((size_t)(run.p + run.length), -1);
    for (int64_t i = 0; i < run.length; i++) {
      const int64_t q = run.q + i;
      target[(size_t)(run.p + i)] =
          q / l.out_pixels * l.out_pixels * l.shape.outputs + q % l.out_pixels;
    }
  }
  return target;
}

int32_t run_images(const Layout& l, const dv_float_mul& mul, const FloatPacking& packing,
                   const void* packed, const float* x, const float* bias, int64_t batch,
                   float* out) {
  const Images images(l, batch, packing.k.lanes);
  const int64_t words = l.shape.channels * images.plane;
  static thread_local Scratch memory;
  uint8_t* buffer =
      memory.take(words * 8 + l.depth * 8 + l.shape.channels * (int64_t)sizeof(ExponentSpan) + 64);
  if (!buffer)
    return DV_NO_MEMORY;
  Tiles tiles(mul, packing.k);
  tiles.rows = packing.at(packed);
  float* raw = reinterpret_cast<float*>(buffer);
  tiles.lanes.raw = raw;
  tiles.lanes.words = reinterpret_cast<uint32_t*>(raw + words);
  int64_t* lane_at = reinterpret_cast<int64_t*>(raw + 2 * words);
  tiles.lanes.exponents = reinterpret_cast<ExponentSpan*>(lane_at + l.depth);
  const auto taps = l.tap_offsets(batch);
  for (int64_t k = 0; k < l.depth; k++)
    lane_at[k] = k / l.taps * images.plane + taps[(size_t)(k % l.taps)];
  tiles.row_stride = tiles.depth = l.depth;
  tiles.lane_at = lane_at;
  images.fill(x, raw);
  parallel(l.shape.channels, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    for (int64_t c = begin; c < end; c++) {
      tiles.lanes.exponents[c] = {};
      packing.k.encode(mul, false, raw + c * images.plane, images.plane,
                       tiles.lanes.words + c * images.plane, nullptr, tiles.lanes.exponents + c);
    }
  });
  std::vector<ExponentSpan> range((size_t)l.shape.groups);
  for (int64_t c = 0; c < l.shape.channels; c++)
    range[(size_t)(c / l.group_channels)].add(tiles.lanes.exponents[c]);

  const auto target = targets(l, batch);
  const int64_t span = (int64_t)target.size();
  const int64_t panels = (span + packing.k.lanes - 1) / packing.k.lanes;
  const int64_t some = tiles.form.rows, row_tiles = (l.group_outputs + some - 1) / some;
  parallel(l.shape.groups * panels * row_tiles, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    alignas(64) float sum[SPARE_ROWS * 64];
    for (int64_t task = begin; task < end; task++) {
      const int64_t panel = task / row_tiles, g = panel / panels;
      const int64_t place = panel % panels * packing.k.lanes, inside = task % row_tiles * some;
      const int64_t count = std::min(some, l.group_outputs - inside);
      const int64_t row = g * l.group_outputs + inside;
      tiles.run(row, count, g * l.group_channels * images.plane + place, range[(size_t)g], sum);
      const int64_t n = std::min(packing.k.lanes, span - place);
      for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < n; j++) {
          const int64_t to = target[(size_t)(place + j)];
          if (to >= 0)
            out[to + (row + i) * l.out_pixels] =
                finish(sum[i * packing.k.lanes + j], bias, row + i);
        }
    }
  });
  return DV_OK;
}

} // namespace
} // namespace dv

int32_t dv_float_run(const dv_shape* shape, const dv_float_mul* mul, const void* packed,
                     const float* x, const float* bias, float* out) {
  if (!dv::valid(*shape))
    return DV_BAD_SHAPE;
  if (!dv::sound(*mul))
    return DV_BAD_VALUE;
  dv::FloatHead head;
  memcpy(&head, packed, sizeof head);
  if (head.level != dv::level())
    return DV_BAD_LEVEL;
  const dv::Layout l(*shape);
  const dv::FloatPacking packing(l, *mul, head.level);
  // As many rows or images at a time as fit the cache, so that memory is bounded.
  const int64_t each = (shape->linear ? l.depth : l.places(1) * shape->channels) * 8;
  const int64_t part =
      std::max<int64_t>(1, (shape->linear ? int64_t(8) << 20 : int64_t(1) << 20) / each);
  for (int64_t first = 0; first < shape->batch; first += part) {
    const int64_t batch = std::min(part, shape->batch - first);
    const float* from = x + first * shape->channels * l.in_pixels;
    float* to = out + first * shape->outputs * l.out_pixels;
    const int32_t status = (shape->linear ? dv::run_linear : dv::run_images)(
        l, *mul, packing, packed, from, bias, batch, to);
    if (status != DV_OK)
      return status;
  }
  return DV_OK;
}
