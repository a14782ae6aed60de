// Convolutions of one channel per group.
#pragma once
#include "core/layout.h"

namespace dv {

// Whether the whole op is best done plane by plane.
bool by_planes(const Layout& layout, const dv_multiplier& multiplier);

// Does it; false when memory ran out. `correction` is taken off every sum of a channel.
bool run_planes(const Layout& layout, const dv_multiplier& multiplier, const uint8_t* packed,
                const dv_input& input, const dv_output& output, const int32_t* correction);

} // namespace dv
