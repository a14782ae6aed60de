// The loops of the casts. Compiled once per instruction-set level; DV_LEVEL names it (see
// CMakeLists.txt). Plain loops without branches: the compiler vectorises them at every level.
#include "kernels/casts.h"

#include "kernels/affine.h"
#include "kernels/convert.h"
#include "kernels/extremes.h"
#include "kernels/inside.h"
#include "kernels/largest.h"
#include "kernels/nearest.h"
#include "kernels/octaves.h"
#include "kernels/philox.h"
#include "kernels/posit.h"
#include "kernels/round.h"
#include "kernels/scales.h"
#include "kernels/steps.h"

#define DV_JOIN2(a, b) a##b
#define DV_JOIN(a, b) DV_JOIN2(a, b)
#define DV_STRING2(a) #a
#define DV_STRING(a) DV_STRING2(a)

namespace {

template <typename Float, typename Int, int MODE, int KIND>
void element(const Float* x, int64_t n, const uint32_t* random, const dv::Grid<Int>& grid,
             Float* out) {
  const dv::Grid<Int> g = grid; // a copy: stores to `out` cannot change it
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++) {
    const uint32_t word = MODE == DV_STOCHASTIC ? random[i] : 0;
    out[i] =
        float_of<Float, Int>(round_element<Float, MODE, KIND>(bits_of<Float, Int>(x[i]), word, g));
  }
}

template <typename Float, typename Int, int MODE, int KIND>
void scaled(const Float* x, const Int* exponent, int64_t n, const uint32_t* random,
            const dv::Grid<Int>& grid, Float* out) {
  const dv::Grid<Int> g = grid;
  DV_ELEMENTWISE
  for (int64_t i = 0; i < n; i++) {
    const uint32_t word = MODE == DV_STOCHASTIC ? random[i] : 0;
    out[i] = float_of<Float, Int>(
        round_scaled<Float, MODE, KIND>(bits_of<Float, Int>(x[i]), exponent[i], word, g));
  }
}

template <int MODE, int KIND>
inline float real_scaled_one(float v, float times, uint32_t word, const dv::Grid<int32_t>& g) {
  const int32_t r = round_element<float, MODE, KIND>(bits_of<float, int32_t>(v), word, g);
  return clamp_one(float_of<float, int32_t>(r) * times, FLT_MAX);
}

// Blocks with real scales: the quotient, its rounding and the product, three roundings in all.
template <int MODE, int KIND>
void real_scaled(const float* x, const float* by, const float* times, int64_t n, bool divide,
                 const uint32_t* random, const dv::Grid<int32_t>& grid, float* out) {
  const dv::Grid<int32_t> g = grid;
  if (divide) {
    DV_ELEMENTWISE
    for (int64_t i = 0; i < n; i++)
      out[i] = real_scaled_one<MODE, KIND>(x[i] / by[i], times[i],
                                           MODE == DV_STOCHASTIC ? random[i] : 0, g);
  } else {
    DV_ELEMENTWISE
    for (int64_t i = 0; i < n; i++)
      out[i] = real_scaled_one<MODE, KIND>(x[i] * by[i], times[i],
                                           MODE == DV_STOCHASTIC ? random[i] : 0, g);
  }
}

} // namespace

