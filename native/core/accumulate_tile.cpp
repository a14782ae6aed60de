#include "core/accumulate.h"
#include "core/dispatch.h"

#include <algorithm>
#include <string.h>

namespace dv {

DV_LEVELS(AccumulateKernels, accumulate_kernels);

const AccumulateKernels& accumulate_kernels() { return *accumulate_kernels_levels[level()]; }

namespace {

int64_t term_length(const dv_accumulator& acc) { return acc.chunk ? acc.chunk : 1; }

Adder integer_adder(int32_t kind) {
  switch (kind) {
  case DV_WRAP:
    return WRAP;
  case DV_LOA:
    return LOA;
  case DV_TRUNCATED:
    return TRUNCATED;
  case DV_ETA:
    return ETA;
  default:
    return SATURATE;
  }
}

} // namespace

bool Way::choose(const AccumulateKernels& k, const dv_products& products, const dv_accumulator& acc,
                 int64_t depth, bool counting) {
  const bool values = products.source == DV_VALUES, single = acc.chunk == 0;
  const int64_t length = std::min(term_length(acc), depth);
  if (!values && products.bound > INT64_C(0x3fffffffffffffff) / length)
    return false;
  const int64_t most = values ? 0 : products.bound * length; // of a term
  const auto& steps = k.steps[products.source];
  cast = false;
  term = values ? F64 : most <= INT32_MAX ? I32 : I64;
  if (acc.kind != DV_FLOATING) {
    if (values)
      return false;
    adder = integer_adder(acc.kind);
    const int64_t held = acc.bits > 62 ? INT64_MAX / 2 : INT64_C(1) << (acc.bits - 1);
    const bool words = acc.kind == DV_SATURATE
                           ? most + (most > held ? most : held) <= INT32_MAX
                           : acc.kind != DV_WRAP && acc.bits <= 32 && most <= INT32_MAX;
    sum = words && !counting ? I32 : I64;
    // Products that fit 16 bits, in a register that does: what saturates to 16 bits first clamps
    // to the same.
    const Adder half = acc.bits == 16 ? SATURATE_WORD : SATURATE;
    if (acc.kind == DV_SATURATE && !counting && single && acc.order != DV_TREE && acc.bits <= 16 &&
        most <= INT16_MAX && steps[I16][half]) {
      sum = I16;
      adder = half;
    }
  } else {
    // Sums of integers that stay below 2^24 in magnitude are float32 numbers: those that a float16
    // holds with any term of at most 2^23. A float32 or bfloat16 register rounds what it gets.
    const Adder known[] = {ADDERS, PLAIN, values ? HALF_ODD : HALF, BRAIN_ODD};
    sum = F32;
    adder = known[acc.known];
    const bool narrow = values ? single && acc.order != DV_TREE : most <= 1 << 23;
    if (counting || adder == ADDERS || !narrow || !k.add[F32][adder] ||
        (values && !steps[F32][adder])) {
      if (most >= INT64_C(1) << 53)
        return false;
      sum = F64;
      adder = ODD;
      cast = true;
    }
  }
  fused = single && !counting && acc.order != DV_TREE && steps[sum][adder];
  return k.add[sum][adder] &&
         (fused || (steps[term][PLAIN] && (term == sum || k.convert[term][sum])));
}

Tile::Tile(const AccumulateKernels& k, const Way& way, const dv_products& products,
           const dv_accumulator& acc, int64_t depth)
    : k_(k), way_(way), products_(products), acc_(acc), rounder_(acc.format), depth_(depth),
      terms_((depth + term_length(acc) - 1) / term_length(acc)), slots_(1) {
  for (int64_t terms = terms_; acc.order == DV_TREE && terms; terms /= 2)
    slots_++;
}

void Tile::zero(Lane lane, void* out, bool negative) const {
  static const int64_t size[] = {2, 4, 8, 4, 8};
  memset(out, 0, (size_t)(n_ * size[lane]));
  for (int64_t i = 0; negative && lane == F64 && i < n_; i++)
    static_cast<double*>(out)[i] = -0.0;
}

// A sum of one product is that product, also if it is -0; that of a chunk starts from zero.
void Tile::term(int64_t i, void* out) const {
  const int64_t length = term_length(acc_);
  void* wide = way_.term == way_.sum ? out : slot(WIDE);
  zero(way_.term, wide, acc_.chunk == 0);
  k_.steps[products_.source][way_.term][PLAIN](*steps_, i * length,
                                               std::min((i + 1) * length, depth_), rows_, wide);
  if (wide != out)
    k_.convert[way_.term][way_.sum](wide, n_, out);
}

void Tile::add(const void* a, const void* b, void* out) const {
  if (count_)
    k_.exceeds[way_.sum](steps_->into, a, b, n_, count_);
  k_.add[way_.sum][way_.adder](steps_->into, a, b, n_, out);
  if (way_.cast)
    rounder_.element(static_cast<double*>(out), n_, nullptr, static_cast<double*>(out));
}

void Tile::sequence(int64_t first, int64_t last, void* out) const {
  zero(way_.sum, out, false);
  if (way_.fused) {
    k_.steps[products_.source][way_.sum][way_.adder](*steps_, first, last, rows_, out);
    return;
  }
  for (int64_t i = first; i < last; i++) {
    term(i, slot(TERM));
    add(out, slot(TERM), out);
  }
}

// Complete subtrees wait for a neighbour of their size; the rest is joined from the end.
void Tile::tree() {
  int64_t size[64], waiting = 0;
  const auto join = [&] { // the last two
    waiting--;
    add(slot(FIRST + waiting - 1), slot(FIRST + waiting), slot(FIRST + waiting - 1));
  };
  for (int64_t i = 0; i < terms_; i++) {
    term(i, slot(FIRST + waiting));
    size[waiting++] = 1;
    while (waiting > 1 && size[waiting - 2] == size[waiting - 1]) {
      join();
      size[waiting - 1] *= 2;
    }
  }
  while (waiting > 1)
    join();
  if (terms_ == 1) {
    zero(way_.sum, slot(TERM), false);
    add(slot(TERM), slot(FIRST), slot(TOTAL));
  } else {
    memcpy(slot(TOTAL), slot(FIRST), (size_t)slot_bytes());
  }
}

const void* Tile::total(const Stream& steps, int64_t rows, uint8_t* memory, int32_t* count) {
  steps_ = &steps;
  rows_ = rows;
  n_ = rows * k_.lanes;
  memory_ = memory;
  count_ = count;
  if (acc_.order == DV_TREE) {
    tree();
  } else if (acc_.order == DV_RUNS) {
    zero(way_.sum, slot(TOTAL), false);
    for (int64_t first = 0; first < terms_; first += acc_.run) {
      sequence(first, std::min(first + acc_.run, terms_), slot(RUN));
      add(slot(TOTAL), slot(RUN), slot(TOTAL));
    }
  } else {
    sequence(0, terms_, slot(TOTAL));
  }
  return slot(TOTAL);
}

} // namespace dv
