// One addition, by vectors: what enters a register and what it then holds.
#pragma once
#include "kernels/accumulate.h"
#include "kernels/vectors.h"

namespace {

template <typename T> struct Bits;
template <> struct Bits<int16_t> {
  using Unsigned = uint16_t;
};
template <> struct Bits<int32_t> {
  using Unsigned = uint32_t;
};
template <> struct Bits<int64_t> {
  using Unsigned = uint64_t;
};
template <> struct Bits<float> {
  using Unsigned = uint32_t;
};
template <> struct Bits<double> {
  using Unsigned = uint64_t;
};

template <typename T> using Whole = Vec<typename Bits<T>::Unsigned>;

// The sum modulo the lanes' width.
template <typename T> inline Vec<T> modular(const Vec<T>& a, const Vec<T>& b) {
  return (Vec<T>)((Whole<T>)a + (Whole<T>)b);
}

template <typename T> inline Vec<T> times_power(const Vec<T>& a, int shift) {
  return (Vec<T>)((Whole<T>)a << shift);
}

// The low `bits` bits, sign extended.
template <typename T> inline Vec<T> reduced(const Vec<T>& a, int32_t bits) {
  const int spare = 8 * (int)sizeof(T) - bits;
  return times_power<T>(a, spare) >> spare;
}

template <typename T, dv::Adder KIND> struct Add;

template <typename T> struct Add<T, dv::PLAIN> {
  static Vec<T> sum(const dv::Register&, const Vec<T>& s, const Vec<T>& t) { return s + t; }
};

// 16- and 32-bit lanes: the caller guarantees that the exact sum fits them, or, of 16-bit lanes,
// that it saturates first to what they hold, which the clamp to less then does not notice.
template <typename T> struct Add<T, dv::SATURATE> {
  static Vec<T> sum(const dv::Register& r, const Vec<T>& s, const Vec<T>& t) {
    const T least = (T)r.least, most = (T)r.most;
    const Vec<T> low = least - Vec<T>{}, high = most - Vec<T>{};
    Vec<T> total;
    if constexpr (sizeof(T) == 2) {
      total = Add<T, dv::SATURATE_WORD>::sum(r, s, t);
    } else {
      total = modular<T>(s, t);
      if constexpr (sizeof(T) == 8)
        total = ((s ^ total) & (t ^ total)) < 0 ? (s < 0 ? low : high) : total;
    }
    total = total > low ? total : low;
    return total < high ? total : high;
  }
};

template <> struct Add<int16_t, dv::SATURATE_WORD> {
  static Vec<int16_t> sum(const dv::Register&, const Vec<int16_t>& s, const Vec<int16_t>& t) {
#if defined(__SSE2__)
    return (Vec<int16_t>)DV_NATIVE(adds, epi16)((NativeInt)s, (NativeInt)t);
#else
    const Vec<int16_t> total = modular<int16_t>(s, t), bound = (s >> 15) ^ 0x7fff;
    return ((s ^ total) & (t ^ total)) < 0 ? bound : total;
#endif
  }
};

template <typename T> struct Add<T, dv::WRAP> {
  static Vec<T> sum(const dv::Register& r, const Vec<T>& s, const Vec<T>& t) {
    return reduced<T>(modular<T>(s, t), r.bits);
  }
};

// The approximate adders: see dovetail/accumulators/adders.py.
template <typename T> struct Add<T, dv::LOA> {
  static Vec<T> sum(const dv::Register& r, const Vec<T>& s, const Vec<T>& t) {
    const Vec<T> a = reduced<T>(s, r.bits), b = reduced<T>(t, r.bits);
    const T mask = ((T)1 << r.low) - 1;
    const Vec<T> carry = ((a & b) >> (r.low - 1)) & (T)1;
    const Vec<T> high = modular<T>(modular<T>(a >> r.low, b >> r.low), carry);
    return reduced<T>(times_power<T>(high, r.low) | ((a | b) & mask), r.bits);
  }
};

template <typename T> struct Add<T, dv::TRUNCATED> {
  static Vec<T> sum(const dv::Register& r, const Vec<T>& s, const Vec<T>& t) {
    const Vec<T> a = reduced<T>(s, r.bits), b = reduced<T>(t, r.bits);
    return reduced<T>(times_power<T>(modular<T>(a >> r.low, b >> r.low), r.low), r.bits);
  }
};

template <typename T> struct Add<T, dv::ETA> {
  static Vec<T> sum(const dv::Register& r, const Vec<T>& s, const Vec<T>& t) {
    const Vec<T> a = reduced<T>(s, r.bits), b = reduced<T>(t, r.bits);
    const T mask = ((T)1 << r.low) - 1;
    Vec<T> both = a & b & mask;
#pragma GCC unroll 6
    for (int step = 1; step < 8 * (int)sizeof(T); step *= 2)
      both |= both >> step;
    const Vec<T> high = times_power<T>(modular<T>(a >> r.low, b >> r.low), r.low);
    return reduced<T>(high | (((a ^ b) | both) & mask), r.bits);
  }
};

// Knuth's two-sum gives the error of a sum. Where there is one and the sum's last bit is even, the
// odd neighbour lies on the error's side. Infinities leave NaN for an error, which is not one.
template <typename T> struct Add<T, dv::ODD> {
  static Vec<T> sum(const dv::Register&, const Vec<T>& s, const Vec<T>& t) {
    const Vec<T> total = s + t, shadow = total - s;
    const Vec<T> error = (s - (total - shadow)) + (t - shadow);
    const Whole<T> bits = as<Whole<T>>(total);
    const Whole<T> up = (Whole<T>)(error > 0), down = (Whole<T>)(error < 0);
    const Whole<T> positive = (Whole<T>)(total > 0);
    // All bits of `outward` or of neither: +1 or -1, where the last bit is even.
    const Whole<T> outward = (up & positive) | (down & ~positive);
    const Whole<T> even = (up | down) & ((bits & 1) - 1);
    return as<Vec<T>>(bits + ((even & outward & 1) | (even & ~outward)));
  }
};

#if defined(__F16C__)

inline Vec<float> to_half(const Vec<float>& x) {
#if defined(__AVX512F__)
  return (Vec<float>)_mm512_cvtph_ps(_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
#else
  return (Vec<float>)_mm256_cvtph_ps(_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
#endif
}

template <> struct Add<float, dv::HALF> {
  static Vec<float> sum(const dv::Register&, const Vec<float>& s, const Vec<float>& t) {
    return to_half(s + t);
  }
};

#endif

#if defined(__AVX512F__)

// a * b + s rounded to odd: towards zero, and the last bit set if that was not exact.
inline __m512 odd_fma(__m512 a, __m512 b, __m512 s) {
  constexpr int QUIET = _MM_FROUND_NO_EXC;
  const __m512 down = _mm512_fmadd_round_ps(a, b, s, _MM_FROUND_TO_NEG_INF | QUIET);
  const __m512 up = _mm512_fmadd_round_ps(a, b, s, _MM_FROUND_TO_POS_INF | QUIET);
  const __m512i cut =
      _mm512_castps_si512(_mm512_fmadd_round_ps(a, b, s, _MM_FROUND_TO_ZERO | QUIET));
  const __mmask16 inexact = _mm512_cmp_ps_mask(down, up, _CMP_LT_OQ);
  return _mm512_castsi512_ps(_mm512_mask_or_epi32(cut, inexact, cut, _mm512_set1_epi32(1)));
}

inline __m512 to_brain(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i kept = _mm512_and_si512(up, _mm512_set1_epi32((int)0xffff0000u));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(kept, nan, _mm512_set1_epi32(0x7fc00000)));
}

template <> struct Add<float, dv::HALF_ODD> {
  static Vec<float> product_sum(const Vec<float>& s, const Vec<float>& a, const Vec<float>& b) {
    return to_half((Vec<float>)odd_fma((__m512)a, (__m512)b, (__m512)s));
  }
  static Vec<float> sum(const dv::Register&, const Vec<float>& s, const Vec<float>& t) {
    return product_sum(s, t, 1.0f - Vec<float>{});
  }
};

template <> struct Add<float, dv::BRAIN_ODD> {
  static Vec<float> product_sum(const Vec<float>& s, const Vec<float>& a, const Vec<float>& b) {
    return (Vec<float>)to_brain(odd_fma((__m512)a, (__m512)b, (__m512)s));
  }
  static Vec<float> sum(const dv::Register&, const Vec<float>& s, const Vec<float>& t) {
    return product_sum(s, t, 1.0f - Vec<float>{});
  }
};

#endif

// s + a * b. Floating-point products are exact in the lanes' type, or fused into the sum.
template <typename T, dv::Adder KIND>
inline Vec<T> add_product(const dv::Register& r, const Vec<T>& s, const Vec<T>& a,
                          const Vec<T>& b) {
  if constexpr (KIND == dv::HALF_ODD || KIND == dv::BRAIN_ODD) {
    (void)r;
    return Add<T, KIND>::product_sum(s, a, b);
  } else {
#if defined(__FMA__)
    if constexpr (KIND == dv::PLAIN && sizeof(T) == 4)
      return (Vec<T>)DV_NATIVE(fmadd, ps)((NativeFloat)a, (NativeFloat)b, (NativeFloat)s);
#endif
    return Add<T, KIND>::sum(r, s, a * b);
  }
}

} // namespace
