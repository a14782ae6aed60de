// One tile of outputs on its way through the register.
#pragma once
#include "core/rounder.h"
#include "dovetail_accumulate.h"
#include "kernels/accumulate.h"

namespace dv {

const AccumulateKernels& accumulate_kernels();

// How the terms of an op are formed and added at the level in use.
struct Way {
  Lane term, sum; // what terms and registers are held in
  Adder adder;
  bool fused; // products go into the register without being terms first
  bool cast;  // each sum is rounded once more, to the format

  // False if the level offers none that is exact.
  bool choose(const AccumulateKernels&, const dv_products&, const dv_accumulator&, int64_t depth,
              bool counting);
  Lane operands() const { return fused ? sum : term; } // what products are formed in
};

class Tile {
public:
  Tile(const AccumulateKernels&, const Way&, const dv_products&, const dv_accumulator&,
       int64_t depth);

  // Of working memory, beside the rows' operands.
  int64_t bytes() const { return (FIRST + slots_) * slot_bytes(); }

  // What the registers of `rows` rows hold in the end, in lanes of way.sum, in `memory`. `count`
  // (null: not counted) gets the overflows.
  const void* total(const Stream&, int64_t rows, uint8_t* memory, int32_t* count);

private:
  enum Slot : int64_t { TOTAL, RUN, TERM, WIDE, FIRST };

  int64_t slot_bytes() const { return k_.rows[I16] * k_.lanes * 8; }
  uint8_t* slot(int64_t i) const { return memory_ + i * slot_bytes(); }
  void zero(Lane, void*, bool negative) const;
  void term(int64_t i, void* out) const;
  void add(const void* a, const void* b, void* out) const;
  void sequence(int64_t first, int64_t last, void* out) const;
  void tree();

  const AccumulateKernels& k_;
  const Way& way_;
  const dv_products& products_;
  const dv_accumulator& acc_;
  Rounder<double> rounder_;
  int64_t depth_, terms_, slots_;
  const Stream* steps_ = nullptr;
  int64_t rows_ = 0, n_ = 0;
  uint8_t* memory_ = nullptr;
  int32_t* count_ = nullptr;
};

} // namespace dv
