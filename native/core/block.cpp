// Products of block formats: some images rounded, multiplied tile by tile, and written.
#include "core/block_rows.h"
#include "core/dispatch.h"
#include "core/plane.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

namespace {

bool sound(const dv_block_format& f) {
  return f.block >= 1 && f.scale >= DV_SCALE_POWER && f.scale <= DV_SCALE_NONE && f.mode >= 0 &&
         f.mode <= 3 && f.digits >= 1 && f.digits <= 22 && f.even_bits >= 0 && f.even_bits <= 22 &&
         f.quantum >= -22 && f.quantum <= 0 && f.low >= -127 && f.high <= 127 && f.low <= f.high &&
         f.least >= -0x1p40 && f.most <= 0x1p40 && f.least <= 0 && f.most >= 0 && f.emax >= 0 &&
         f.split >= 0 && f.split <= 40 && f.scale_digits >= 0 && f.scale_digits <= 22 &&
         f.scale_flush >= 0 && f.scale_quantum >= -149 && f.scale_quantum <= 0 && f.whole > 0;
}

// Whether rows of the format may meet weights that were packed for such codes.
bool meets(const dv_block_codes& c, const dv_block_format& f) {
  const bool cast = f.scale == DV_SCALE_NONE, real = !cast && f.scale != DV_SCALE_POWER;
  return f.block % c.block == 0 && c.most >= std::max(f.most, -f.least) && (!f.split || c.split) &&
         (!real || c.scale_bits > f.scale_digits) && (!cast || c.values);
}

// Whether some term needs double. Elsewhere, with r and w the scales of a row and a lane, float is
// exact up to the one addition: r * w is a normal number, and dot * w as well as dot * r * w are
// too, where they are not multiples of the least float; none overflows (|dot| < 2^31). Folded
// elements have their scales in them, those that are left are one.
bool far(const BlockForm& form, const ScaleRange& rows, const ScaleRange& lanes) {
  if (rows.most == 0 || lanes.most == 0)
    return false; // NaN throughout
  if (form.elements == Elements::VALUES)
    return false;
  if (form.elements == Elements::FOLDED)
    return rows.least != 1 || rows.most != 1 || lanes.least != 1 || lanes.most != 1;
  return (double)rows.least * lanes.least < 0x1p-126 || (double)rows.most * lanes.most > 0x1p96 ||
         lanes.most > 0x1p90f;
}

// Rows of one panel that are multiplied before they are written: a multiple of every tile's rows.
constexpr int64_t CHUNK = 48, MOST_LANES = 32;

// Sums to where they belong.
struct Writer {
  const Layout& l;
  float* out;
  const std::vector<Run>& runs;
  std::vector<int64_t> first_run; // that ends behind the start of each chunk

  Writer(const Layout& layout, float* to, const std::vector<Run>& all)
      : l(layout), out(to), runs(all) {
    size_t run = 0;
    for (int64_t at = 0; at < span(); at += CHUNK) {
      while (runs[run].p + runs[run].length <= at)
        run++;
      first_run.push_back((int64_t)run);
    }
  }

  int64_t span() const { return runs.back().p + runs.back().length; }

