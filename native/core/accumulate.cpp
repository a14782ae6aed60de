// Ops whose sums pass through a register: packing, laying out activations, and the tiles' loop.
//
// Everything lies as the table kernels read it (see layout.h): one plane per channel of the padded
// image, one plane of all outputs' weights per k. A tile broadcasts one side and takes the other
// by lanes.
#include "core/accumulate.h"
#include "core/accumulate_planes.h"

#include "core/dispatch.h"
#include "core/part.h"
#include "core/plane.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>
#include <atomic>
#include <string.h>

namespace dv {

namespace {

thread_local Scratch image_memory, tile_memory;

dv_shape unfactored(const dv_shape& shape) {
  dv_shape s = shape;
  s.rank = s.lookups = 0;
  return s;
}

// Rows of a tile: outputs, or pixels that are neighbours in the image.
struct RowTile {
  int64_t place, q, count;
};

// One op on some images.
class Work {
public:
  Work(const Layout& layout, const dv_products& products, const dv_accumulator& acc,
       const AccumulateKernels& k, const Way& way, const uint8_t* packed, const Planes& planes,
       const std::vector<Run>& runs, const dv_totals& out, const int32_t* correction,
       int64_t first_pixel)
      : l(layout), products_(products), acc_(acc), k_(k), way_(way), packed_(packed),
        planes_(planes), runs_(runs), out_(out), correction_(correction),
        zeros_((size_t)l.shape.outputs, 0), first_pixel_(first_pixel) {
    for (int64_t c = 0; c < l.group_channels; c++)
      for (int64_t t = 0; t < l.taps; t++) {
        pixels_.offset.push_back(c * planes.plane_bytes() +
                                 planes.image.taps[(size_t)t] * unit(products.source));
        weights_.offset.push_back((t * l.group_channels + c) * l.packed_outputs *
                                  unit(products.source));
      }
    pixels_.is_signed = products.first_signed;
    weights_.is_signed = products.second_signed;
    height_ = k.rows[way.operands()];
    span_ = runs.back().p + runs.back().length;
    outputs_are_lanes_ = choose_lanes();
    lane_count_ = outputs_are_lanes_ ? l.group_outputs : span_;
    list_rows();
  }

  bool run() const {
    const int64_t lane_blocks = blocks(lane_count_, k_.lanes), tiles = (int64_t)rows_.size();
    std::atomic<bool> enough{true};
    parallel(l.shape.groups * tiles * lane_blocks, [&](int64_t begin, int64_t end) {
      if (!some(begin, end, lane_blocks))
        enough = false;
    });
    return enough;
  }

private:
  // Time, in vectors of products: a tile that is not full takes as long as one that is, or, of one
  // row, as one row.
  bool choose_lanes() const {
    const auto up = [&](int64_t n) { return n == 1 ? 1 : blocks(n, height_) * height_; };
    int64_t tall = 0;
    for (const Run& run : runs_)
      tall += run.length / height_ * height_ + up(run.length % height_);
    const int64_t outputs = blocks(l.group_outputs, k_.lanes) * tall;
    const int64_t pixels = blocks(span_, k_.lanes) * up(l.group_outputs);
    return outputs < pixels || (outputs == pixels && l.shape.linear);
  }

  void list_rows() {
    if (!outputs_are_lanes_) {
      for (int64_t n = 0; n < l.group_outputs; n += height_)
        rows_.push_back({n, 0, std::min(height_, l.group_outputs - n)});
      return;
    }
    for (const Run& run : runs_)
      for (int64_t i = 0; i < run.length; i += height_)
        rows_.push_back({run.p + i, run.q + i, std::min(height_, run.length - i)});
  }

  // The tasks begin..end, of which neighbours share their rows.
  bool some(int64_t begin, int64_t end, int64_t lane_blocks) const {
    const ExactFloats exact;
    Tile tile(k_, way_, products_, acc_, l.depth);
    const int64_t operands = (l.depth * height_ * 8 + 63) / 64 * 64;
    uint8_t* memory = tile_memory.take(operands + tile.bytes());
    if (!memory)
      return false;
    const int64_t tiles = (int64_t)rows_.size();
    Stream steps;
    int64_t prepared = -1;
    for (int64_t task = begin; task < end; task++) {
      const int64_t g = task / lane_blocks / tiles, lane = task % lane_blocks * k_.lanes;
      const RowTile& row = rows_[(size_t)(task / lane_blocks % tiles)];
      const int64_t rows = row.count == 1 ? 1 : height_;
      const uint8_t* weights = packed_ + l.header() + g * weight_bytes();
      const uint8_t *image = planes_.group(g), *row_base = outputs_are_lanes_ ? image : weights;
      if (prepared != task / lane_blocks) {
        prepared = task / lane_blocks;
        broadcast(outputs_are_lanes_ ? pixels_ : weights_, row_base, row.place, rows, height_,
                  products_.source, way_.operands(), memory);
        steps = prepare(memory);
      }
      steps.lanes = (outputs_are_lanes_ ? weights : image) + lane * unit(products_.source);
      alignas(64) int32_t count[1024] = {};
      const void* total =
          tile.total(steps, rows, memory + operands, out_.overflows ? count : nullptr);
      emit(total, count, row, g * l.group_outputs, lane);
    }
    return true;
  }

