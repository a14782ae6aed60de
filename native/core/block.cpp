// Products of block formats: packing weights, laying out activations, and the tiles' loop.
//
// The layout is that of the other ops (see layout.h), transposed: one row per place of the padded
// image, holding the blocks of all channels. A tap moves rows by a fixed number of places.
#include "kernels/block.h"

#include "core/cast.h"
#include "core/dispatch.h"
#include "core/layout.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <math.h>
#include <string.h>

namespace dv {

extern const BlockKernels block_kernels_scalar;
#if defined(__x86_64__)
extern const BlockKernels block_kernels_avx2, block_kernels_avx512, block_kernels_avx512vnni,
    block_kernels_amx;
#endif

namespace {

const BlockKernels* const LEVELS[] = {
    &block_kernels_scalar,
#if defined(__x86_64__)
    &block_kernels_avx2,   &block_kernels_avx512, &block_kernels_avx512vnni, &block_kernels_amx,
#endif
};

int64_t current() {
  for (int64_t i = 0; i < (int64_t)(sizeof LEVELS / sizeof *LEVELS); i++)
    if (!strcmp(LEVELS[i]->name, kernels().name))
      return i;
  return 0;
}

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Scales that are not NaN.
struct Range {
  float least = INFINITY, most = 0;

  void add(const float* scale, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
      least = scale[i] < least ? scale[i] : least;
      most = scale[i] > most ? scale[i] : most;
    }
  }
};

// The head of packed weights.
struct Head {
  int64_t level, width;
  Range range;
};

// Sizes of both operands in one level's order.
struct Form {
  const BlockKernels& k;
  const BlockForm& f;
  int64_t blocks, units, step; // per tap and group; units per block; units per tile step
  int64_t panels, panel_data, panel_bytes;
  int64_t row_bytes, row_scales;

  Form(const Layout& l, int64_t block, int64_t level, bool bytes)
      : k(*LEVELS[level]), f(bytes ? k.bytes : k.words) {
    const int64_t longest = std::min(block, l.group_channels);
    blocks = (l.group_channels + longest - 1) / longest;
    const int64_t needed = (longest * f.width + 3) / 4;
    const int64_t steps = (needed + f.unit_step - 1) / f.unit_step;
    step = f.unit_step == 1 ? 1 : (needed + steps - 1) / steps;
    units = step * steps;
    panels = (l.group_outputs + k.lanes - 1) / k.lanes;
    panel_data = l.taps * blocks * units * k.lanes * 4;
    panel_bytes = up(panel_data + l.taps * blocks * k.lanes * 8, 64);
    // An odd number of cache lines, so that rows do not share cache sets.
    row_bytes = up(l.shape.groups * blocks * units * 4, 64) | 64;
    row_scales = l.shape.groups * blocks;
  }

  int64_t bytes(const Layout& l) const { return 64 + l.shape.groups * panels * panel_bytes + 64; }
};

bool narrow(int32_t most) { return most <= 128; }

// float(code) * 2^e, in the one lane of one panel that holds this output.
void pack_output(const Layout& l, const Form& form, int64_t block, const int16_t* codes,
                 const int32_t* exponents, int64_t lane, uint8_t* panel, Range& range) {
  float* scale = reinterpret_cast<float*>(panel + form.panel_data);
  int32_t* start = reinterpret_cast<int32_t*>(scale + l.taps * form.blocks * form.k.lanes);
  for (int64_t at = 0; at < l.taps * form.blocks; at++) {
    const int64_t from = at % form.blocks * block, tap = at / form.blocks;
    const int64_t n = std::min(block, l.group_channels - from);
    const int16_t* code = codes + tap * l.group_channels + from;
    uint8_t* data = panel + at * form.units * form.k.lanes * 4;
    int32_t sum = 0;
    bool zero = true;
    for (int64_t i = 0; i < n; i++) {
      const int64_t per = 4 / form.f.width, unit = i / per, byte = i % per * form.f.width;
      memcpy(data + (unit * form.k.lanes + lane) * 4 + byte, code + i, (size_t)form.f.width);
      sum += code[i];
      zero = zero && code[i] == 0;
    }
    float& s = scale[at * form.k.lanes + lane];
    if (exponents[at] == DV_BLOCK_NAN) {
      s = NAN;
    } else if (!zero) {
      s = ldexpf(1.0f, exponents[at]);
      range.add(&s, 1);
    } else {
      s = 1.0f;
    }
    start[at * form.k.lanes + lane] = -form.f.offset * sum;
  }
}

// Where the pixels of one input axis go; -1 where no tap reads them.
std::vector<int64_t> axis_places(const Layout& l, int axis, int64_t phase_step, int64_t step) {
  const dv_shape& s = l.shape;
  std::vector<int64_t> places((size_t)s.in[axis], -1);
  for (int64_t i = 0; i < s.in[axis]; i++) {
    const int64_t at = i + s.low[axis], number = l.axes[axis].index[(size_t)(at % s.stride[axis])];
    const int64_t inside = at / s.stride[axis];
    if (number >= 0 && inside < l.axes[axis].pitch)
      places[(size_t)i] = number * phase_step + inside * step;
  }
  return places;
}

// The rounded activations of some images.
struct Rows {
  const Layout& l;
  const Form& form;
  const dv_block_format& format;
  int64_t batch, places;
  uint8_t* data = nullptr;
  float* scale = nullptr;

