// Weights of block formats in the order of the kernels.
#include "core/block_form.h"
#include "core/dispatch.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

DV_LEVELS(BlockKernels, block_kernels);

namespace {

int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t longest(const Layout& l, int64_t block) { return std::min(block, l.group_channels); }

// No dot of two blocks is larger in magnitude.
double largest_dot(const Layout& l, const dv_block_codes& c) {
  return (double)longest(l, c.block) * c.most * c.most;
}

// Whether a form's terms are exact up to the one rounding. Real scales have `scale_bits` each, of
// which integers and folded elements see no more than a float's 24 with those of the dot.
bool fits(const BlockForm& form, const dv_block_codes& c, double dot) {
  if (form.elements == Elements::VALUES)
    return true;
  const bool real = c.scale_bits > 1;
  const double scale = real ? ldexp(1.0, c.scale_bits) : 1.0;
  if (c.values || c.split || (real && dot * scale * scale > 0x1p24))
    return false;
  if (form.elements == Elements::FOLDED) // weights of few rows are as short as can be
    return !c.few && c.most * scale <= form.most && dot * scale * scale <= (double)form.bound &&
           c.digits + (real ? c.scale_bits : 0) <= form.digits;
  return c.most <= form.most && c.digits <= form.digits && dot < 0x1p31;
}

const BlockForm& fitting(const BlockForm* form, const dv_block_codes& c, double dot) {
  while (!fits(*form, c, dot))
    form++;
  return *form;
}

uint16_t upper_half(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)(bits >> 16);
}

// Writes one output's elements into its lane of a panel.
struct LaneWriter {
  const Layout& l;
  const BlockSizes& sizes;
  int64_t block, lane;
  uint8_t* panel;

  void block_at(int64_t at, const float* code, float s, ScaleRange& range) const {
    const int64_t n = std::min(block, l.group_channels - at % sizes.blocks * block);
    if (sizes.f.elements == Elements::VALUES)
      put_values(at, code, s, n);
    else
      put_scaled(at, code, s, n, range);
  }

private:
  void put_values(int64_t at, const float* code, float s, int64_t n) const {
    uint8_t* to = panel + at * sizes.units * sizes.k.lanes * 4 + lane * 8;
    for (int64_t i = 0; i < n; i++, to += sizes.k.lanes * 8) {
      const double value = (double)code[i] * s;
      memcpy(to, &value, sizeof value);
    }
  }

  void put_scaled(int64_t at, const float* code, float found, int64_t n, ScaleRange& range) const {
    float* scale = reinterpret_cast<float*>(panel + sizes.panel_data);
    int32_t* start = reinterpret_cast<int32_t*>(scale + l.taps * sizes.blocks * sizes.k.lanes);
    const bool folded = sizes.f.elements == Elements::FOLDED, missing = found != found;
    const bool zero = !missing && std::all_of(code, code + n, [](float c) { return c == 0; });
    const float s = zero ? 1.0f : found;
    const bool fold = folded && (missing || (s >= FOLD_LOW && s <= FOLD_HIGH));
    const float kept = fold ? 1.0f : s;
    scale[at * sizes.k.lanes + lane] = kept;
    if (kept == kept && !zero)
      range.add(kept);
    uint8_t* to = panel + (at * sizes.units * sizes.k.lanes + lane) * 4;
    if (folded)
      put<2>(to, n, [=](int64_t i) { return upper_half(code[i] * (fold ? s : 1.0f)); });
    else if (sizes.f.width == 1)
      put<1>(to, n, [=](int64_t i) { return (uint16_t)(int32_t)code[i]; });
    else
      put<2>(to, n, [=](int64_t i) { return (uint16_t)(int32_t)code[i]; });
    int32_t sum = 0;
    for (int64_t i = 0; i < n; i++)
      sum += (int32_t)code[i];
    start[at * sizes.k.lanes + lane] = (sizes.biased ? BIASED : 0) - sizes.f.offset * sum;
  }

