// Products, by vectors: what one k's lanes are, and how a row's operand meets them.
#pragma once
#include "kernels/adders.h"

namespace {

template <typename To, typename From, int N> inline Vec<To, N> converted(const Vec<From, N>& v) {
  return __builtin_convertvector(v, Vec<To, N>);
}

// N bytes, sign extended. The compilers' conversions take detours here.
template <typename T, int N> inline Vec<T, N> extended(const uint8_t* bytes) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 2 && N == 32)
    return (Vec<T, N>)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)bytes));
  if constexpr (sizeof(T) == 4 && N == 16)
    return (Vec<T, N>)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)bytes));
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 2 && N == 16)
    return (Vec<T, N>)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)bytes));
  if constexpr (sizeof(T) == 4 && N == 8)
    return (Vec<T, N>)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)bytes));
  if constexpr (sizeof(T) == 4 && N == 4)
    return (Vec<T, N>)_mm_cvtepi8_epi32(_mm_loadu_si32(bytes));
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(T) == 2 && N == 8)
    return (Vec<T, N>)_mm_srai_epi16(
        _mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i*)bytes)), 8);
  if constexpr (sizeof(T) == 4 && N == 4) {
    const __m128i zero = _mm_setzero_si128();
    const __m128i upper = _mm_unpacklo_epi8(zero, _mm_loadu_si32(bytes));
    return (Vec<T, N>)_mm_srai_epi32(_mm_unpacklo_epi16(zero, upper), 24);
  }
#endif
  Vec<T, N> out;
  for (int i = 0; i < N; i++)
    out[i] = (int8_t)bytes[i];
  return out;
}

// Lanes as numbers: bytes, sign extended and masked, or floats.
template <typename T, dv::Source FROM>
inline Vec<T> numbers(const dv::Stream& s, int64_t k, int v) {
  constexpr int N = WIDTH<T>;
  if constexpr (FROM == dv::VALUES) {
    const float* at = reinterpret_cast<const float*>(s.lanes + s.lane_offset[k]) + v * N;
    return converted<T, float, N>(load<Vec<float, N>>(at));
  } else {
    const uint8_t* bytes = s.lanes + s.lane_offset[k] + v * N;
    if constexpr (sizeof(T) == 2)
      return extended<int16_t, N>(bytes) & (int16_t)s.lane_mask;
    else
      return converted<T, int32_t, N>(extended<int32_t, N>(bytes) & s.lane_mask);
  }
}

// Products of numbers.
template <typename T, dv::Source FROM> struct Product {
  using Row = T;
  Vec<T> lane[LANE_VECTORS<T>];

  void at(const dv::Stream& s, int64_t k) {
#pragma GCC unroll 8
    for (int v = 0; v < LANE_VECTORS<T>; v++)
      lane[v] = numbers<T, FROM>(s, k, v);
  }
  template <dv::Adder KIND> void meet(const dv::Stream& s, const T& row, Vec<T>* sums) const {
    const Vec<T> a = row - Vec<T>{};
#pragma GCC unroll 8
    for (int v = 0; v < LANE_VECTORS<T>; v++)
      sums[v] = add_product<T, KIND>(s.into, sums[v], a, lane[v]);
  }
};

// 16 bits: the products fit.
template <> struct Product<int16_t, dv::CODES> {
  using Row = int32_t;
  Vec<int16_t> lane[2];

  void at(const dv::Stream& s, int64_t k) {
    lane[0] = numbers<int16_t, dv::CODES>(s, k, 0);
    lane[1] = numbers<int16_t, dv::CODES>(s, k, 1);
  }
  template <dv::Adder KIND>
  void meet(const dv::Stream& s, const int32_t& row, Vec<int16_t>* sums) const {
    const Vec<int16_t> a = (Vec<int16_t>)(row - Vec<int32_t>{});
    sums[0] = Add<int16_t, KIND>::sum(s.into, sums[0], a * lane[0]);
    sums[1] = Add<int16_t, KIND>::sum(s.into, sums[1], a * lane[1]);
  }
};

