// One op: the batch in parts that fit the cache, each part prepared, multiplied and written.
#include "core/depthwise.h"
#include "core/dispatch.h"
#include "core/part.h"
#include "core/scratch.h"
#include "core/threads.h"

#include <algorithm>

namespace dv {

namespace {

thread_local Scratch memory;

// Images per part: the factored kernels want the image in the cache, row-add wants long codes.
int64_t part_size(const Layout& l) {
  const Image one(l, 1);
  const int64_t each = l.shape.linear ? l.quads * 4 + l.depth : one.bytes() + one.code_bytes();
  const int64_t room = l.by_factors ? thread_count() << 20 : int64_t(32) << 20;
  return std::min(l.shape.batch, std::max<int64_t>(l.shape.linear ? 256 : 1, room / each));
}

// Whether every product with this code is zero.
bool is_silent(const dv_multiplier& m, const dv_shape& s, uint8_t code) {
  for (int64_t w = 0; w < 256; w++) {
    uint32_t product = (uint32_t)m.constant[w];
    for (int64_t i = 0; i < s.lookups; i++)
      product += (uint32_t)m.step[i] * m.entry[(i * 256 + w) * 16 + m.classes[i * 256 + code]];
    for (int64_t r = 0; r < s.rank; r++) {
      const uint8_t g = m.first[r * 256 + code], h = m.second[r * 256 + w];
      product += (uint32_t)(m.second_unsigned ? (int8_t)g * h : g * (int8_t)h);
    }
    if (product)
      return false;
  }
  return true;
}

// The op without taps that read silent padding alone, where dot kernels do most of it.
dv_shape needed(const dv_shape& s, const dv_multiplier& m, uint8_t pad,
                std::array<int64_t, 3>& first) {
  const bool dots = s.rank > 0 && !s.linear && s.channels > s.groups;
  if (!dots)
    return s;
  const dv_shape left = without_idle_taps(s, first);
  if (std::equal(s.kernel, s.kernel + 3, left.kernel) || is_silent(m, s, pad))
    return left;
  first = {0, 0, 0};
  return s;
}

// What is taken off the sums of each output, besides what its zero point asks for.
std::vector<int32_t> corrections(const Layout& l, const int32_t* sums, const dv_output& output) {
  const int64_t outputs = l.shape.outputs;
  std::vector<int32_t> found((size_t)outputs);
  const int32_t *whole = sums + outputs, *by_tap = whole + outputs;
  for (int64_t n = 0; n < outputs; n++) {
    uint32_t value = output.fused ? (uint32_t)output.zero_point * (uint32_t)sums[n] : 0u;
    if (l.taps == l.weight_taps)
      value += (uint32_t)whole[n];
    else
      for (const int64_t tap : l.weight_tap)
        value += (uint32_t)by_tap[n * l.weight_taps + tap];
    found[(size_t)n] = (int32_t)value;
  }
  return found;
}

} // namespace
} // namespace dv

int32_t dv_run(const dv_shape* shape, const dv_multiplier* multiplier, const void* packed,
               const dv_input* input, const dv_output* output) {
  using namespace dv;
  if (!valid(*shape))
    return DV_BAD_SHAPE;
  if (!multiplier->table || !complete(*shape, *multiplier))
    return DV_BAD_VALUE;
  const uint8_t pad = (uint8_t)(input->kind == 0 ? input->zero_point : input->pad);
  std::array<int64_t, 3> first_tap = {0, 0, 0};
  const dv_shape left = needed(*shape, *multiplier, pad, first_tap);
  const Layout l(left, *shape, first_tap);
  if (shape->batch == 0)
    return DV_OK;
  const int64_t part = part_size(l);
  const std::vector<int32_t> correction =
      corrections(l, static_cast<const int32_t*>(packed), *output);
  if (by_planes(l, *multiplier))
    return run_planes(l, *multiplier, static_cast<const uint8_t*>(packed), *input, *output,
                      correction.data())
               ? DV_OK
               : DV_NO_MEMORY;

  std::vector<Run> runs;
  for (int64_t first = 0; first < shape->batch; first += part) {
    Image image(l, std::min(part, shape->batch - first));
    if (runs.empty() || image.batch != part)
      runs = l.runs(image.batch);
    uint8_t* buffer = memory.take(image.bytes() + image.code_bytes() + 64);
    if (!buffer)
      return DV_NO_MEMORY;
    image.data = buffer;
    image.codes = buffer + image.bytes();
    image.fill(*input, first, *multiplier);
    const Emitter emit{l, *output, correction.data(), first * l.out_pixels};
    const Part work{l, *multiplier, static_cast<const uint8_t*>(packed), image, runs, emit, pad};
    if (l.by_factors && !shape->lookups)
      work.dot();
    else if (!(l.by_factors ? work.dot_and_look_up() : work.table()))
      return DV_NO_MEMORY;
  }
  return DV_OK;
}
