// Sums through a register, step by step. Compiled once per instruction-set level; DV_LEVEL names it
// (see CMakeLists.txt).
#include "kernels/accumulate.h"

#include "kernels/sources.h"

#define DV_JOIN2(a, b) a##b
#define DV_JOIN(a, b) DV_JOIN2(a, b)
#define DV_STRING2(a) #a
#define DV_STRING(a) DV_STRING2(a)

namespace {

template <typename T, dv::Adder KIND>
void add(const dv::Register& r, const void* a, const void* b, int64_t n, void* out) {
  const dv::Register into = r;
  for (int64_t i = 0; i < n * (int64_t)sizeof(T); i += VECTOR) {
    const Vec<T> x = load<Vec<T>>((const char*)a + i), y = load<Vec<T>>((const char*)b + i);
    store((char*)out + i, Add<T, KIND>::sum(into, x, y));
  }
}

void exceeds_int(const dv::Register& r, const void* a, const void* b, int64_t n, int32_t* count) {
  const int64_t *x = static_cast<const int64_t*>(a), *y = static_cast<const int64_t*>(b);
  for (int64_t i = 0; i < n; i++) {
    const int64_t total = (int64_t)((uint64_t)x[i] + (uint64_t)y[i]);
    const bool leaves = ((x[i] ^ total) & (y[i] ^ total)) < 0;
    count[i] += leaves | (total < r.least) | (total > r.most);
  }
}

void exceeds_float(const dv::Register& r, const void* a, const void* b, int64_t n, int32_t* count) {
  const double *x = static_cast<const double*>(a), *y = static_cast<const double*>(b);
  for (int64_t i = 0; i < n; i++) {
    const double total = x[i] + y[i];
    const bool finite = total - total == 0;
    count[i] += finite & ((total > r.max) | (total < r.min));
  }
}

template <typename From, typename To> void convert(const void* from, int64_t n, void* to) {
  const From* x = static_cast<const From*>(from);
  To* y = static_cast<To*>(to);
  for (int64_t i = 0; i < n; i++)
    y[i] = (To)x[i];
}

} // namespace

namespace dv {

namespace {

template <typename T, dv::Source FROM, dv::Adder... KINDS>
constexpr void offer_steps(AccumulateKernels& k, Lane lane) {
  ((k.steps[FROM][lane][KINDS] = steps<T, FROM, KINDS>), ...);
}

template <typename T, dv::Adder... KINDS>
constexpr void offer_adds(AccumulateKernels& k, Lane lane) {
  ((k.add[lane][KINDS] = add<T, KINDS>), ...);
}

// Known when compiled: nothing of a level may run before it is chosen.
constexpr AccumulateKernels made() {
  AccumulateKernels k{};
  k.name = DV_STRING(DV_LEVEL);
  k.lanes = LANES;
  k.rows[I16] = TILE_ROWS<int16_t>;
  k.rows[I32] = k.rows[F32] = TILE_ROWS<int32_t>;
  k.rows[I64] = k.rows[F64] = TILE_ROWS<int64_t>;

  offer_steps<int16_t, CODES, SATURATE, SATURATE_WORD>(k, I16);
  offer_steps<int32_t, CODES, PLAIN, SATURATE, LOA, TRUNCATED, ETA>(k, I32);
  offer_steps<int64_t, CODES, PLAIN, SATURATE>(k, I64);
  offer_steps<float, CODES, PLAIN>(k, F32);
  offer_steps<double, CODES, PLAIN>(k, F64);
  offer_steps<int32_t, TABLE, PLAIN, SATURATE, LOA, TRUNCATED, ETA>(k, I32);
  offer_steps<int64_t, TABLE, PLAIN, SATURATE>(k, I64);
  offer_steps<float, TABLE, PLAIN>(k, F32);
  offer_steps<double, TABLE, PLAIN>(k, F64);
  offer_steps<double, VALUES, PLAIN>(k, F64);

  offer_adds<int16_t, SATURATE, SATURATE_WORD>(k, I16);
  offer_adds<int32_t, PLAIN, SATURATE, LOA, TRUNCATED, ETA>(k, I32);
  offer_adds<int64_t, PLAIN, SATURATE, WRAP, LOA, TRUNCATED, ETA>(k, I64);
  offer_adds<float, PLAIN>(k, F32);
  offer_adds<double, PLAIN, ODD>(k, F64);

#if defined(__FMA__)
  offer_steps<float, VALUES, PLAIN>(k, F32);
#endif
#if defined(__F16C__)
  offer_steps<float, CODES, HALF>(k, F32);
  offer_steps<float, TABLE, HALF>(k, F32);
  offer_adds<float, HALF>(k, F32);
#endif
#if defined(__AVX512F__)
  offer_steps<float, CODES, BRAIN_ODD>(k, F32);
  offer_steps<float, TABLE, BRAIN_ODD>(k, F32);
  offer_steps<float, VALUES, HALF_ODD, BRAIN_ODD>(k, F32);
  offer_adds<float, HALF_ODD, BRAIN_ODD>(k, F32);
#endif
#if defined(__AVX512VBMI__)
  offer_steps<int16_t, TABLE, SATURATE, SATURATE_WORD>(k, I16);
#endif

  k.exceeds[I64] = exceeds_int;
  k.exceeds[F64] = exceeds_float;
  k.convert[I16][I32] = convert<int16_t, int32_t>;
  k.convert[I32][I64] = convert<int32_t, int64_t>;
  k.convert[I64][I32] = convert<int64_t, int32_t>;
  k.convert[I32][F32] = convert<int32_t, float>;
  k.convert[I32][F64] = convert<int32_t, double>;
  k.convert[I64][F64] = convert<int64_t, double>;
  k.convert[F64][F32] = convert<double, float>;
  return k;
}

} // namespace

extern const AccumulateKernels DV_JOIN(accumulate_kernels_, DV_LEVEL);
constexpr AccumulateKernels DV_JOIN(accumulate_kernels_, DV_LEVEL) = made();

} // namespace dv