  int64_t weight_bytes() const { return l.group_bytes * unit(products_.source); }

  Stream prepare(const void* rows) const {
    Stream s;
    memset(&s, 0, sizeof s);
    s.rows = rows;
    const Side& side = outputs_are_lanes_ ? weights_ : pixels_;
    s.lane_offset = side.offset.data();
    s.lane_mask = side.is_signed ? -1 : 255;
    if (products_.source == DV_LOOKUP) {
      const Table& t = *static_cast<const Table*>(products_.table);
      s.by_row = outputs_are_lanes_ ? t.row : t.col;
      s.by_row_planes = !t.narrow ? nullptr : outputs_are_lanes_ ? t.row_planes : t.col_planes;
      s.least = t.least;
    }
    const int64_t half = acc_.bits > 0 ? (int64_t)(UINT64_C(1) << (acc_.bits - 1)) : 0;
    s.into.least = acc_.bits == 64 ? INT64_MIN : -half;
    s.into.most = acc_.bits == 64 ? INT64_MAX : half - 1;
    s.into.bits = acc_.bits;
    s.into.low = acc_.low;
    s.into.min = acc_.min;
    s.into.max = acc_.max;
    return s;
  }

  void emit(const void* total, const int32_t* count, const RowTile& row, int64_t first_output,
            int64_t lane) const {
    const int64_t n = (row.count == 1 ? 1 : height_) * k_.lanes;
    alignas(64) int64_t wide[1024];
    alignas(64) int32_t half[1024], upper[1024];
    const int32_t* lower = static_cast<const int32_t*>(total);
    if (!out_.wide) {
      const Lane to = way_.sum == F64 ? F32 : I32;
      if (way_.sum != F32 && way_.sum != to) {
        k_.convert[way_.sum][to](total, n, half);
        lower = half;
      }
      place(out_.sums, correction_, lower, row, first_output, lane);
    } else {
      if (way_.sum == I32) {
        k_.convert[I32][I64](total, n, wide);
        total = wide;
      }
      for (int64_t i = 0; i < n; i++) {
        uint64_t word;
        memcpy(&word, static_cast<const uint8_t*>(total) + 8 * i, 8);
        half[i] = (int32_t)(uint32_t)word;
        upper[i] = (int32_t)(uint32_t)(word >> 32);
      }
      place(out_.sums, zeros_.data(), half, row, first_output, lane);
      place({out_.upper, 0, 0, nullptr, nullptr}, zeros_.data(), upper, row, first_output, lane);
    }
    if (out_.overflows)
      place({out_.overflows, 0, 0, nullptr, nullptr}, zeros_.data(), count, row, first_output,
            lane);
  }

  void place(const dv_output& output, const int32_t* correction, const int32_t* values,
             const RowTile& row, int64_t first_output, int64_t lane) const {
    const Emitter emit{l, output, correction, first_pixel_};
    const int64_t lanes = std::min(k_.lanes, lane_count_ - lane);
    if (outputs_are_lanes_)
      emit.pixel_rows(values, k_.lanes, row.q, row.count, first_output + lane, lanes);
    else
      emit.places(runs_, values, k_.lanes, first_output + row.place, row.count, lane, lanes);
  }

