// Some images of one op, prepared, and the ways to multiply them.
#pragma once
#include "core/emit.h"
#include "core/prepare.h"
#include "core/threads.h"

#include <algorithm>

namespace dv {

struct Part {
  const Layout& l;
  const dv_multiplier& multiplier;
  const uint8_t* packed;
  const Image& image;
  const std::vector<Run>& runs;
  const Emitter& emit;
  uint8_t pad; // the code of padding cells

  void dot() const; // factored multipliers
  // Those with lookups, and any multiplier; false when memory ran out.
  bool dot_and_look_up() const;
  bool table() const;

private:
  // Row-add with the lanes being outputs, output pixels, or input pixels that serve every tap.
  enum class Lanes { OUTPUTS, PIXELS, INPUTS };

  const uint8_t* weights(int64_t group) const { return packed + l.packed_group(group); }
  int64_t pixels() const { return image.batch * l.out_pixels; }
  // Sides of the dot kernels' blocks.
  int64_t rows() const { return l.shape.linear ? image.batch : l.group_outputs; }
  int64_t lanes() const { return l.shape.linear ? l.group_outputs : span(); }
  int64_t lane_pitch() const { return l.shape.linear ? PANEL * 4 : image.plane_bytes; }
  std::vector<int64_t> tap_bytes() const {
    std::vector<int64_t> bytes = image.taps;
    for (auto& offset : bytes)
      offset *= 4;
    return bytes;
  }
  int64_t span() const { return runs.back().p + runs.back().length; }

  // The stretches of K in which any of some outputs of a group has a factor that is not zero.
  void occupied(int64_t group, int64_t output, int64_t outputs, const int64_t* tap_offset,
                std::vector<Span>& spans) const;
  Dot factors(int64_t group, int64_t lane, const std::vector<Span>& spans) const;
  void emit_block(const int32_t* sum, int64_t group, int64_t row, int64_t rows, int64_t lane,
                  int64_t lanes) const;
  struct Stretch;
  std::vector<Stretch> stretches(int64_t rows) const;
  Classes classes(int64_t group, int64_t lookup, const Stretch& s, int64_t lane,
                  const int64_t* tap_offset) const;
  void gather(int64_t group, int64_t lookup, const Stretch& s, int64_t row, int64_t rows,
              int64_t pitch, uint8_t* out) const;
  Lookup lookup(int64_t group, bool lanes_are_weights) const;
  std::vector<int64_t> image_offsets(bool each_tap) const;
  std::vector<int64_t> weight_offsets() const;
  Lanes cheapest() const;
  void direct() const;
  struct Border;
  std::vector<Border> borders() const;
  void start_sums(const std::vector<Border>& borders, int64_t group, int64_t from, int64_t to,
                  int32_t start, int64_t first, int64_t last, int32_t* sum, int64_t stride) const;
  // How the threads share row-add by input pixels: parts of the pixels, outputs of a tile, and how
  // far apart the sums of two outputs lie.
  struct Shares {
    int64_t parts, rows, stride;
  };
  Shares shares(int64_t before, int64_t after) const;
  bool add_outputs() const;
  bool add_pixels() const;
  bool add_inputs() const;
};

constexpr int64_t MOST_SUMS = 32 * 48; // dot_rows * dot_lanes at most

inline int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Building P takes as long as this many of its uses (measured; the same order at every level).
constexpr double BUILD = 500;
// Sums at unaligned places cost this much more.
constexpr double UNALIGNED = 1.15;

// Rows per task, evenly: as many as fit `bytes` of cache, fewer only to give every thread as many
// tasks.
inline int64_t tile_rows(int64_t rows, int64_t row_bytes, int64_t bytes, int64_t other_tasks,
                         int64_t least) {
  const int64_t fit = std::max(least, bytes / row_bytes), threads = thread_count();
  const int64_t wanted = threads == 1 ? 1 : blocks(2 * threads, other_tasks);
  const int64_t most = blocks(rows, least);
  int64_t tiles = std::max(blocks(rows, fit), std::min(wanted, most));
  for (int64_t even = tiles; even < tiles + threads && even <= most; even++)
    if (other_tasks * even % threads == 0)
      return blocks(rows, even);
  return blocks(rows, tiles);
}

} // namespace dv
