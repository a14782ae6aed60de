// Products of wide operands: activations as the kernels read them, and the loop over tiles.
#include "core/wide.h"

#include "core/dispatch.h"
#include "core/plane.h"
#include "core/prepare.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

extern const WideKernels wide_kernels_scalar;
#if defined(__x86_64__)
extern const WideKernels wide_kernels_avx2, wide_kernels_avx512, wide_kernels_avx512vnni,
    wide_kernels_amx;
#endif

namespace {

const WideKernels* const LEVELS[] = {
    &wide_kernels_scalar,
#if defined(__x86_64__)
    &wide_kernels_avx2,   &wide_kernels_avx512, &wide_kernels_avx512vnni, &wide_kernels_amx,
#endif
};

const WideKernels& current() {
  for (const WideKernels* k : LEVELS)
    if (!strcmp(k->name, kernels().name))
      return *k;
  return wide_kernels_scalar;
}

// The activations of some images: rows [image][word][unit], or planes [group][word][unit][place].
struct Operand {
  const WideLayout& w;
  const dv_input& input;
  int64_t batch, places, pitch;
  uint8_t* data = nullptr;
  int16_t* codes = nullptr;

  Operand(const WideLayout& layout, const dv_input& source, int64_t images)
      : w(layout), input(source), batch(images), places(w.l.places(images)) {
    // Tiles read whole, beyond the last place too; an odd number of lines, see WideLayout.
    pitch = ((places + 2 * WIDE_PANEL + 15) / 16 | 1) * 16;
  }

  int64_t plane_bytes() const { return pitch * 4; }
  int64_t group_bytes() const { return w.m.first_words * w.units * plane_bytes(); }
  int64_t data_bytes() const {
    return w.l.shape.linear ? (batch + WIDE_ROWS) * w.row_bytes : w.l.shape.groups * group_bytes();
  }
  int64_t image_size() const { return w.l.shape.channels * w.l.in_pixels; }
  int64_t bytes() const { return data_bytes() + batch * image_size() * 2 + 64; }

  void fill(int64_t first, uint8_t* memory) {
    data = memory;
    codes = reinterpret_cast<int16_t*>(memory + data_bytes());
    const int16_t* source = static_cast<const int16_t*>(input.data) + first * image_size();
    if (input.kind == 0) {
      quantise(static_cast<const float*>(input.data) + first * image_size());
      source = codes;
    }
    if (w.l.shape.linear)
      fill_rows(source);
    else
      fill_planes(source);
  }

private:
  uint32_t mask() const { return (1u << w.m.first_bits) - 1; }

  void quantise(const float* x) {
    const int64_t size = batch * image_size(), step = 16384;
    parallel((size + step - 1) / step, [&](int64_t begin, int64_t end) {
      const ExactFloats exact;
      const int64_t from = begin * step, to = std::min(end * step, size);
      kernels().quantise(x + from, to - from, input.scale, input.zero_point, input.qmin, input.qmax,
                         2, codes + from);
    });
  }

  void fill_rows(const int16_t* source) {
    const int64_t channels = w.l.shape.channels;
    parallel(batch, [&](int64_t begin, int64_t end) {
      for (int64_t m = begin; m < end; m++) {
        uint8_t* row = data + m * w.row_bytes;
        const int16_t* code = source + m * channels;
        if (w.factors)
          fill_row(static_cast<const uint16_t*>(w.m.first), code, reinterpret_cast<uint16_t*>(row));
        else
          fill_row(static_cast<const uint32_t*>(w.m.first), code, reinterpret_cast<uint32_t*>(row));
      }
    });
  }

  template <typename Word> void fill_row(const Word* table, const int16_t* code, Word* row) const {
    const int64_t channels = w.l.shape.channels, width = w.units * w.per_unit;
    const int64_t words = w.m.first_words;
    for (int64_t r = 0; r < words; r++, row += width) {
      for (int64_t c = 0; c < channels; c++)
        row[c] = table[((uint16_t)code[c] & mask()) * words + r];
      if (channels < width)
        row[channels] = 0;
    }
  }

  // The unit of the codes of up to two channels.
  uint32_t unit(uint32_t one, uint32_t other, bool pair, int64_t r) const {
    if (!w.factors)
      return static_cast<const uint32_t*>(w.m.first)[one];
    const uint16_t* table = static_cast<const uint16_t*>(w.m.first) + r;
    const int64_t words = w.m.first_words;
    const uint32_t low = table[one * words];
    return pair ? low | (uint32_t)table[other * words] << 16 : low;
  }