  const Layout& l;
  const dv_products& products_;
  const dv_accumulator& acc_;
  const AccumulateKernels& k_;
  const Way& way_;
  const uint8_t* packed_;
  const Planes& planes_;
  const std::vector<Run>& runs_;
  const dv_totals& out_;
  const int32_t* correction_;
  std::vector<int32_t> zeros_;
  int64_t first_pixel_, height_, span_, lane_count_;
  bool outputs_are_lanes_;
  Side pixels_, weights_;
  std::vector<RowTile> rows_;
};

// Images per part: their planes stay within the second cache of all threads.
int64_t part_size(const Planes& one) {
  const Layout& l = one.l;
  const int64_t least = l.shape.linear ? 256 : 1;
  return std::min(l.shape.batch, std::max(least, (thread_count() << 20) / one.bytes()));
}

bool sound(const dv_products& p, const dv_accumulator& a) {
  if (p.source < DV_CODES || p.source > DV_VALUES || (p.source == DV_LOOKUP && !p.table) ||
      p.bound < 0 || a.kind < DV_WRAP || a.kind > DV_FLOATING || a.order < DV_SEQUENTIAL ||
      a.order > DV_RUNS || a.chunk < 0 || (a.order == DV_RUNS && a.run < 1) || a.known < DV_OTHER ||
      a.known > DV_BRAIN)
    return false;
  if (a.kind == DV_FLOATING)
    return dv::valid(a.format) && a.format.mode != DV_STOCHASTIC;
  const bool adder = a.kind == DV_LOA || a.kind == DV_TRUNCATED || a.kind == DV_ETA;
  return a.bits >= 8 && a.bits <= 64 && (!adder || (a.low >= 1 && a.low < a.bits));
}

} // namespace
} // namespace dv

int64_t dv_accumulate_packed_bytes(const dv_shape* shape, int32_t source) {
  const dv_shape s = dv::unfactored(*shape);
  if (!dv::valid(s))
    return -1;
  const dv::Layout l(s);
  return l.header() + l.group_bytes * s.groups * dv::unit(source) + 64;
}

int32_t dv_accumulate_pack(const dv_shape* shape, const dv_products* products, const void* weights,
                           void* out) {
  using namespace dv;
  const dv_shape s = unfactored(*shape);
  if (!valid(s))
    return DV_BAD_SHAPE;
  const Layout l(s);
  uint8_t* planes = static_cast<uint8_t*>(out) + l.header();
  if (products->source != DV_VALUES) {
    const dv_multiplier none = {};
    const int32_t status = dv_pack(&s, &none, weights, products->second_signed, out);
    if (status == DV_OK && products->second)
      kernels().recode(planes, l.group_bytes * s.groups, products->second, planes);
    return status;
  }
  memset(out, 0, (size_t)dv_accumulate_packed_bytes(shape, DV_VALUES));
  float* packed = reinterpret_cast<float*>(planes);
  const float* from = static_cast<const float*>(weights);
  parallel(s.outputs, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      float* group = packed + n / l.group_outputs * l.group_bytes;
      for (int64_t c = 0; c < l.group_channels; c++)
        for (int64_t t = 0; t < l.taps; t++)
          group[(t * l.group_channels + c) * l.packed_outputs + n % l.group_outputs] =
              from[n * l.depth + c * l.taps + t];
    }
  });
  return DV_OK;
}

int32_t dv_accumulate_run(const dv_shape* shape, const dv_products* products,
                          const dv_accumulator* acc, const void* packed, const dv_input* input,
                          const dv_totals* out) {
  using namespace dv;
  const dv_shape s = unfactored(*shape);
  if (!valid(s))
    return DV_BAD_SHAPE;
  if (!sound(*products, *acc))
    return DV_BAD_VALUE;
  const Layout l(s);
  const AccumulateKernels& k = accumulate_kernels();
  Way way;
  if (!way.choose(k, *products, *acc, l.depth, out->overflows != nullptr))
    return DV_BAD_VALUE;
  const uint8_t* weights = static_cast<const uint8_t*>(packed);
  std::vector<int32_t> correction((size_t)s.outputs, 0);
  for (int64_t n = 0; out->sums.fused && n < s.outputs; n++)
    correction[(size_t)n] = (int32_t)((uint32_t)out->sums.zero_point *
                                      (uint32_t)reinterpret_cast<const int32_t*>(packed)[n]);
  if (s.batch == 0)
    return DV_OK;
  const int64_t part = part_size(Planes(l, *products, 1));
  for (int64_t first = 0; first < s.batch; first += part) {
    Planes planes(l, *products, std::min(part, s.batch - first));
    uint8_t* memory = image_memory.take(planes.bytes());
    if (!memory)
      return DV_NO_MEMORY;
    planes.fill(*input, first, memory);
    const std::vector<Run> runs = l.runs(planes.image.batch);
    const Work work(l, *products, *acc, k, way, weights, planes, runs, *out, correction.data(),
                    first * l.out_pixels);
    if (!work.run())
      return DV_NO_MEMORY;
  }
  return DV_OK;
}
