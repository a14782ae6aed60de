// Products and lookups together: blocks of sums of int8 products, to which the entries of few
// classes are added, a stretch of k at a time. The entries of a few rows and such a stretch are
// gathered once and stay in the first-level cache while all lanes pass.
#include "core/dispatch.h"
#include "core/part.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <string.h>

namespace dv {

namespace {

thread_local Scratch memory;

constexpr int64_t SUMS = 256 << 10; // bytes of sums of one task
constexpr int64_t TASK_ROWS = 64;   // that share the lanes while these are in the cache
constexpr int64_t GATHERED = 256;   // quads of entries gathered at once, over all rows: 16 KiB

} // namespace

// Some taps and quads of one lookup: all quads of several taps, or some of one tap's.
struct Part::Stretch {
  int64_t tap, taps, quad, quads;
};

std::vector<Part::Stretch> Part::stretches(int64_t rows) const {
  const int64_t fit = GATHERED / rows;
  std::vector<Stretch> found;
  const int64_t taps = std::max<int64_t>(1, fit / l.class_quads);
  const int64_t quads = std::min(fit, l.class_quads);
  for (int64_t t = 0; t < l.taps; t += taps)
    for (int64_t q = 0; q < l.class_quads; q += quads)
      found.push_back({t, std::min(taps, l.taps - t), q, std::min(quads, l.class_quads - q)});
  return found;
}

// [tap][quad][row][4][16]; k beyond the channels look up zeros.
void Part::gather(int64_t group, int64_t lookup, const Stretch& s, int64_t row, int64_t rows,
                  int64_t pitch, uint8_t* out) const {
  const uint8_t* entry = multiplier.entry + lookup * 256 * 16;
  const int64_t width = l.class_quads * 4;
  const int64_t first = s.quad * 4, end = std::min(first + s.quads * 4, l.group_channels);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t t = 0; t < s.taps; t++) {
      const int64_t tap = l.weight_tap[(size_t)(s.tap + t)];
      const uint8_t* codes = l.shape.linear ? image.source + (row + i) * l.shape.channels
                                            : weights(group) + l.factor_bytes +
                                                  ((row + i) * l.weight_taps + tap) * width;
      uint8_t* to = out + (t * s.quads * pitch + i) * 64;
      int64_t c = first;
      for (; c + 4 <= end; c += 4, to += pitch * 64)
        for (int64_t b = 0; b < 4; b++)
          memcpy(to + 16 * b, entry + codes[c + b] * 16, 16);
      if (c < end) {
        memset(to, 0, 64);
        for (int64_t b = 0; b < end - c; b++)
          memcpy(to + 16 * b, entry + codes[c + b] * 16, 16);
      }
    }
}

// The lanes of one lookup, as `factors` gives those of the products.
Classes Part::classes(int64_t group, int64_t lookup, const Stretch& s, int64_t lane,
                      const int64_t* tap_offset) const {
  const bool linear = l.shape.linear;
  Classes c;
  c.taps = s.taps;
  c.quads = s.quads;
  c.tap_offset = tap_offset + s.tap;
  c.step = multiplier.step[lookup];
  c.lanes = linear
                ? weights(group) + l.factor_bytes + lookup * l.packed_outputs * l.class_quads * 4 +
                      lane / PANEL * l.class_panel_bytes()
                : image.group(group) + (l.quads + lookup * l.class_quads) * image.plane_bytes;
  c.quad_stride = linear ? PANEL * 4 : image.plane_bytes;
  c.lanes += s.quad * c.quad_stride;
  return c;
}

bool Part::dot_and_look_up() const {
  const Kernels& k = kernels();
  const bool linear = l.shape.linear;
  const int64_t row_count = rows(), lane_count = lanes();
  const int64_t size = k.dot_rows * k.dot_lanes, lane_blocks = blocks(lane_count, k.dot_lanes);
  const int64_t task_rows = std::min(TASK_ROWS, blocks(row_count, k.dot_rows) * k.dot_rows);
  const int64_t row_blocks = task_rows / k.dot_rows;
  const int64_t row_tasks = blocks(row_count, task_rows) * l.shape.groups;
  // As many lanes as fit, fewer only to give every thread a task.
  const int64_t fit = std::max<int64_t>(1, SUMS / (row_blocks * size * 4));
  const int64_t wanted = thread_count() == 1 ? 1 : blocks(2 * thread_count(), row_tasks);
  const int64_t task_lanes =
      blocks(lane_blocks, std::max(blocks(lane_blocks, fit), std::min(wanted, lane_blocks)));
  const int64_t lane_tasks = blocks(lane_blocks, task_lanes);
  const int64_t pitch = row_count == 1 ? 1 : k.look_up_rows;
  const auto taps = tap_bytes();
  const auto parts = stretches(pitch);
  std::atomic<bool> enough{true};

  parallel(row_tasks * lane_tasks, [&](int64_t begin, int64_t end) {
    alignas(64) uint8_t gathered[GATHERED * 64] = {};
    int32_t* sums = reinterpret_cast<int32_t*>(memory.take(task_lanes * row_blocks * size * 4));
    if (!sums) {
      enough = false;
      return;
    }
    for (int64_t task = begin; task < end; task++) {
      const int64_t g = task / lane_tasks % l.shape.groups;
      const int64_t from = task / lane_tasks / l.shape.groups * task_rows;
      const int64_t to = std::min(from + task_rows, row_count);
      const int64_t first = task % lane_tasks * task_lanes;
      const int64_t last = std::min(first + task_lanes, lane_blocks);
      const auto block = [&](int64_t row, int64_t lane) {
        return sums + ((lane - first) * row_blocks + (row - from) / k.dot_rows) * size;
      };
      const auto place = [&](int64_t lane) {
        return linear ? lane * k.dot_lanes % PANEL : lane * k.dot_lanes;
      };
      std::vector<Span> spans; // all that any of the group's outputs has
      occupied(g, 0, l.group_outputs, taps.data(), spans);
      k.dot_begin(l.quad_step);
      for (int64_t lane = first; lane < last; lane++)
        for (int64_t row = from; row < to; row += k.dot_rows)
          k.dot(factors(g, lane * k.dot_lanes, spans), row, std::min(k.dot_rows, to - row),
                place(lane), block(row, lane));
      k.dot_end();
      for (int64_t i = 0; i < l.shape.lookups; i++)
        for (const Stretch& part : parts)
          for (int64_t row = from; row < to; row += pitch) {
            gather(g, i, part, row, std::min(pitch, to - row), pitch, gathered);
            for (int64_t lane = first; lane < last; lane++) {
              Classes c = classes(g, i, part, lane * k.dot_lanes, taps.data());
              c.entries = gathered;
              c.rows = pitch;
              k.look_up(c, place(lane), block(row, lane) + (row - from) % k.dot_rows * k.dot_lanes);
            }
          }
      for (int64_t lane = first; lane < last; lane++)
        for (int64_t row = from; row < to; row += k.dot_rows)
          emit_block(block(row, lane), g, row, std::min(k.dot_rows, to - row), lane * k.dot_lanes,
                     std::min(k.dot_lanes, lane_count - lane * k.dot_lanes));
    }
  });
  return enough;
}

} // namespace dv
