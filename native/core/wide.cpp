// Products of wide operands: the loop over tiles, and where their sums go.
#include "core/wide_operand.h"

#include "core/dispatch.h"
#include "core/plane.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

DV_LEVELS(WideKernels, wide_kernels);

namespace {

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
  const WideOperand& x;
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
  const WideKernels& k = *wide_kernels_levels[level()];
  const uint8_t* weights = static_cast<const uint8_t*>(packed);
  Results results(k, w, *output, reinterpret_cast<const int64_t*>(weights + sizeof head));
  static thread_local Scratch memory;
  // As many images at a time as fit the cache.
  const int64_t part = std::max<int64_t>(
      1,
      (int64_t(1) << 20) / (shape->linear ? w.row_bytes : WideOperand(w, *input, 1).data_bytes()));
  for (int64_t first = 0; first < shape->batch; first += part) {
    WideOperand x(w, *input, std::min(part, shape->batch - first));
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
