#include "core/dispatch.h"
#include "core/part.h"
#include "core/threads.h"

#include <algorithm>

namespace dv {

void Part::occupied(int64_t group, int64_t output, int64_t outputs, const int64_t* tap_offset,
                    std::vector<Span>& spans) const {
  const int64_t steps = l.steps(), each = l.weight_taps * steps;
  const int64_t first = output / OCCUPIED, last = blocks(output + outputs, OCCUPIED);
  const uint8_t* notes = packed + l.occupied(group);
  spans.clear();
  for (int64_t t = 0; t < l.taps; t++) {
    const int64_t tap = l.weight_tap[(size_t)t];
    bool open = false;
    for (int64_t s = 0; s < steps; s++) {
      bool any = false;
      for (int64_t i = first; i < last; i++)
        any |= notes[i * each + tap * steps + s] != 0;
      const int64_t quad = s * l.quad_step;
      if (any && open)
        spans.back().quads += l.quad_step;
      else if (any)
        spans.push_back(
            {(tap * l.quads + quad) * 4, tap_offset[t] + quad * lane_pitch(), l.quad_step});
      open = any;
    }
  }
}

// The operands of the blocks whose lanes start in the panel of `lane`: rows are the activations of
// a linear layer, the weights of a convolution.
Dot Part::factors(int64_t group, int64_t lane, const std::vector<Span>& spans) const {
  const bool linear = l.shape.linear;
  Dot d;
  d.spans = spans.data();
  d.span_count = (int64_t)spans.size();
  d.quad_step = l.quad_step;
  d.lanes_unsigned = linear == (multiplier.second_unsigned != 0);
  d.rows = linear ? image.group(group) : weights(group);
  d.row_stride = linear ? image.plane_bytes : l.weight_taps * l.quads * 4;
  d.lanes = linear ? weights(group) + lane / PANEL * l.panel_bytes() : image.group(group);
  d.quad_stride = lane_pitch();
  return d;
}

void Part::emit_block(const int32_t* sum, int64_t group, int64_t row, int64_t rows, int64_t lane,
                      int64_t lanes) const {
  const int64_t stride = kernels().dot_lanes;
  if (l.shape.linear)
    emit.pixel_rows(sum, stride, row, rows, lane, lanes);
  else
    emit.places(runs, sum, stride, group * l.group_outputs + row, rows, lane, lanes);
}

void Part::dot() const {
  const Kernels& k = kernels();
  const bool linear = l.shape.linear;
  const int64_t row_count = rows(), lane_count = lanes();
  const int64_t row_blocks = blocks(row_count, k.dot_rows);
  const int64_t lane_blocks = blocks(lane_count, k.dot_lanes);
  const auto taps = tap_bytes();

  parallel(l.shape.groups * row_blocks * lane_blocks, [&](int64_t begin, int64_t end) {
    alignas(64) int32_t sum[MOST_SUMS];
    std::vector<Span> spans;
    int64_t weights_of = -1; // the block whose spans these are
    k.dot_begin(l.quad_step);
    for (int64_t task = begin; task < end; task++) {
      // The weights' block is the outer loop: it stays in the cache while the image passes.
      const int64_t g = task / (row_blocks * lane_blocks),
                    inside = task % (row_blocks * lane_blocks);
      const int64_t row = (linear ? inside % row_blocks : inside / lane_blocks) * k.dot_rows;
      const int64_t lane = (linear ? inside / row_blocks : inside % lane_blocks) * k.dot_lanes;
      const int64_t here = std::min(k.dot_rows, row_count - row);
      const int64_t output = linear ? lane : row, block = g * l.group_outputs + output;
      if (block != weights_of)
        occupied(g, output, linear ? std::min(k.dot_lanes, lane_count - lane) : here, taps.data(),
                 spans);
      weights_of = block;
      k.dot(factors(g, lane, spans), row, here, linear ? lane % PANEL : lane, sum);
      emit_block(sum, g, row, here, lane, std::min(k.dot_lanes, lane_count - lane));
    }
    k.dot_end();
  });
}

} // namespace dv