  // sum [lane][CHUNK]: `lanes` outputs from n on, places from p on
  void write(const float* sum, int64_t n, int64_t lanes, int64_t p) const {
    const int64_t end = std::min(p + CHUNK, span());
    for (size_t i = (size_t)first_run[(size_t)(p / CHUNK)]; i < runs.size() && runs[i].p < end;
         i++) {
      const int64_t from = std::max(p, runs[i].p), to = std::min(end, runs[i].p + runs[i].length);
      pixels(sum + from - p, n, lanes, runs[i].q + from - runs[i].p, to - from);
    }
  }

private:
  // Consecutive pixels, which may belong to more than one image.
  void pixels(const float* sum, int64_t n, int64_t lanes, int64_t q, int64_t count) const {
    while (count > 0) {
      const int64_t image = q / l.out_pixels, at = q % l.out_pixels;
      const int64_t some = std::min(count, l.out_pixels - at);
      float* to = out + (image * l.shape.outputs + n) * l.out_pixels + at;
      for (int64_t j = 0; j < lanes; j++)
        memcpy(to + j * l.out_pixels, sum + j * CHUNK, (size_t)some * sizeof(float));
      sum += some;
      q += some;
      count -= some;
    }
  }
};

// Everything that one call multiplies.
struct Product {
  const Layout& l;
  const BlockSizes& sizes;
  const BlockRows& x;
  const uint8_t* panels;
  const float* bias; // [group][panel][lane]
  float factor;
  bool is_far;
  const std::vector<int64_t>& taps;

  BlockDot dot(int64_t panel, int64_t row) const {
    const int64_t g = panel / sizes.panels, lanes = sizes.k.lanes;
    BlockDot d;
    d.rows = x.data + row * sizes.row_bytes + g * sizes.blocks * sizes.units * 4;
    d.row_stride = sizes.row_bytes;
    d.low = sizes.row.low;
    d.row_scale = x.scale + g * sizes.blocks * x.count() + row;
    d.scale_step = x.count();
    d.tap = taps.data();
    d.lanes = panels + panel * sizes.panel_bytes;
    d.scale = reinterpret_cast<const float*>(d.lanes + sizes.panel_data);
    d.start = reinterpret_cast<const int32_t*>(d.scale + l.taps * sizes.blocks * lanes);
    d.bias = bias + panel * lanes;
    d.factor = factor;
    d.taps = l.taps;
    d.blocks = sizes.blocks;
    d.units = sizes.units;
    d.biased = sizes.biased;
    d.far = is_far;
    return d;
  }

  int64_t first_output(int64_t panel) const {
    return panel / sizes.panels * l.group_outputs + panel % sizes.panels * sizes.k.lanes;
  }
  int64_t outputs(int64_t panel) const {
    return std::min(sizes.k.lanes, l.group_outputs - panel % sizes.panels * sizes.k.lanes);
  }

  // Rows by outputs as they lie in memory: whole tiles need no copy.
  void rows_out(int64_t panel, int64_t row, int64_t end, float* out) const {
    alignas(64) float sum[CHUNK * MOST_LANES];
    const int64_t n = first_output(panel), lanes = outputs(panel), stride = l.shape.outputs;
    for (; row < end; row += sizes.f.rows) {
      const int64_t rows = std::min(sizes.f.rows, end - row);
      float* to = out + row * stride + n;
      if (rows == sizes.f.rows && lanes == sizes.k.lanes) {
        sizes.f.dot(dot(panel, row), rows, to, stride);
        continue;
      }
      sizes.f.dot(dot(panel, row), rows, sum, sizes.k.lanes);
      for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * stride, sum + i * sizes.k.lanes, (size_t)lanes * sizeof(float));
    }
  }

  void pixels_out(int64_t panel, int64_t row, int64_t end, const Writer& writer) const {
    alignas(64) float sum[CHUNK * MOST_LANES], turned[MOST_LANES * CHUNK];
    for (int64_t i = row; i < end; i += sizes.f.rows)
      sizes.f.dot(dot(panel, i), std::min(sizes.f.rows, end - i), sum + (i - row) * sizes.k.lanes,
                  sizes.k.lanes);
    const int64_t rows = (end - row + 3) / 4 * 4;
    sizes.k.turn(sum, sizes.k.lanes, rows, sizes.k.lanes, turned, CHUNK);
    writer.write(turned, first_output(panel), outputs(panel), row);
  }