namespace dv {

#define DV_KINDS(f, F, I, mode) {f<F, I, mode, PLAIN>, f<F, I, mode, FIXED>, f<F, I, mode, RARE>}
#define DV_EVERY(f, F, I)                                                                          \
  {DV_KINDS(f, F, I, DV_TIES_TO_EVEN),    DV_KINDS(f, F, I, DV_TIES_TO_AWAY),                      \
   DV_KINDS(f, F, I, DV_TOWARD_ZERO),     DV_KINDS(f, F, I, DV_TOWARD_POSITIVE),                   \
   DV_KINDS(f, F, I, DV_TOWARD_NEGATIVE), DV_KINDS(f, F, I, DV_TO_ODD),                            \
   DV_KINDS(f, F, I, DV_STOCHASTIC)}
#define DV_FLOAT(F, I)                                                                             \
  {DV_EVERY(element, F, I),                                                                        \
   DV_EVERY(scaled, F, I),                                                                         \
   largest_of_runs<F, I>,                                                                          \
   largest_so_far<F, I>,                                                                           \
   exponents<F, I>,                                                                                \
   repeat<I>,                                                                                      \
   inside<F>,                                                                                      \
   tally<F>}

#define DV_REAL(mode) {real_scaled<mode, PLAIN>, real_scaled<mode, FIXED>, real_scaled<mode, RARE>}

// By form, in the order of Nearest::Form.
#define DV_FORMS(f) {f<Nearest::CLAMPED>, f<Nearest::OPEN>, f<Nearest::CUT>, f<Nearest::FIXED>}
#define DV_SCALED(f) {f<Nearest::CLAMPED>, nullptr, nullptr, f<Nearest::FIXED>}
#define DV_QUICK(f, form)                                                                          \
  {f<Nearest::form, MULTIPLIED>, f<Nearest::form, DIVIDED>, f<Nearest::form, MULTIPLIED_HELD>,     \
   f<Nearest::form, DIVIDED_HELD>}
#define DV_HELD(f, form)                                                                           \
  {nullptr, nullptr, f<Nearest::form, MULTIPLIED_HELD>, f<Nearest::form, DIVIDED_HELD>}
#define DV_REAL_FORMS(f)                                                                           \
  {DV_QUICK(f, CLAMPED), DV_HELD(f, OPEN), DV_HELD(f, CUT), DV_QUICK(f, FIXED)}

extern const Casts DV_JOIN(casts_, DV_LEVEL);
const Casts DV_JOIN(casts_, DV_LEVEL) = {
    DV_STRING(DV_LEVEL),
    LANES,
    DV_FORMS(nearest),
    DV_SCALED(nearest_scaled),
    DV_SCALED(nearest_runs),
    DV_REAL_FORMS(nearest_real),
    DV_REAL_FORMS(nearest_real_runs),
    {posit<DV_TIES_TO_EVEN>, posit<DV_TIES_TO_AWAY>, posit<DV_TOWARD_ZERO>,
     posit<DV_TOWARD_POSITIVE>, posit<DV_TOWARD_NEGATIVE>, posit<DV_TO_ODD>},
    octaves,
    DV_FLOAT(float, int32_t),
    DV_FLOAT(double, int64_t),
    {DV_REAL(DV_TIES_TO_EVEN), DV_REAL(DV_TIES_TO_AWAY), DV_REAL(DV_TOWARD_ZERO),
     DV_REAL(DV_TOWARD_POSITIVE), DV_REAL(DV_TOWARD_NEGATIVE), DV_REAL(DV_TO_ODD),
     DV_REAL(DV_STOCHASTIC)},
    repeat<float>,
    largest_finite,
    {ratios<false>, ratios<true>},
    {factors<false>, factors<true>},
    steps,
    {steps_real<DIVIDED>, steps_real<DIVIDED_HELD>},
    {steps_real_runs<DIVIDED>, steps_real_runs<DIVIDED_HELD>},
    {affine, affine_by<DV_TIES_TO_AWAY>, affine_by<DV_TOWARD_ZERO>, affine_by<DV_TOWARD_POSITIVE>,
     affine_by<DV_TOWARD_NEGATIVE>, affine_by<DV_TO_ODD>, affine_by<DV_STOCHASTIC>},
    affine_lookup,
    affine_limits,
    affine_ranges,
    extremes_of_runs,
    extremes_so_far,
    spans_of_runs,
    inside_real,
    inside_affine,
    philox,
    widen_half,
    widen_bfloat,
    narrow_half,
    narrow_bfloat,
    widen,
    narrow,
    clamp,
};

} // namespace dv
