// Weights into the kernels' order, and tables into the kernels' forms.
#include "core/dispatch.h"
#include "core/layout.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>
#include <vector>

namespace dv {

namespace {

// Outputs packed at a time: whole panels, and whole notes of what is occupied.
constexpr int64_t CHUNK = PANEL;
static_assert(PANEL % OCCUPIED == 0 && PANEL % 16 == 0);

int64_t round_up16(int64_t n) { return (n + 15) / 16 * 16; }

// The codes of some outputs, the channels of each tap together: [outputs][taps][channels].
class Turned {
public:
  Turned(const Layout& l, const uint8_t* codes, int64_t outputs) : l(l), width(l.group_channels) {
    if (l.taps == 1) {
      found = codes;
      return;
    }
    // Tiles of 16 x 16 are turned whole: what they read and write beyond a row is not used.
    const int64_t wide = round_up16(l.group_channels), tall = round_up16(l.taps);
    std::vector<uint8_t> row((size_t)(wide * l.taps + tall)), turned((size_t)(wide * tall));
    held.resize((size_t)(outputs * l.depth));
    for (int64_t n = 0; n < outputs; n++) {
      memcpy(row.data(), codes + n * l.depth, (size_t)l.depth);
      kernels().transpose(row.data(), l.taps, wide, tall, turned.data(), wide);
      for (int64_t t = 0; t < l.taps; t++)
        memcpy(held.data() + n * l.depth + t * width, turned.data() + t * wide, (size_t)width);
    }
    found = held.data();
  }

  const uint8_t* row(int64_t n) const { return found + n * l.depth; }
  const uint8_t* at(int64_t n, int64_t tap) const { return row(n) + tap * width; }

private:
  const Layout& l;
  int64_t width;
  std::vector<uint8_t> held;
  const uint8_t* found;
};

// What is taken off an output's sums: minus the constants, of all taps and of each.
int32_t correction_of(const Layout& l, const dv_multiplier& m, const uint8_t* row,
                      int32_t* by_tap) {
  uint32_t all = 0;
  for (int64_t t = 0; t < l.taps; t++) {
    uint32_t sum = 0;
    for (int64_t c = 0; c < l.group_channels; c++)
      sum -= (uint32_t)m.constant[*row++];
    if (l.tap_notes())
      by_tap[t] = (int32_t)sum;
    all += sum;
  }
  return (int32_t)all;
}

// One output's quads, as lanes of a panel that lie [quad][PANEL][4].
void spread(const uint8_t* line, int64_t quads, uint8_t* lane) {
  for (int64_t q = 0; q < quads; q++)
    memcpy(lane + q * PANEL * 4, line + q * 4, 4);
}

// Rows (convolution) or lanes (linear) of the dot kernels: byte r * channels + c of each tap holds
// factor r of channel c. A factor of zero adds nothing to a sum whatever the other operand is, so
// steps of zeros alone can be passed over: `occupied` notes the others.
void pack_factors(const Layout& l, const dv_multiplier& m, const Turned& codes, int64_t from,
                  int64_t outputs, uint8_t* out, uint8_t* occupied) {
  const int64_t bytes = l.quads * 4, step = l.quad_step * 4;
  std::vector<uint8_t> line((size_t)bytes, 0);
  for (int64_t i = 0; i < outputs; i++) {
    const int64_t n = from + i;
    for (int64_t t = 0; t < l.taps; t++) {
      uint8_t* to = l.shape.linear ? line.data() : out + (n * l.taps + t) * bytes;
      for (int64_t r = 0; r < l.shape.rank; r++)
        kernels().recode(codes.at(i, t), l.group_channels, m.second + r * 256,
                         to + r * l.group_channels);
      memset(to + l.shape.rank * l.group_channels, 0,
             (size_t)(bytes - l.shape.rank * l.group_channels));
      uint8_t* noted = occupied + (n / OCCUPIED * l.taps + t) * l.steps();
      for (int64_t s = 0; s < l.steps(); s++)
        if (!noted[s])
          noted[s] = kernels().any(to + s * step, step);
      if (l.shape.linear)
        spread(to, l.quads, out + n / PANEL * l.panel_bytes() + n % PANEL * 4);
    }
  }
}

// The lookups' operand: the codes themselves where the weights are rows, their classes as lanes.
void pack_classes(const Layout& l, const dv_multiplier& m, const Turned& codes, int64_t from,
                  int64_t outputs, uint8_t* out) {
  const int64_t bytes = l.class_quads * 4;
  std::vector<uint8_t> line((size_t)bytes, 0);
  for (int64_t i = 0; i < outputs; i++) {
    const int64_t n = from + i;
    for (int64_t t = 0; t < l.taps && !l.shape.linear; t++) {
      uint8_t* to = out + (n * l.taps + t) * bytes;
      memcpy(to, codes.at(i, t), (size_t)l.group_channels);
      memset(to + l.group_channels, 0, (size_t)(bytes - l.group_channels));
    }
    for (int64_t j = 0; j < l.shape.lookups && l.shape.linear; j++) {
      kernels().recode(codes.row(i), l.group_channels, m.classes + j * 256, line.data());
      for (int64_t c = 0; c < bytes; c++) // beyond the channels, where rows have zeros
        line[(size_t)c] = class_byte(c < l.group_channels ? line[(size_t)c] : 0, c);
      spread(line.data(), l.class_quads,
             out + j * l.packed_outputs * bytes + n / PANEL * l.class_panel_bytes() +
                 n % PANEL * 4);
    }
  }
}

// Planes of the table kernels: plane tap * channels + channel holds that weight of all outputs.
void pack_codes(const Layout& l, const Turned& codes, int64_t from, int64_t outputs, uint8_t* out) {
  kernels().transpose(codes.row(0), l.depth, outputs, l.depth, out + from, l.packed_outputs);
}

// Zeros wherever no weight of a group is written: outputs that only fill up blocks, and notes.
void clear_rest(const Layout& l, uint8_t* out) {
  if (!l.by_factors) {
    memset(out, 0, (size_t)l.group_bytes);
    return;
  }
  const bool linear = l.shape.linear;
  const int64_t line = l.weight_taps * l.quads * 4, class_line = l.weight_taps * l.class_quads * 4;
  const int64_t used = linear ? l.group_outputs / PANEL * l.panel_bytes() : l.group_outputs * line;
  memset(out + used, 0, (size_t)(l.factor_bytes - used));
  const int64_t classes = l.factor_bytes + (linear ? 0 : l.group_outputs * class_line);
  memset(out + classes, 0, (size_t)(l.group_bytes - classes));
}

} // namespace
} // namespace dv