  // Tiles read whole, beyond the last place too.
  int64_t count() const { return places + form.f.rows; }
  int64_t bytes() const { return count() * (form.row_bytes + form.row_scales * 4) + 64; }

  void fill(const float* x, uint8_t* memory) {
    data = memory;
    scale = reinterpret_cast<float*>(memory + count() * form.row_bytes);
    if (l.shape.linear)
      fill_linear(x);
    else
      fill_images(x);
  }

  Range range() const {
    Range all;
    const int64_t n = count() * form.row_scales, pieces = thread_count();
    std::vector<Range> part((size_t)pieces);
    parallel(pieces, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++)
        part[(size_t)i].add(scale + n * i / pieces, n * (i + 1) / pieces - n * i / pieces);
    });
    for (const Range& r : part) {
      all.least = std::min(all.least, r.least);
      all.most = std::max(all.most, r.most);
    }
    return all;
  }

private:
  void zero(int64_t from, int64_t to) {
    memset(data + from * form.row_bytes, form.f.offset, (size_t)((to - from) * form.row_bytes));
    for (int64_t b = 0; b < form.row_scales; b++)
      std::fill(scale + b * count() + from, scale + b * count() + to, 1.0f);
  }

  void row(const float* channels, int64_t place) {
    for (int64_t g = 0; g < l.shape.groups; g++)
      form.k.quantise(channels + g * l.group_channels, l.group_channels, format, form.f, form.units,
                      data + place * form.row_bytes + g * form.blocks * form.units * 4,
                      scale + g * form.blocks * count() + place, count());
  }

  void fill_linear(const float* x) {
    zero(batch, count());
    parallel(batch, [&](int64_t begin, int64_t end) {
      const ExactFloats exact;
      for (int64_t m = begin; m < end; m++)
        row(x + m * l.shape.channels, m);
    });
  }

  void fill_images(const float* x) {
    const dv_shape& s = l.shape;
    const auto& axes = l.axes;
    const int64_t phase = batch * l.phase_size;
    const auto z_place =
        axis_places(l, 0, axes[1].phases * axes[2].phases * phase, axes[1].pitch * axes[2].pitch);
    const auto y_place = axis_places(l, 1, axes[2].phases * phase, axes[2].pitch);
    const auto x_place = axis_places(l, 2, phase, 1);
    parallel(count(), [&](int64_t begin, int64_t end) { zero(begin, end); });
    parallel(batch * s.in[0] * s.in[1], [&](int64_t begin, int64_t end) {
      const ExactFloats exact;
      // Some pixels at a time, so that both sides of the transposition stay in the cache.
      const int64_t some = 16;
      std::vector<float> pixels((size_t)(some * s.channels));
      for (int64_t line = begin; line < end; line++) {
        const int64_t y = line % s.in[1], z = line / s.in[1] % s.in[0],
                      b = line / s.in[1] / s.in[0];
        if (z_place[(size_t)z] < 0 || y_place[(size_t)y] < 0)
          continue;
        const float* source = x + b * s.channels * l.in_pixels + (z * s.in[1] + y) * s.in[2];
        for (int64_t at = 0; at < s.in[2]; at += some) {
          const int64_t n = std::min(some, s.in[2] - at);
          for (int64_t c = 0; c < s.channels; c++)
            for (int64_t i = 0; i < n; i++)
              pixels[(size_t)(i * s.channels + c)] = source[c * l.in_pixels + at + i];
          for (int64_t i = 0; i < n; i++) {
            const int64_t place = x_place[(size_t)(at + i)];
            if (place >= 0)
              row(pixels.data() + i * s.channels,
                  b * l.phase_size + z_place[(size_t)z] + y_place[(size_t)y] + place);
          }
        }
      }
    });
  }
};

