// The rounded activations of some images.
//
// The layout is that of the other ops (see layout.h), transposed: one row per place of the padded
// image, holding the blocks of all channels. A tap moves rows by a fixed number of places.
#pragma once
#include "core/block_form.h"

namespace dv {

struct BlockRows {
  const Layout& l;
  const BlockSizes& sizes;
  const dv_block_format& format;
  int64_t batch, places;
  uint8_t* data = nullptr;
  float* scale = nullptr; // [block][row]

  // Tiles read whole, beyond the last place too.
  int64_t count() const { return places + sizes.f.rows; }
  int64_t bytes() const { return count() * (sizes.row_bytes + sizes.row_scales * 4) + 64; }

  void fill(const float* x, uint8_t* memory);
  ScaleRange range() const;

private:
  void zero(int64_t from, int64_t to);
  void row(const float* channels, int64_t place);
  void fill_linear(const float* x);
  void fill_images(const float* x);
  void turn_pixels(const float* source, int64_t n, float* pixels, int64_t pitch) const;
};

} // namespace dv