int64_t dv_packed_bytes(const dv_shape* shape) {
  return dv::valid(*shape) ? dv::Layout(*shape).packed_bytes() : -1;
}

int32_t dv_pack(const dv_shape* shape, const dv_multiplier* multiplier, const void* codes,
                int32_t is_signed, void* out) {
  if (!dv::valid(*shape) || !dv::complete(*shape, *multiplier))
    return DV_BAD_SHAPE;
  const dv::Layout layout(*shape);
  const uint8_t* bytes = static_cast<const uint8_t*>(codes);
  uint8_t* packed = static_cast<uint8_t*>(out);
  memset(packed, 0, (size_t)layout.header());
  for (int64_t g = 0; g < shape->groups; g++)
    dv::clear_rest(layout, packed + layout.packed_group(g));
  memset(packed + layout.packed_group(shape->groups), 0, 64);
  int32_t* wsum = reinterpret_cast<int32_t*>(packed);
  int32_t* correction = wsum + shape->outputs;
  int32_t* by_tap = correction + shape->outputs;
  const int32_t* constant = multiplier->constant;
  const bool any_constant =
      layout.by_factors && std::any_of(constant, constant + 256, [](int32_t x) { return x; });
  dv::parallel(shape->outputs, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      wsum[n] = (int32_t)dv::kernels().sum_codes(bytes + n * layout.depth, layout.depth, is_signed);
  });
  const int64_t chunks = (layout.group_outputs + dv::CHUNK - 1) / dv::CHUNK;
  dv::parallel(shape->groups * chunks, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t g = i / chunks, from = i % chunks * dv::CHUNK;
      const int64_t outputs = std::min(dv::CHUNK, layout.group_outputs - from);
      const int64_t first = g * layout.group_outputs + from;
      const dv::Turned turned(layout, bytes + first * layout.depth, outputs);
      uint8_t* group = packed + layout.packed_group(g);
      if (!layout.by_factors) {
        dv::pack_codes(layout, turned, from, outputs, group);
        continue;
      }
      for (int64_t n = 0; n < outputs && any_constant; n++)
        correction[first + n] = dv::correction_of(layout, *multiplier, turned.row(n),
                                                  by_tap + (first + n) * layout.tap_notes());
      dv::pack_factors(layout, *multiplier, turned, from, outputs, group,
                       packed + layout.occupied(g));
      if (shape->lookups)
        dv::pack_classes(layout, *multiplier, turned, from, outputs, group + layout.factor_bytes);
    }
  });
  return DV_OK;
}

int64_t dv_table_bytes(void) { return sizeof(dv::Table); }

void dv_prepare_table(const int32_t* table, void* out) {
  dv::Table& t = *static_cast<dv::Table*>(out);
  memset(&t, 0, sizeof t);
  const auto range = std::minmax_element(table, table + 65536);
  const int64_t least = *range.first, span = (int64_t)*range.second - least;
  t.narrow = span <= 65535;
  t.pairs = span <= 32767;
  t.least = (int32_t)least;
  // -16384 or -32768 is the lowest 16-bit form; both are exact modulo 2^32.
  t.middle = (int32_t)((uint32_t)t.least + (t.pairs ? 16384u : 32768u));
  for (int a = 0; a < 256; a++)
    for (int w = 0; w < 256; w++) {
      const int32_t value = table[a * 256 + w];
      t.row[a * 256 + w] = value;
      t.col[w * 256 + a] = value;
      if (!t.narrow)
        continue;
      const int64_t above = value - least;
      const int16_t distance = (int16_t)(above - (t.pairs ? 16384 : 32768));
      t.row16[a * 256 + w] = distance;
      t.col16[w * 256 + a] = distance;
      t.row_planes[a * 512 + w] = (uint8_t)above;
      t.row_planes[a * 512 + 256 + w] = (uint8_t)(above >> 8);
      t.col_planes[w * 512 + a] = (uint8_t)above;
      t.col_planes[w * 512 + 256 + a] = (uint8_t)(above >> 8);
    }
}
