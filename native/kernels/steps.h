// Step functions: which of a sorted list of keys is the last one not above a number.
#pragma once
#include "kernels/bits.h"
#include "kernels/casts.h"
#include "kernels/lanes.h"
#include "kernels/nearest.h"

namespace {

inline int32_t key_of(int32_t bits) { return bits ^ ((bits >> 31) & 0x7fffffff); }

inline float step_of(float x, const dv::Steps& t) {
  int32_t given;
  memcpy(&given, &x, sizeof given);
  const int32_t key = key_of(given);
  int32_t place = t.find[((uint32_t)key ^ 0x80000000u) >> t.shift];
  for (int32_t half = (1 << t.halvings) >> 1; half > 0; half >>= 1)
    place += key >= t.key[place + half] ? half : 0;
  return (given & 0x7fffffff) > 0x7f800000 ? x : t.value[place];
}

inline float step_real(float x, float by, float times, const dv::Steps& t) {
  const float y = step_of(x / by, t) * times;
  const float v = y > FLT_MAX ? FLT_MAX : y;
  return v < -FLT_MAX ? -FLT_MAX : v;
}

#if defined(__AVX2__)

// Entry `place` of a table of SIZE 32-bit words, lane by lane.
template <int SIZE> inline Ints look_up(const Ints* table, Ints place) {
#if defined(__AVX512F__)
  if constexpr (SIZE == 2 * LANES)
    return (Ints)_mm512_permutex2var_epi32((__m512i)table[0], (__m512i)place, (__m512i)table[1]);
#endif
  if constexpr (SIZE <= LANES) {
#if defined(__AVX512F__)
    return (Ints)_mm512_permutexvar_epi32((__m512i)place, (__m512i)table[0]);
#else
    return (Ints)_mm256_permutevar8x32_epi32((__m256i)table[0], (__m256i)place);
#endif
  } else {
    const Ints low = look_up<SIZE / 2>(table, place);
    const Ints high = look_up<SIZE / 2>(table + SIZE / 2 / LANES, place);
    return (place & (SIZE / 2)) != 0 ? high : low;
  }
}

// A binary search whose levels, and the values, lie in registers: at most 2^LEVELS values.
template <int LEVELS> struct Search {
  static constexpr int SIZE = 1 << LEVELS, REGISTERS = SIZE < LANES ? 1 : SIZE / LANES;
  Ints levels[LEVELS][REGISTERS < 2 ? 1 : REGISTERS / 2], values[REGISTERS];

  explicit Search(const dv::Steps& t) {
    for (int level = 0; level < LEVELS; level++)
      for (int i = 0; i == 0 || i < (1 << level) / LANES; i++)
        levels[level][i] = load(t.tree + level * 128 + LANES * i);
    for (int i = 0; i < REGISTERS; i++)
      values[i] = bits(load(t.value + LANES * i));
  }

  template <int LEVEL> Ints descend(Ints key, Ints place) const {
    place = place + place - (key >= look_up<1 << LEVEL>(levels[LEVEL], place)); // true is -1
    if constexpr (LEVEL + 1 < LEVELS)
      return descend<LEVEL + 1>(key, place);
    else
      return place;
  }

  // Of NaN, some value.
  Floats operator()(Floats x) const {
    const Ints given = bits(x), key = given ^ ((given >> 31) & MAGNITUDE);
    return floats(look_up<SIZE>(values, descend<0>(key, Ints{})));
  }
};

#if defined(__AVX512F__)

// Cells of equal width instead of a search.
struct Cells {
  static constexpr int REGISTERS = dv::CELLS / LANES;
  Ints key[REGISTERS], below[REGISTERS], from[REGISTERS];
  Floats low, high, slope, origin;

  explicit Cells(const dv::Steps& t)
      : low(every(t.low)), high(every(t.high)), slope(every(t.slope)), origin(every(t.origin)) {
    for (int i = 0; i < REGISTERS; i++) {
      key[i] = bits(load(t.cells + LANES * i));
      below[i] = bits(load(t.cells + dv::CELLS + LANES * i));
      from[i] = bits(load(t.cells + 2 * dv::CELLS + LANES * i));
    }
  }

  // Of NaN, some value.
  Floats operator()(Floats x) const {
    const Floats v = at_least(at_most(x, high), low);
    const Ints cell = bits(fused(v, slope, origin));
    const Ints least = look_up<dv::CELLS>(key, cell);
    const Ints y = look_up<dv::CELLS>(below, cell), z = look_up<dv::CELLS>(from, cell);
    return floats(v >= floats(least) ? z : y);
  }
};

#endif

// Calls work(search) with the narrowest search that holds the table; false if none does.
template <typename Work> bool in_registers(const dv::Steps& t, Work&& work) {
#if defined(__AVX512F__)
  if (t.cells) {
    work(Cells(t));
    return true;
  }
#endif
  if (t.levels == 4)
    work(Search<4>(t));
  else if (t.levels == 5)
    work(Search<5>(t));
#if defined(__AVX512F__)
  else if (t.levels == 6)
    work(Search<6>(t));
  else if (t.levels == 7)
    work(Search<7>(t));
  else if (t.levels == 8)
    work(Search<8>(t));
#endif
  else
    return false;
  return true;
}

// A quotient that lost the sign of its zero gets it back: zeros of either sign may differ.
template <dv::Scaling BY, typename Of>
inline Floats step_real(Floats x, Floats by, Floats inverse, Floats times, Of&& of) {
  const Floats v = floats(bits(scaled_down<BY>(x, by, inverse)) | (bits(x) & ~MAGNITUDE));
  return scaled_up<BY>(of(v), times);
}

#else

template <typename Work> bool in_registers(const dv::Steps&, Work&&) { return false; }
template <dv::Scaling, typename Of>
inline Floats step_real(Floats x, Floats, Floats, Floats, Of&&) {
  return x;
}

#endif

void steps(const float* x, int64_t n, const dv::Steps& table, float* out) {
  if (in_registers(table, [&](const auto& search) {
        lane_by_lane(x, n, out, [&](Floats v, int64_t) { return v == v ? search(v) : v; });
      }))
    return;
  const dv::Steps t = table;
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = step_of(x[i], t);
}

template <dv::Scaling BY>
void steps_real(const float* x, const dv::Factors& f, int64_t n, const dv::Steps& table,
                float* out) {
  const dv::Factors p = f;
  if (in_registers(table, [&](const auto& search) {
        lane_by_lane(x, n, out, [&](Floats v, int64_t i) {
          return step_real<BY>(v, load(p.by + i), load(p.inverse + i), load(p.times + i), search);
        });
      }))
    return;
  const dv::Steps t = table;
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++)
    out[i] = step_real(x[i], p.by[i], p.times[i], t);
}

template <dv::Scaling BY>
void steps_real_runs(const float* x, const dv::Factors& f, int64_t runs, int64_t block,
                     const dv::Steps& table, float* out) {
  const dv::Factors p = f;
  if (in_registers(table, [&](const auto& search) {
        for (int64_t r = 0; r < runs; r++) {
          const Floats by = every(p.by[r]), inverse = every(p.inverse[r]);
          const Floats times = every(p.times[r]);
          for (int64_t i = r * block; i < (r + 1) * block; i += LANES)
            store(out + i, step_real<BY>(load(x + i), by, inverse, times, search));
        }
      }))
    return;
  const dv::Steps t = table;
  for (int64_t r = 0; r < runs; r++) {
    DV_ELEMENTWISE
    for (int64_t i = r * block; i < (r + 1) * block; i++)
      out[i] = step_real(x[i], p.by[r], p.times[r], t);
  }
}

} // namespace
