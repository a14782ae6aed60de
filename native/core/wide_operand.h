// The activations of a multiplier of wide operands, as the kernels read them.
#pragma once
#include "core/prepare.h"
#include "core/wide.h"

namespace dv {

// The activations of some images: rows [image][word][unit], or planes [group][word][unit][place].
struct WideOperand {
  const WideLayout& w;
  const dv_input& input;
  int64_t batch, places, pitch;
  uint8_t* data = nullptr;
  int16_t* codes = nullptr;

  WideOperand(const WideLayout& layout, const dv_input& source, int64_t images)
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

  void fill(int64_t first, uint8_t* memory);

private:
  uint32_t mask() const { return (1u << w.m.first_bits) - 1; }
  void quantise(const float* x);
  void fill_rows(const int16_t* source);
  template <typename Word> void fill_row(const Word* table, const int16_t* code, Word* row) const;
  // The unit of the codes of up to two channels.
  uint32_t unit(uint32_t one, uint32_t other, bool pair, int64_t r) const;
  void fill_planes(const int16_t* source);
  void fill_plane(const int16_t* channel, const Places& place, bool pair, int64_t r,
                  uint32_t* plane) const;
};

} // namespace dv
