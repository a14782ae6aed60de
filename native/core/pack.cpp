// Weights into the kernels' order, and tables into the kernels' forms.
#include "core/layout.h"
#include "core/threads.h"

#include <algorithm>
#include <string.h>

namespace dv {

namespace {

int64_t code_value(uint8_t byte, bool is_signed) { return is_signed ? (int8_t)byte : byte; }

// Rows (convolution) or lanes (linear) of the dot kernels: byte r * channels + c of each tap holds
// factor r of channel c. What is taken off the sums is minus the constants. A factor of zero adds
// nothing to a sum whatever the other operand is, so steps of zeros alone can be passed over.
void pack_factors(const Layout& l, const dv_multiplier& m, const uint8_t* codes, int64_t group,
                  uint8_t* out, int32_t* correction, uint8_t* occupied) {
  for (int64_t n = 0; n < l.group_outputs; n++) {
    const uint8_t* row = codes + (group * l.group_outputs + n) * l.depth;
    uint32_t sum = 0;
    for (int64_t k = 0; k < l.depth; k++)
      sum += (uint32_t)m.constant[row[k]];
    correction[group * l.group_outputs + n] = (int32_t)(0u - sum);
    for (int64_t t = 0; t < l.taps; t++)
      for (int64_t r = 0; r < l.shape.rank; r++)
        for (int64_t c = 0; c < l.group_channels; c++) {
          const int64_t k = r * l.group_channels + c;
          const int64_t at =
              l.shape.linear ? n / PANEL * l.panel_bytes() + (k / 4 * PANEL + n % PANEL) * 4 + k % 4
                             : (n * l.taps + t) * l.quads * 4 + k;
          const int8_t factor = m.second[r * 256 + row[c * l.taps + t]];
          out[at] = (uint8_t)factor;
          if (factor)
            occupied[(n / OCCUPIED * l.taps + t) * l.steps() + k / 4 / l.quad_step] = 1;
        }
  }
}

// The lookups' operand: the codes themselves where the weights are rows, their classes as lanes.
void pack_classes(const Layout& l, const dv_multiplier& m, const uint8_t* codes, int64_t group,
                  uint8_t* out) {
  for (int64_t n = 0; n < l.group_outputs; n++) {
    const uint8_t* row = codes + (group * l.group_outputs + n) * l.depth;
    for (int64_t t = 0; t < l.taps && !l.shape.linear; t++)
      for (int64_t c = 0; c < l.group_channels; c++)
        out[(n * l.taps + t) * l.class_quads * 4 + c] = row[c * l.taps + t];
    for (int64_t i = 0; i < l.shape.lookups && l.shape.linear; i++)
      for (int64_t c = 0; c < l.class_quads * 4;
           c++) { // beyond the channels, where rows have zeros
        const uint8_t of_code = c < l.group_channels ? m.classes[i * 256 + row[c]] : 0;
        out[(i * l.packed_outputs + n / PANEL * PANEL) * l.class_quads * 4 +
            (c / 4 * PANEL + n % PANEL) * 4 + c % 4] = class_byte(of_code, c);
      }
  }
}

// Planes of the table kernels: plane tap * channels + channel holds that weight of all outputs.
void pack_codes(const Layout& l, const uint8_t* codes, int64_t group, uint8_t* out) {
  for (int64_t n = 0; n < l.group_outputs; n++) {
    const uint8_t* row = codes + (group * l.group_outputs + n) * l.depth;
    for (int64_t c = 0; c < l.group_channels; c++)
      for (int64_t t = 0; t < l.taps; t++)
        out[(t * l.group_channels + c) * l.packed_outputs + n] = row[c * l.taps + t];
  }
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
  memset(packed, 0, (size_t)layout.packed_bytes());
  int32_t* wsum = reinterpret_cast<int32_t*>(packed);
  int32_t* correction = wsum + shape->outputs;
  dv::parallel(shape->outputs, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      uint32_t sum = 0;
      for (int64_t k = 0; k < layout.depth; k++)
        sum += (uint32_t)dv::code_value(bytes[n * layout.depth + k], is_signed);
      wsum[n] = (int32_t)sum;
    }
  });
  dv::parallel(shape->groups, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; g++) {
      uint8_t* group = packed + layout.packed_group(g);
      if (!layout.by_factors) {
        dv::pack_codes(layout, bytes, g, group);
        continue;
      }
      dv::pack_factors(layout, *multiplier, bytes, g, group, correction,
                       packed + layout.occupied(g));
      if (shape->lookups)
        dv::pack_classes(layout, *multiplier, bytes, g, group + layout.factor_bytes);
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
