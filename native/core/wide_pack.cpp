// Weights of wide operands in the kernels' order, with what their sums start from.
#include "core/threads.h"
#include "core/wide.h"

#include <algorithm>
#include <string.h>

namespace dv {

bool sound(const dv_wide& m) {
  if (m.law < 0 || m.law >= WIDE_LAWS || m.first_bits < 1 || m.first_bits > 16 ||
      m.second_bits < 1 || m.second_bits > 16 || !m.first || !m.second)
    return false;
  if (m.law != DV_WIDE_FACTORS)
    return m.first_words == 1 && m.second_words == 1 && m.most >= 0 &&
           m.most < (int64_t(1) << (m.is_signed ? 31 : 32)) &&
           (m.law != DV_WIDE_ERROR_TOLERANT || (m.low >= 1 && m.low <= 15));
  if (m.first_words < 1 || m.first_words > 1024 || m.second_words < 1 || m.second_words > 1024 ||
      m.segments < 1 || m.segments > 4096 || !m.segment)
    return false;
  for (int32_t i = 0; i < m.segments; i++) {
    const dv_wide_segment& s = m.segment[i];
    if (s.first < 0 || s.first >= m.first_words || s.second < 0 || s.second >= m.second_words ||
        s.shift < (i ? m.segment[i - 1].shift : 0) || s.shift > 62)
      return false;
  }
  return true;
}

WideLayout::WideLayout(const Layout& layout, const dv_wide& multiplier)
    : l(layout), m(multiplier), factors(multiplier.law == DV_WIDE_FACTORS) {
  per_unit = factors ? 2 : 1;
  units = (l.group_channels + per_unit - 1) / per_unit;
  const int64_t words = l.shape.linear ? m.first_words : m.second_words * l.taps;
  // An odd number of cache lines, so that rows do not share cache sets.
  row_bytes = ((words * units * 4 + 63) / 64 | 1) * 64;
  panels = (l.shape.outputs + WIDE_PANEL - 1) / WIDE_PANEL;
  panel_bytes = m.second_words * units * WIDE_PANEL * 4;
  if (factors)
    segments.assign(m.segment, m.segment + m.segments);
  else
    segments.push_back({0, 0, 0});
}

int64_t WideLayout::packed_bytes() const {
  return head_bytes() +
         (l.shape.linear ? panels * panel_bytes : (l.shape.outputs + WIDE_ROWS) * row_bytes);
}

int64_t WideLayout::unit_at(int64_t n, int64_t word, int64_t tap, int64_t unit) const {
  if (!l.shape.linear)
    return head_bytes() + n * row_bytes + ((word * l.taps + tap) * units + unit) * 4;
  return head_bytes() + n / WIDE_PANEL * panel_bytes +
         ((word * units + unit) * WIDE_PANEL + n % WIDE_PANEL) * 4;
}

namespace {

// The largest magnitude of each factor of one operand.
std::vector<int64_t> peaks(const void* table, int32_t bits, int32_t words) {
  const int16_t* factor = static_cast<const int16_t*>(table);
  std::vector<int64_t> most((size_t)words);
  for (int64_t code = 0; code < int64_t(1) << bits; code++)
    for (int32_t w = 0; w < words; w++)
      most[(size_t)w] = std::max<int64_t>(most[(size_t)w], std::abs((int)factor[code * words + w]));
  return most;
}

// How many units' products sum to less than 2^31 whatever the codes; 0 if not even one's do.
int64_t factor_chunk(const dv_wide& m) {
  const auto first = peaks(m.first, m.first_bits, m.first_words);
  const auto second = peaks(m.second, m.second_bits, m.second_words);
  int64_t most = 1;
  for (int32_t i = 0; i < m.segments; i++)
    most =
        std::max(most, 2 * first[(size_t)m.segment[i].first] * second[(size_t)m.segment[i].second]);
  return INT32_MAX / most;
}

WideHead head_of(const WideLayout& w) {
  if (w.factors)
    return {factor_chunk(w.m), WIDE_WHOLE};
  const int64_t whole = INT32_MAX / std::max<int64_t>(1, w.m.most);
  if (whole >= 32)
    return {whole, WIDE_WHOLE};
  return {WIDE_HALVES_CHUNK, w.m.is_signed ? WIDE_HALVES : WIDE_UNSIGNED_HALVES};
}

struct Sums {
  int64_t start = 0, codes = 0;
};

Sums pack_output(const WideLayout& w, const int16_t* codes, int64_t n, uint8_t* out) {
  const dv_wide& m = w.m;
  const uint32_t mask = (1u << m.second_bits) - 1;
  const uint16_t* factor = static_cast<const uint16_t*>(m.second);
  const uint32_t* word = static_cast<const uint32_t*>(m.second);
  // Codes of signed operands have a sign bit at the top of their width, or of 16 bits.
  Sums sums;
  for (int64_t c = 0; c < w.l.group_channels; c++)
    for (int64_t t = 0; t < w.l.taps; t++) {
      const int16_t code = codes[c * w.l.taps + t];
      const uint32_t index = (uint16_t)code & mask;
      sums.codes += m.is_signed ? (int64_t)code : (int64_t)(uint16_t)code;
      if (m.constant)
        sums.start = (int64_t)((uint64_t)sums.start + (uint64_t)m.constant[index]);
      for (int32_t s = 0; s < m.second_words; s++) {
        uint8_t* to = out + w.unit_at(n, s, t, c / w.per_unit);
        if (w.factors)
          memcpy(to + c % 2 * 2, factor + (int64_t)index * m.second_words + s, 2);
        else
          memcpy(to, word + index, 4);
      }
    }
  return sums;
}

} // namespace
} // namespace dv

int64_t dv_wide_packed_bytes(const dv_shape* shape, const dv_wide* wide) {
  if (!dv::valid(*shape) || !dv::sound(*wide))
    return -1;
  const dv::Layout l(*shape);
  return dv::WideLayout(l, *wide).packed_bytes();
}

int32_t dv_wide_pack(const dv_shape* shape, const dv_wide* wide, const int16_t* codes, void* out) {
  if (!dv::valid(*shape))
    return DV_BAD_SHAPE;
  if (!dv::sound(*wide))
    return DV_BAD_VALUE;
  const dv::Layout l(*shape);
  const dv::WideLayout w(l, *wide);
  const dv::WideHead head = dv::head_of(w);
  if (head.chunk < 1)
    return DV_BAD_VALUE;
  uint8_t* packed = static_cast<uint8_t*>(out);
  memset(packed, 0, (size_t)w.packed_bytes());
  memcpy(packed, &head, sizeof head);
  int64_t* start = reinterpret_cast<int64_t*>(packed + sizeof head);
  dv::parallel(shape->outputs, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const dv::Sums sums = dv::pack_output(w, codes + n * l.depth, n, packed);
      start[n] = sums.start;
      start[shape->outputs + n] = sums.codes;
    }
  });
  return DV_OK;
}