// One tile's results to where they belong. All NaNs are one NaN: their signs and payloads depend
// on the order of operands, which compilers choose.
struct Emit {
  const Layout& l;
  const float* bias;
  float* out;
  const std::vector<int64_t>& target; // of each place, or -1
  int64_t lane_step;

  void tile(const float* sum, int64_t lanes_all, int64_t place, int64_t rows, int64_t n,
            int64_t lanes) const {
    const int64_t* to = target.data() + place;
    if (lane_step == 1) {
      for (int64_t i = 0; i < rows; i++)
        if (to[i] >= 0)
          row(sum + i * lanes_all, bias ? bias + n : nullptr, lanes, out + to[i] + n);
      return;
    }
    bool together = to[0] >= 0;
    for (int64_t i = 1; i < rows; i++)
      together = together && to[i] == to[0] + i;
    for (int64_t j = 0; j < lanes; j++) {
      float* lane = out + (n + j) * lane_step;
      if (together)
        for (int64_t i = 0; i < rows; i++)
          lane[to[0] + i] = finish(sum[i * lanes_all + j], n + j);
      else
        for (int64_t i = 0; i < rows; i++)
          if (to[i] >= 0)
            lane[to[i]] = finish(sum[i * lanes_all + j], n + j);
    }
  }

private:
  static void row(const float* __restrict sum, const float* __restrict added, int64_t n,
                  float* __restrict to) {
    for (int64_t j = 0; j < n; j++) {
      const float y = added ? sum[j] + added[j] : sum[j];
      to[j] = y == y ? y : NAN;
    }
  }

  float finish(float sum, int64_t n) const {
    const float y = bias ? sum + bias[n] : sum;
    return y == y ? y : NAN;
  }
};

std::vector<int64_t> targets(const Layout& l, int64_t batch) {
  std::vector<int64_t> target;
  for (const Run& run : l.runs(batch)) {
    target.resize((size_t)(run.p + run.length), -1);
    for (int64_t i = 0; i < run.length; i++) {
      const int64_t q = run.q + i;
      target[(size_t)(run.p + i)] =
          l.shape.linear ? q * l.shape.outputs
                         : q / l.out_pixels * l.out_pixels * l.shape.outputs + q % l.out_pixels;
    }
  }
  return target;
}

void multiply(const Layout& l, const Form& form, const Rows& x, const uint8_t* packed, bool far,
              const Emit& emit) {
  const int64_t span = (int64_t)emit.target.size();
  const int64_t tiles = (span + form.f.rows - 1) / form.f.rows;
  const std::vector<int64_t> taps = l.tap_offsets(x.batch);
  parallel(l.shape.groups * form.panels * tiles, [&](int64_t begin, int64_t end) {
    const ExactFloats exact;
    alignas(64) float sum[16 * 32];
    form.f.begin(form.step);
    for (int64_t task = begin; task < end; task++) {
      // A panel of weights is the outer loop: it stays in the cache while the rows pass.
      const int64_t panel = task / tiles, g = panel / form.panels;
      const int64_t row = task % tiles * form.f.rows;
      const int64_t lane = panel % form.panels * form.k.lanes;
      const uint8_t* lanes = packed + panel * form.panel_bytes;
      BlockDot d;
      d.rows = x.data + row * form.row_bytes + g * form.blocks * form.units * 4;
      d.row_stride = form.row_bytes;
      d.row_scale = x.scale + g * form.blocks * x.count() + row;
      d.scale_step = x.count();
      d.tap = taps.data();
      d.lanes = lanes;
      d.scale = reinterpret_cast<const float*>(lanes + form.panel_data);
      d.start = reinterpret_cast<const int32_t*>(d.scale + l.taps * form.blocks * form.k.lanes);
      d.taps = l.taps;
      d.blocks = form.blocks;
      d.units = form.units;
      const int64_t rows = std::min(form.f.rows, span - row);
      form.f.dot(d, rows, far, sum);
      emit.tile(sum, form.k.lanes, row, rows, g * l.group_outputs + lane,
                std::min(form.k.lanes, l.group_outputs - lane));
    }
    form.f.end();
  });
}

bool sound(const dv_block_format& f) {
  return f.block >= 1 && f.mode >= 0 && f.mode <= 3 && f.digits >= 1 && f.digits <= 22 &&
         f.even_bits >= 0 && f.even_bits <= 22 && f.quantum >= -22 && f.quantum <= 0 &&
         f.low >= -127 && f.high <= 127 && f.low <= f.high && f.least >= -32768 &&
         f.most <= 32767 && f.least <= 0 && f.most >= 0 && f.emax >= 0;
}

} // namespace
} // namespace dv