  void fill_planes(const int16_t* source) {
    const Places place(w.l, batch);
    const uint32_t pad = (uint16_t)(input.kind == 0 ? input.zero_point : input.pad) & mask();
    parallel(w.l.shape.groups * w.units, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t g = task / w.units, u = task % w.units;
        const int64_t inside = u * w.per_unit, channel = g * w.l.group_channels + inside;
        const bool pair = w.factors && inside + 1 < w.l.group_channels;
        for (int64_t r = 0; r < w.m.first_words; r++) {
          uint32_t* plane = reinterpret_cast<uint32_t*>(data + g * group_bytes() +
                                                        (r * w.units + u) * plane_bytes());
          std::fill(plane, plane + pitch, unit(pad, pad, pair, r));
          fill_plane(source + channel * w.l.in_pixels, place, pair, r, plane);
        }
      }
    });
  }

  void fill_plane(const int16_t* channel, const Places& place, bool pair, int64_t r,
                  uint32_t* plane) const {
    const dv_shape& s = w.l.shape;
    for (int64_t b = 0; b < batch; b++)
      for (int64_t z = 0; z < s.in[0]; z++)
        for (int64_t y = 0; y < s.in[1]; y++) {
          if (place.z[(size_t)z] < 0 || place.y[(size_t)y] < 0)
            continue;
          uint32_t* to = plane + b * w.l.phase_size + place.z[(size_t)z] + place.y[(size_t)y];
          const int16_t* one = channel + b * image_size() + (z * s.in[1] + y) * s.in[2];
          const int16_t* other = pair ? one + w.l.in_pixels : one;
          for (int64_t x = 0; x < s.in[2]; x++)
            if (place.x[(size_t)x] >= 0)
              to[place.x[(size_t)x]] =
                  unit((uint16_t)one[x] & mask(), (uint16_t)other[x] & mask(), pair, r);
        }
  }
};

// Where the sums go: exact, or less the zero point's share, scaled and with the bias.
struct Results {
  const WideKernels& k;
  const dv_output& output;
  std::vector<int64_t> start; // per output
  int64_t at = 0;             // the first output element of this part

  Results(const WideKernels& kernels, const WideLayout& w, const dv_output& to,
          const int64_t* packed)
      : k(kernels), output(to), start(packed, packed + w.l.shape.outputs) {
    for (size_t n = 0; to.fused && n < start.size(); n++)
      start[n] -= to.zero_point * packed[start.size() + n];
  }

  // Neighbouring channels of one pixel.
  void channels(const int64_t* sum, int64_t n, int64_t count, int64_t to) const {
    if (output.fused)
      k.finish_channels(sum, count, start.data() + n, output.scale + n,
                        output.bias ? output.bias + n : nullptr,
                        static_cast<float*>(output.data) + at + to);
    else
      for (int64_t j = 0; j < count; j++)
        exact(at + to + j, sum[j], n + j);
  }

  // Neighbouring places of one channel, each to its target, if any.
  void pixels(const int64_t* sum, int64_t n, int64_t count, const int64_t* target,
              int64_t channel) const {
    float finished[WIDE_PANEL];
    if (output.fused)
      k.finish_channel(sum, count, start[(size_t)n], output.scale[n],
                       output.bias ? output.bias + n : nullptr, finished);
    for (int64_t j = 0; j < count; j++) {
      if (target[j] < 0)
        continue;
      const int64_t to = at + channel + target[j];
      if (output.fused)
        static_cast<float*>(output.data)[to] = finished[j];
      else
        exact(to, sum[j], n);
    }
  }

private:
  void exact(int64_t to, int64_t sum, int64_t n) const {
    static_cast<int64_t*>(output.data)[to] = sum + start[(size_t)n];
  }
};

// What both orders of the tiles share.
struct Tiles {
  const WideLayout& w;
  const Operand& x;
  const uint8_t* packed;
  const WideKernels& k;
  const WideForm& form;
  WideHead head;
  const Results& results;
  std::vector<int64_t> row_offset, lane_offset;
  std::vector<int32_t> shift;

  void run() {
    if (w.l.shape.linear)
      linear();
    else
      images();
  }

private:
  WideTile tile(const uint8_t* rows, const uint8_t* lanes, int64_t lane_step) const {
    return {rows,
            w.row_bytes,
            lanes,
            lane_step,
            row_offset.data(),
            lane_offset.data(),
            shift.data(),
            (int64_t)shift.size(),
            w.units,
            head.chunk,
            w.m.low};
  }

