// The operands of sums through a register: planes of bytes or of floats, and how a tile reads them.
#pragma once
#include "core/prepare.h"
#include "dovetail_accumulate.h"
#include "kernels/accumulate.h"

namespace dv {

// Codes are packed as bytes, numbers as floats.
inline int64_t unit(int32_t source) { return source == DV_VALUES ? 4 : 1; }

// The images of one part of the batch as planes of bytes or of floats.
struct Planes {
  const Layout& l;
  const dv_products& products;
  Image image;

  Planes(const Layout& layout, const dv_products& p, int64_t batch)
      : l(layout), products(p), image(layout, batch) {}

  int64_t bytes() const { return image.bytes() * unit(products.source) + image.code_bytes() + 64; }
  const uint8_t* group(int64_t g) const { return image.data + g * group_bytes(); }
  int64_t group_bytes() const { return image.group_bytes * unit(products.source); }
  int64_t plane_bytes() const { return image.plane_bytes * unit(products.source); }

  void fill(const dv_input& input, int64_t first, uint8_t* memory);

private:
  void recoded(const dv_input& input, int64_t first);
  void values(const float* x);
};

// One side's operand of each k: offset in bytes from the group's base, in the order of the sums.
struct Side {
  std::vector<int64_t> offset;
  bool is_signed;
};

// Broadcast operands of `rows` rows from `place` on, in the form of the steps' lanes.
void broadcast(const Side& side, const uint8_t* base, int64_t place, int64_t rows, int64_t step,
               int32_t source, Lane lane, void* out);

} // namespace dv