  void run(const Writer& writer) const {
    const int64_t span = writer.span(), chunks = (span + CHUNK - 1) / CHUNK;
    parallel(l.shape.groups * sizes.panels * chunks, [&](int64_t begin, int64_t end) {
      const ExactFloats exact;
      sizes.f.begin(sizes.step);
      for (int64_t task = begin; task < end; task++) {
        // A panel of weights is the outer loop: it stays in the cache while the rows pass.
        const int64_t panel = task / chunks, row = task % chunks * CHUNK;
        const int64_t to = std::min(row + CHUNK, span);
        if (l.shape.linear)
          rows_out(panel, row, to, writer.out);
        else
          pixels_out(panel, row, to, writer);
      }
      sizes.f.end();
    });
  }
};

// The bias in the order of the lanes; minus zero, which changes no sum, where there is none.
std::vector<float> lane_bias(const Layout& l, const BlockSizes& sizes, const float* bias) {
  std::vector<float> all((size_t)(l.shape.groups * sizes.panels * sizes.k.lanes), -0.0f);
  for (int64_t n = 0; bias && n < l.shape.outputs; n++)
    all[(size_t)(n / l.group_outputs * sizes.panels * sizes.k.lanes + n % l.group_outputs)] =
        bias[n];
  return all;
}

// As many images at a time as fit the cache, in parts of like size.
int64_t part_size(const Layout& l, const BlockSizes& sizes) {
  const int64_t each = l.places(1) * sizes.row_bytes, room = int64_t(3) << 19;
  const int64_t most = std::max<int64_t>(1, room / each);
  const int64_t parts = (l.shape.batch + most - 1) / most;
  return (l.shape.batch + parts - 1) / parts;
}

} // namespace
} // namespace dv

int32_t dv_block_quantize(const float* x, int64_t rows, int64_t length,
                          const dv_block_format* format, float* codes, float* scales) {
  if (rows < 0 || length < 1)
    return DV_BAD_SHAPE;
  if (!dv::sound(*format))
    return DV_BAD_VALUE;
  const dv::BlockKernels& k = dv::block_kernels(dv::level());
  const int64_t blocks = (length + format->block - 1) / format->block;
  dv::parallel(rows, [&](int64_t begin, int64_t end) {
    const dv::ExactFloats exact;
    for (int64_t i = begin; i < end; i++)
      k.codes(x + i * length, length, *format, codes + i * length, scales + i * blocks);
  });
  return DV_OK;
}

int32_t dv_block_run(const dv_shape* shape, const dv_block_format* format, const void* packed,
                     const float* x, const float* bias, float factor, float* out) {
  using namespace dv;
  if (!valid(*shape, true))
    return DV_BAD_SHAPE;
  if (!sound(*format))
    return DV_BAD_VALUE;
  BlockHead head;
  memcpy(&head, packed, sizeof head);
  if (head.level != level())
    return DV_BAD_LEVEL;
  if (!meets(head.codes, *format))
    return DV_BAD_VALUE;
  if (shape->batch == 0)
    return DV_OK;
  static thread_local Scratch memory;
  const Layout l(*shape);
  const BlockSizes sizes(l, head.codes, head.level);
  const std::vector<float> added = lane_bias(l, sizes, bias);
  const uint8_t* panels = static_cast<const uint8_t*>(packed) + BLOCK_HEAD;
  const int64_t part = part_size(l, sizes);
  for (int64_t first = 0; first < shape->batch; first += part) {
    const int64_t batch = std::min(part, shape->batch - first);
    BlockRows rows{l, sizes, *format, batch, l.places(batch)};
    uint8_t* buffer = memory.take(rows.bytes());
    if (!buffer)
      return DV_NO_MEMORY;
    rows.fill(x + first * shape->channels * l.in_pixels, buffer);
    const auto taps = l.tap_offsets(batch);
    const auto runs = l.runs(batch);
    const Writer writer(l, out + first * shape->outputs * l.out_pixels, runs);
    const Product product{
        l, sizes, rows, panels, added.data(), factor, far(sizes.f, rows.range(), head.range), taps};
    product.run(writer);
  }
  return DV_OK;
}