// 32 bits: both operands are 16-bit numbers, whose products of pairs one instruction sums; the
// upper half of each pair of the row is zero.
template <> struct Product<int32_t, dv::CODES> {
  using Row = int32_t;
  Vec<int32_t> lane[4];

  void at(const dv::Stream& s, int64_t k) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
      lane[v] = numbers<int32_t, dv::CODES>(s, k, v);
  }
  template <dv::Adder KIND>
  void meet(const dv::Stream& s, const int32_t& row, Vec<int32_t>* sums) const {
#if defined(__SSE2__)
    const NativeInt a = (NativeInt)((row & 0xffff) - Vec<int32_t>{});
#else
    const Vec<int32_t> a = (int32_t)(int16_t)row - Vec<int32_t>{};
#endif
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
#if defined(__SSE2__)
      const Vec<int32_t> t = (Vec<int32_t>)DV_NATIVE(madd, epi16)(a, (NativeInt)lane[v]);
#else
      const Vec<int32_t> t = a * lane[v];
#endif
      sums[v] = Add<int32_t, KIND>::sum(s.into, sums[v], t);
    }
  }
};

template <> struct Product<int64_t, dv::CODES> {
  using Row = int32_t;
  static constexpr int N = WIDTH<int64_t>;
  Vec<int32_t, N> lane[8];

  void at(const dv::Stream& s, int64_t k) {
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
      lane[v] = extended<int32_t, N>(s.lanes + s.lane_offset[k] + v * N) & s.lane_mask;
  }
  template <dv::Adder KIND>
  void meet(const dv::Stream& s, const int32_t& row, Vec<int64_t>* sums) const {
    const int32_t a = (int16_t)row;
#pragma GCC unroll 8
    for (int v = 0; v < 8; v++)
      sums[v] =
          Add<int64_t, KIND>::sum(s.into, sums[v], converted<int64_t, int32_t, N>(a * lane[v]));
  }
};

#if defined(__AVX512VBMI__)

// The table's row in registers: four registers of low bytes and four of high ones. A code's upper
// two bits say which of the four it is looked up in.
struct Look {
  __m512i code;
  __mmask64 quarter[3];

  // Interleaving low and high bytes below works on stretches of 16 bytes; codes are laid out so
  // that the words come out in order.
  void at(const uint8_t* codes) {
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    code = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(codes));
    const __mmask64 upper = _mm512_movepi8_mask(code);
    const __mmask64 odd = _mm512_test_epi8_mask(code, _mm512_set1_epi8(64));
    quarter[0] = odd & ~upper;
    quarter[1] = upper & ~odd;
    quarter[2] = upper & odd;
  }
  __m512i bytes(const uint8_t* plane) const {
    __m512i x = _mm512_permutexvar_epi8(code, _mm512_loadu_si512(plane));
    x = _mm512_mask_permutexvar_epi8(x, quarter[0], code, _mm512_loadu_si512(plane + 64));
    x = _mm512_mask_permutexvar_epi8(x, quarter[1], code, _mm512_loadu_si512(plane + 128));
    return _mm512_mask_permutexvar_epi8(x, quarter[2], code, _mm512_loadu_si512(plane + 192));
  }
  // 64 distances of the products from the table's least.
  void words(const uint8_t* planes, __m512i out[2]) const {
    const __m512i low = bytes(planes), high = bytes(planes + 256);
    out[0] = _mm512_unpacklo_epi8(low, high);
    out[1] = _mm512_unpackhi_epi8(low, high);
  }
};

#endif

// 32-bit products of one row and all lanes, looked up.
struct Entries {
  Vec<int32_t> code[4];
#if defined(__AVX512VBMI__)
  Look look;
#endif

  void at(const dv::Stream& s, int64_t k) {
    const uint8_t* codes = s.lanes + s.lane_offset[k];
#if defined(__AVX512VBMI__)
    if (s.by_row_planes)
      return look.at(codes);
#endif
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
      code[v] = extended<int32_t, WIDTH<int32_t>>(codes + v * WIDTH<int32_t>) & 255;
  }

