// The activations of some images, as the kernels read them.
#pragma once
#include "core/layout.h"

namespace dv {

// Where every index of the input's axes lies in a plane; -1 where no tap reads it.
struct Places {
  std::vector<int64_t> z, y, x;

  Places(const Layout& layout, int64_t batch);
};

struct Image {
  const Layout* layout;
  int64_t batch;       // images in this part
  int64_t plane_bytes; // one quad plane (factored), one channel plane (table); rows when linear
  int64_t group_bytes;
  std::vector<int64_t> taps; // in places
  uint8_t* data = nullptr;
  uint8_t* codes = nullptr;        // quantised input, in input order
  const uint8_t* source = nullptr; // the codes, wherever they lie: those above or the caller's

  Image(const Layout& layout, int64_t batch);
  int64_t bytes() const { return layout->shape.groups * group_bytes; }
  int64_t code_bytes() const { return batch * layout->shape.channels * layout->in_pixels; }
  const uint8_t* group(int64_t g) const { return data + g * group_bytes; }

  // Reads the images from `first` on, as the multiplier's factors and lookups want them.
  void fill(const dv_input& input, int64_t first, const dv_multiplier& multiplier);

private:
  void fill_rows(const uint8_t* factors);
  void fill_columns();
  void fill_planes(uint8_t pad, const dv_multiplier& multiplier);
};

} // namespace dv
