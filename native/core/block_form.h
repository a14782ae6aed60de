// Sizes of both operands of a product of block formats, in the order of one level's kernels.
#pragma once
#include "core/layout.h"
#include "kernels/block.h"

#include <math.h>

namespace dv {

extern const BlockKernels& block_kernels(int64_t level);

bool valid(const dv_block_codes& codes);

// Scales that are not NaN.
struct ScaleRange {
  float least = INFINITY, most = 0;

  void add(float scale) {
    least = scale < least ? scale : least;
    most = scale > most ? scale : most;
  }
  void add(const ScaleRange& other) {
    least = other.least < least ? other.least : least;
    most = other.most > most ? other.most : most;
  }
};

// The head of packed weights.
struct BlockHead {
  int64_t level;
  dv_block_codes codes;
  ScaleRange range;
};
constexpr int64_t BLOCK_HEAD = 128;
static_assert(sizeof(BlockHead) <= BLOCK_HEAD, "the head has room");

struct BlockSizes {
  const BlockKernels& k;
  const BlockForm& f;
  int64_t blocks, units, step; // per tap and group; units per block; units per tile step
  int64_t panels, panel_data, panel_bytes;
  int64_t row_bytes, row_scales;
  BlockRow row;
  bool biased;

  BlockSizes(const Layout& l, const dv_block_codes& codes, int64_t level);
  int64_t packed_bytes(const Layout& l) const {
    return BLOCK_HEAD + l.shape.groups * panels * panel_bytes + 64;
  }
};

} // namespace dv