  void of(const dv::Stream& s, int32_t row, Vec<int32_t> out[4]) const {
#if defined(__AVX512VBMI__)
    if (s.by_row_planes) {
      __m512i words[2];
      look.words(s.by_row_planes + 512 * row, words);
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        out[2 * i] =
            (Vec<int32_t>)_mm512_cvtepu16_epi32(_mm512_castsi512_si256(words[i])) + s.least;
        out[2 * i + 1] =
            (Vec<int32_t>)_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(words[i], 1)) + s.least;
      }
      return;
    }
#endif
    const int32_t* entry = s.by_row + 256 * row;
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
#if defined(__AVX512F__)
      out[v] = (Vec<int32_t>)_mm512_i32gather_epi32((__m512i)code[v], entry, 4);
#elif defined(__AVX2__)
      out[v] = (Vec<int32_t>)_mm256_i32gather_epi32(entry, (__m256i)code[v], 4);
#else
      for (int i = 0; i < WIDTH<int32_t>; i++)
        out[v][i] = entry[code[v][i]];
#endif
    }
  }
};

template <typename T> struct Product<T, dv::TABLE> {
  using Row = int32_t;
  static constexpr int N = WIDTH<T>, PARTS = (int)sizeof(T) / 4; // of a vector of 32-bit numbers
  Entries entries;

  void at(const dv::Stream& s, int64_t k) { entries.at(s, k); }
  template <dv::Adder KIND> void meet(const dv::Stream& s, const int32_t& row, Vec<T>* sums) const {
    Vec<int32_t> words[4];
    entries.of(s, row, words);
#pragma GCC unroll 8
    for (int v = 0; v < LANE_VECTORS<T>; v++) {
      Vec<int32_t, N> part;
      memcpy(&part, (const char*)&words[v / PARTS] + v % PARTS * sizeof part, sizeof part);
      sums[v] = Add<T, KIND>::sum(s.into, sums[v], converted<T, int32_t, N>(part));
    }
  }
};

#if defined(__AVX512VBMI__)

template <> struct Product<int16_t, dv::TABLE> {
  using Row = int32_t;
  Look look;

  void at(const dv::Stream& s, int64_t k) { look.at(s.lanes + s.lane_offset[k]); }
  template <dv::Adder KIND>
  void meet(const dv::Stream& s, const int32_t& row, Vec<int16_t>* sums) const {
    __m512i words[2];
    look.words(s.by_row_planes + 512 * row, words);
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++)
      sums[v] = Add<int16_t, KIND>::sum(
          s.into, sums[v],
          modular<int16_t>((Vec<int16_t>)words[v], (int16_t)s.least - Vec<int16_t>{}));
  }
};

#endif

template <typename T, dv::Source FROM, dv::Adder KIND, int ROWS>
inline void steps_of(const dv::Stream& steps, int64_t first, int64_t last, T* sums) {
  constexpr int VECTORS = LANE_VECTORS<T>;
  const dv::Stream s = steps; // a copy: stores to `sums` cannot change it
  using From = Product<T, FROM>;
  Vec<T> held[ROWS][VECTORS];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; v++)
      held[r][v] = load<Vec<T>>(sums + r * LANES + v * WIDTH<T>);
  for (int64_t k = first; k < last; k++) {
    const typename From::Row* row =
        static_cast<const typename From::Row*>(s.rows) + k * TILE_ROWS<T>;
    From from;
    from.at(s, k);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
      from.template meet<KIND>(s, row[r], held[r]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; v++)
      store(sums + r * LANES + v * WIDTH<T>, held[r][v]);
}

template <typename T, dv::Source FROM, dv::Adder KIND>
void steps(const dv::Stream& s, int64_t first, int64_t last, int64_t rows, void* sums) {
  if (rows == 1)
    steps_of<T, FROM, KIND, 1>(s, first, last, static_cast<T*>(sums));
  else
    steps_of<T, FROM, KIND, TILE_ROWS<T>>(s, first, last, static_cast<T*>(sums));
}

} // namespace