int32_t dv_block_quantize(const float* x, int64_t rows, int64_t length,
                          const dv_block_format* format, int16_t* codes, int32_t* exponents) {
  if (rows < 0 || length < 1)
    return DV_BAD_SHAPE;
  if (!dv::sound(*format))
    return DV_BAD_VALUE;
  const dv::BlockKernels& k = *dv::LEVELS[dv::current()];
  const int64_t blocks = (length + format->block - 1) / format->block;
  dv::parallel(rows, [&](int64_t begin, int64_t end) {
    const dv::ExactFloats exact;
    for (int64_t i = begin; i < end; i++)
      k.codes(x + i * length, length, *format, codes + i * length, exponents + i * blocks);
  });
  return DV_OK;
}

int64_t dv_block_packed_bytes(const dv_shape* shape, int64_t block, int32_t most) {
  if (!dv::valid(*shape) || block < 1)
    return -1;
  const dv::Layout layout(*shape);
  return dv::Form(layout, block, dv::current(), dv::narrow(most)).bytes(layout);
}

int32_t dv_block_pack(const dv_shape* shape, int64_t block, int32_t most, const int16_t* codes,
                      const int32_t* exponents, void* out) {
  if (!dv::valid(*shape) || block < 1)
    return DV_BAD_SHAPE;
  if (most < 0 || most > 32768)
    return DV_BAD_VALUE;
  const dv::Layout l(*shape);
  const int64_t level = dv::current();
  const dv::Form form(l, block, level, dv::narrow(most));
  uint8_t* packed = static_cast<uint8_t*>(out);
  memset(packed, 0, (size_t)form.bytes(l));
  dv::Head head{level, dv::narrow(most), {}};
  std::vector<dv::Range> ranges((size_t)shape->outputs);
  dv::parallel(shape->outputs, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const int64_t g = n / l.group_outputs, inside = n % l.group_outputs;
      const int64_t panel = g * form.panels + inside / form.k.lanes;
      dv::pack_output(l, form, block, codes + n * l.taps * l.group_channels,
                      exponents + n * l.taps * form.blocks, inside % form.k.lanes,
                      packed + 64 + panel * form.panel_bytes, ranges[(size_t)n]);
    }
  });
  for (const dv::Range& r : ranges) {
    head.range.least = std::min(head.range.least, r.least);
    head.range.most = std::max(head.range.most, r.most);
  }
  memcpy(packed, &head, sizeof head);
  return DV_OK;
}

int32_t dv_block_run(const dv_shape* shape, const dv_block_format* format, const void* packed,
                     const float* x, const float* bias, float* out) {
  if (!dv::valid(*shape))
    return DV_BAD_SHAPE;
  if (!dv::sound(*format))
    return DV_BAD_VALUE;
  dv::Head head;
  memcpy(&head, packed, sizeof head);
  if (head.level != dv::current())
    return DV_BAD_LEVEL;
  const dv::Layout l(*shape);
  const dv::Form form(l, format->block, head.level, head.width);
  static thread_local dv::Scratch memory;
  // As many images at a time as fit the cache.
  const int64_t each = l.places(1) * form.row_bytes;
  const int64_t part = std::max<int64_t>(1, (int64_t(1) << 20) / each);
  for (int64_t first = 0; first < shape->batch; first += part) {
    const int64_t batch = std::min(part, shape->batch - first);
    dv::Rows rows{l, form, *format, batch, l.places(batch)};
    uint8_t* buffer = memory.take(rows.bytes());
    if (!buffer)
      return DV_NO_MEMORY;
    rows.fill(x + first * shape->channels * l.in_pixels, buffer);
    const dv::Range range = rows.range();
    // Scales are powers of two: their product is exact as long as it is a normal number.
    const bool far = range.most > 0 && head.range.most > 0 &&
                     ((double)range.least * head.range.least < 0x1p-126 ||
                      (double)range.most * head.range.most > 0x1p127);
    const auto target = dv::targets(l, batch);
    const dv::Emit emit{l, bias, out + first * shape->outputs * l.out_pixels, target,
                        shape->linear ? 1 : l.out_pixels};
    dv::multiply(l, form, rows, static_cast<const uint8_t*>(packed) + 64, far, emit);
  }
  return DV_OK;
}
