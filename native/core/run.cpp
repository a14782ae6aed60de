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

} // namespace
} // namespace dv

int32_t dv_run(const dv_shape* shape, const dv_multiplier* multiplier, const void* packed,
               const dv_input* input, const dv_output* output) {
  using namespace dv;
  if (!valid(*shape))
    return DV_BAD_SHAPE;
  const Layout l(*shape);
  if (!multiplier->table || !complete(*shape, *multiplier))
    return DV_BAD_VALUE;
  if (shape->batch == 0)
    return DV_OK;
  const int64_t part = part_size(l);
  const int32_t* sums = static_cast<const int32_t*>(packed);
  std::vector<int32_t> correction((size_t)shape->outputs);
  for (int64_t n = 0; n < shape->outputs; n++) {
    const uint32_t zero_term = (uint32_t)output->zero_point * (uint32_t)sums[n];
    correction[(size_t)n] =
        (int32_t)((uint32_t)sums[shape->outputs + n] + (output->fused ? zero_term : 0u));
  }
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
    const Part work{l,
                    *multiplier,
                    static_cast<const uint8_t*>(packed),
                    image,
                    runs,
                    emit,
                    (uint8_t)(input->kind == 0 ? input->zero_point : input->pad)};
    if (l.by_factors && !shape->lookups)
      work.dot();
    else if (!(l.by_factors ? work.dot_and_look_up() : work.table()))
      return DV_NO_MEMORY;
  }
  return DV_OK;
}
