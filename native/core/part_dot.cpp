#include "core/dispatch.h"
#include "core/part.h"
#include "core/threads.h"

#include <algorithm>

namespace dv {

void Part::dot() const {
  const Kernels& k = kernels();
  const bool linear = l.shape.linear;
  const int64_t row_count = linear ? image.batch : l.group_outputs;
  const int64_t lane_count = linear ? l.group_outputs : span();
  const int64_t row_blocks = blocks(row_count, k.dot_rows);
  const int64_t lane_blocks = blocks(lane_count, k.dot_lanes);
  std::vector<int64_t> taps = image.taps;
  for (auto& offset : taps)
    offset *= 4;

  parallel(l.shape.groups * row_blocks * lane_blocks, [&](int64_t begin, int64_t end) {
    alignas(64) int32_t sum[32 * 48];
    k.dot_begin(l.quad_step);
    for (int64_t task = begin; task < end; task++) {
      // The weights' block is the outer loop: it stays in the cache while the image passes.
      const int64_t g = task / (row_blocks * lane_blocks),
                    inside = task % (row_blocks * lane_blocks);
      const int64_t row = (linear ? inside % row_blocks : inside / lane_blocks) * k.dot_rows;
      const int64_t lane = (linear ? inside / row_blocks : inside % lane_blocks) * k.dot_lanes;
      Dot d;
      d.taps = l.taps;
      d.quads = l.quads;
      d.quad_step = l.quad_step;
      d.tap_offset = taps.data();
      d.lanes_unsigned = !linear;
      d.rows = linear ? image.group(g) : weights(g);
      d.row_stride = linear ? image.plane_bytes : l.taps * l.quads * 4;
      d.lanes = linear ? weights(g) + lane / PANEL * l.panel_bytes() : image.group(g);
      d.quad_stride = linear ? PANEL * 4 : image.plane_bytes;
      const int64_t rows = std::min(k.dot_rows, row_count - row);
      k.dot(d, row, rows, linear ? lane % PANEL : lane, sum);
      const int64_t lanes = std::min(k.dot_lanes, lane_count - lane);
      if (linear)
        emit.pixel_rows(sum, k.dot_lanes, row, rows, lane, lanes);
      else
        emit_places(sum, k.dot_lanes, g * l.group_outputs + row, rows, lane, lanes);
    }
    k.dot_end();
  });
}

} // namespace dv