  // The lower bytes of elements, of which there may be only one each.
  template <int WIDTH, typename Element>
  void put(uint8_t* to, int64_t n, const Element& element) const {
    constexpr int64_t PER = 4 / WIDTH;
    for (int64_t i = 0; i < n; i++) {
      const uint16_t e = element(i);
      memcpy(to + i / PER * sizes.k.lanes * 4 + i % PER * WIDTH, &e, WIDTH);
    }
  }
};

} // namespace

const BlockKernels& block_kernels(int64_t level) { return *block_kernels_levels[level]; }

bool valid(const dv_block_codes& c) {
  return c.block >= 1 && c.block <= 1 << 22 && c.most >= 0 && c.most <= 0x1p53 && c.digits >= 0 &&
         c.digits <= 53 && c.scale_bits >= 1 && c.scale_bits <= 24;
}

BlockSizes::BlockSizes(const Layout& l, const dv_block_codes& codes, int64_t level)
    : k(block_kernels(level)), f(fitting(k.forms, codes, largest_dot(l, codes))) {
  const int64_t length = longest(l, codes.block);
  blocks = (l.group_channels + length - 1) / length;
  const int64_t needed = (length * f.width + 3) / 4;
  const int64_t steps = (needed + f.unit_step - 1) / f.unit_step;
  step = f.unit_step == 1 ? 1 : (needed + steps - 1) / steps;
  units = step * steps;
  panels = (l.group_outputs + k.lanes - 1) / k.lanes;
  panel_data = l.taps * blocks * units * k.lanes * 4;
  panel_bytes = up(panel_data + l.taps * blocks * k.lanes * 8, 64);
  const int64_t part = l.shape.groups * blocks * units * 4;
  row = {length, units, codes.split ? part : 0};
  // An odd number of cache lines, so that rows do not share cache sets.
  row_bytes = up(part + row.low, 64) | 64;
  row_scales = l.shape.groups * blocks;
  biased = f.biased && largest_dot(l, codes) <= MOST_BIASED;
}

} // namespace dv

int64_t dv_block_packed_bytes(const dv_shape* shape, const dv_block_codes* of) {
  if (!dv::valid(*shape, true) || !dv::valid(*of))
    return -1;
  const dv::Layout layout(*shape);
  return dv::BlockSizes(layout, *of, dv::level()).packed_bytes(layout);
}

int32_t dv_block_pack(const dv_shape* shape, const dv_block_codes* of, const float* codes,
                      const float* scales, void* out) {
  using namespace dv;
  if (!valid(*shape, true))
    return DV_BAD_SHAPE;
  if (!valid(*of))
    return DV_BAD_VALUE;
  const Layout l(*shape);
  BlockHead head{level(), *of, {}};
  const BlockSizes sizes(l, *of, head.level);
  const int64_t block = of->block;
  uint8_t* packed = static_cast<uint8_t*>(out);
  memset(packed, 0, (size_t)sizes.packed_bytes(l));
  const int64_t all = l.taps * sizes.blocks;
  std::vector<ScaleRange> ranges((size_t)shape->outputs);
  parallel(shape->outputs, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const int64_t g = n / l.group_outputs, inside = n % l.group_outputs;
      const int64_t panel = g * sizes.panels + inside / sizes.k.lanes;
      const LaneWriter lane{l, sizes, block, inside % sizes.k.lanes,
                            packed + BLOCK_HEAD + panel * sizes.panel_bytes};
      for (int64_t at = 0; at < all; at++) {
        const int64_t tap = at / sizes.blocks, from = at % sizes.blocks * block;
        lane.block_at(at, codes + (n * l.taps + tap) * l.group_channels + from,
                      scales[n * all + at], ranges[(size_t)n]);
      }
    }
  });
  for (const ScaleRange& r : ranges)
    head.range.add(r);
  memcpy(packed, &head, sizeof head);
  return DV_OK;
}
