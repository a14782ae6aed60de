// Casts of single values: floating and fixed point, posits, and formats given by tables.
#include "core/plane.h"
#include "core/search_tree.h"
#include "core/watch.h"

namespace dv {

namespace {

// Every stretch of the tensor through round(x, at, n, out), which may take it where it lies.
template <typename Float, typename Round> void cast_each(const dv_tensor& t, Round&& round) {
  const Plane<Float> plane(t);
  const Watch<Float> watch(t);
  stretches(t.outer * t.length * t.inner, [&](int64_t at, int64_t n) {
    Float buffer[CHUNK];
    plane.prefetch(at + AHEAD, n);
    Float* out = plane.target(at, buffer);
    const Float* x = plane.load(at, n, buffer);
    if (watch)
      watch.note(x, at, n);
    round(x, at, n, out);
    plane.store(at, n, out, false);
  });
}

template <typename Float> void cast_element(const dv_tensor& t, const dv_element& e) {
  const Rounder<Float> rounder(e);
  cast_each<Float>(t, [&](const Float* x, int64_t at, int64_t n, Float* out) {
    uint32_t words[CHUNK + 8];
    rounder.element(x, n, random_words(t, e.mode, at, n, words), out);
  });
}

int32_t bits_of_float(double x) { return bits_of((float)x); }

} // namespace
} // namespace dv

using namespace dv;

int32_t dv_cast_element(const dv_tensor* t, const dv_element* e) {
  if (!valid(*t))
    return DV_BAD_SHAPE;
  if (!valid(*e))
    return DV_BAD_VALUE;
  if (t->dtype == DV_FLOAT64 || !fits_float(*e))
    cast_element<double>(*t, *e);
  else
    cast_element<float>(*t, *e);
  return DV_OK;
}

int32_t dv_cast_posit(const dv_tensor* t, const dv_posit* p) {
  if (!valid(*t) || t->dtype == DV_FLOAT64)
    return DV_BAD_SHAPE;
  if (p->width < 3 || p->width > 16 || p->es < 0 || p->es > 3 || p->mode < 0 ||
      p->mode >= DV_STOCHASTIC)
    return DV_BAD_VALUE;
  const int32_t largest = (p->width - 2) << p->es; // an exponent of at most 112
  const Posit posit = {p->width, p->es, (127 - largest) << 23, (127 + largest) << 23};
  cast_each<float>(*t, [&](const float* x, int64_t, int64_t n, float* out) {
    casts().posit[p->mode](x, n, posit, out);
  });
  return DV_OK;
}

int32_t dv_cast_octaves(const dv_tensor* t, const dv_octaves* o) {
  if (!valid(*t) || t->dtype == DV_FLOAT64)
    return DV_BAD_SHAPE;
  if (o->bits < 3 || o->bits > 12 || !(o->least > 0) || !(o->min >= o->least) || !(o->max > o->min))
    return DV_BAD_VALUE;
  const Octaves octaves = {o->threshold,
                           o->below,
                           o->above,
                           o->bits,
                           bits_of_float(o->least),
                           bits_of_float(o->min),
                           bits_of_float(o->max),
                           o->is_signed ? -1 : 0};
  cast_each<float>(*t, [&](const float* x, int64_t, int64_t n, float* out) {
    casts().octaves(x, n, octaves, out);
  });
  return DV_OK;
}

int32_t dv_cast_steps(const dv_tensor* t, const dv_steps* s) {
  if (!valid(*t) || t->dtype == DV_FLOAT64)
    return DV_BAD_SHAPE;
  if (!valid(*s))
    return DV_BAD_VALUE;
  const SearchTree tree(*s);
  cast_each<float>(*t, [&](const float* x, int64_t, int64_t n, float* out) {
    casts().steps(x, n, tree.steps, out);
  });
  return DV_OK;
}