  void linear() {
    for (const dv_wide_segment& s : w.segments) {
      row_offset.push_back(s.first * w.units * 4);
      lane_offset.push_back(s.second * w.units * WIDE_PANEL * 4);
      shift.push_back(s.shift);
    }
    const int64_t outputs = w.l.shape.outputs;
    const int64_t down = (x.batch + form.rows - 1) / form.rows, across = up(outputs, k.lanes);
    parallel(down * across, [&](int64_t begin, int64_t end) {
      const ExactFloats exact;
      int64_t sum[WIDE_ROWS * WIDE_PANEL];
      // Some weights are the outer loop: they stay in the cache while the rows pass.
      for (int64_t task = begin; task < end; task++) {
        const int64_t n = task / down * k.lanes, m = task % down * form.rows;
        const uint8_t* lanes =
            packed + w.head_bytes() + n / WIDE_PANEL * w.panel_bytes + n % WIDE_PANEL * 4;
        const int64_t rows = std::min(form.rows, x.batch - m);
        form.tile(tile(x.data + m * w.row_bytes, lanes, WIDE_PANEL * 4), rows, sum);
        const int64_t width = std::min(k.lanes, outputs - n);
        for (int64_t i = 0; i < rows; i++)
          results.channels(sum + i * k.lanes, n, width, (m + i) * outputs + n);
      }
    });
  }

  void images() {
    const auto taps = w.l.tap_offsets(x.batch);
    for (const dv_wide_segment& s : w.segments)
      for (int64_t t = 0; t < w.l.taps; t++) {
        row_offset.push_back((s.second * w.l.taps + t) * w.units * 4);
        lane_offset.push_back(s.first * w.units * x.plane_bytes() + taps[(size_t)t] * 4);
        shift.push_back(s.shift);
      }
    const auto target = w.l.targets(x.batch);
    const int64_t span = (int64_t)target.size(), per_group = w.l.group_outputs;
    const int64_t down = up(per_group, form.rows), across = up(span, k.lanes);
    parallel(w.l.shape.groups * down * across, [&](int64_t begin, int64_t end) {
      const ExactFloats exact;
      int64_t sum[WIDE_ROWS * WIDE_PANEL];
      for (int64_t task = begin; task < end; task++) {
        const int64_t p = task % across * k.lanes, block = task / across;
        const int64_t g = block / down, inside = block % down * form.rows;
        const int64_t n = g * per_group + inside, rows = std::min(form.rows, per_group - inside);
        const int64_t width = std::min(k.lanes, span - p);
        form.tile(tile(packed + w.head_bytes() + n * w.row_bytes,
                       x.data + g * x.group_bytes() + p * 4, x.plane_bytes()),
                  rows, sum);
        for (int64_t i = 0; i < rows; i++)
          results.pixels(sum + i * k.lanes, n + i, width, target.data() + p,
                         (n + i) * w.l.out_pixels);
      }
    });
  }

  static int64_t up(int64_t n, int64_t by) { return (n + by - 1) / by; }
};

} // namespace
} // namespace dv

int32_t dv_wide_run(const dv_shape* shape, const dv_wide* wide, const void* packed,
                    const dv_input* input, const dv_output* output) {
  using namespace dv;
  if (!valid(*shape))
    return DV_BAD_SHAPE;
  if (!sound(*wide))
    return DV_BAD_VALUE;
  const Layout l(*shape);
  const WideLayout w(l, *wide);
  WideHead head;
  memcpy(&head, packed, sizeof head);
  if (head.chunk < 1 || head.sums < 0 || head.sums >= WIDE_SUMS || (w.factors && head.sums))
    return DV_BAD_VALUE;
  const WideKernels& k = current();
  const uint8_t* weights = static_cast<const uint8_t*>(packed);
  Results results(k, w, *output, reinterpret_cast<const int64_t*>(weights + sizeof head));
  static thread_local Scratch memory;
  // As many images at a time as fit the cache.
  const int64_t part = std::max<int64_t>(
      1, (int64_t(1) << 20) / (shape->linear ? w.row_bytes : Operand(w, *input, 1).data_bytes()));
  for (int64_t first = 0; first < shape->batch; first += part) {
    Operand x(w, *input, std::min(part, shape->batch - first));
    uint8_t* buffer = memory.take(x.bytes());
    if (!buffer)
      return DV_NO_MEMORY;
    x.fill(first, buffer);
    results.at = first * shape->outputs * l.out_pixels;
    Tiles tiles{w, x, weights, k, k.forms[wide->law][head.sums], head, results, {}, {}, {}};
    tiles.run();
  }
  return DV_OK;
}
